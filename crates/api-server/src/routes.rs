//! Every path: who asks, whether they may, and what is done.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::auth::{AUTHENTICATED, User};
use crate::decode;
use crate::delete::{DeleteOptions, Deleted};
use crate::discovery;
use crate::error::{ApiError, Subject};
use crate::health;
use crate::kubelet::Errand;
use crate::object;
use crate::open_api;
use crate::patch::PatchKind;
use crate::protobuf;
use crate::rbac::Access;
use crate::reply::{Answer, Reply};
use crate::request::{Method, Request, Target};
use crate::resource::ResourceType;
use crate::scale;
use crate::server::Shared;
use crate::state::State;
use crate::strategy::Door;
use crate::table::Form;
use crate::watch::Watch;
use crate::write::{Place, WriteOptions, Written, served};
use crate::yaml;

/// What watches are told in.
const STREAMS: &[&str] =
    &["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

pub(crate) fn handle(shared: &Arc<Shared>, request: &Request) -> Answer {
    let mut state = shared.state.lock();
    let user = authenticate(shared, &state, request).and_then(|user| state.impersonate(user, request));
    let answer = user.and_then(|user| match Target::parse(&request.path) {
        Some(target) => on_resource(shared, &mut state, request, &user, &target),
        None => on_path(shared, &state, request, &user).map(Answer::Reply),
    });
    match answer.unwrap_or_else(|error| Answer::Reply(Reply::error(&error))) {
        Answer::Reply(reply) => Answer::Reply(reply.preferred(&request.accept)),
        errand @ Answer::Errand(_) => errand,
    }
}

fn authenticate(shared: &Shared, state: &State, request: &Request) -> Result<User, ApiError> {
    let Some(header) = &request.authorization else {
        return Ok(if shared.settings.anonymous_is_admin { User::admin() } else { User::anonymous() });
    };
    let token = header.strip_prefix("Bearer ").map(str::trim).ok_or(ApiError::Unauthorized)?;
    let mut user = state.user_of(token).ok_or(ApiError::Unauthorized)?;
    if !user.groups.iter().any(|group| group == AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    Ok(user)
}

fn on_path(shared: &Shared, state: &State, request: &Request, user: &User) -> Result<Reply, ApiError> {
    let path = request.path.trim_end_matches('/');
    state.authorize_path(user, request.path_verb(), &request.path)?;
    let registry = &state.registry;
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if let Some(text) = health::answer(&parts, &request.query) {
        return Ok(Reply::text(200, &text));
    }
    let found = match parts.as_slice() {
        ["api" | "apis"] if discovery::aggregated_version(&request.accept).is_some() => {
            let version = discovery::aggregated_version(&request.accept).unwrap_or("v2");
            return Ok(Reply::Json {
                code: 200,
                media_type: discovery::media_type(version),
                body: discovery::aggregated(registry, parts == ["api"], version),
                warnings: Vec::new(),
                retry_after: None,
            });
        }
        ["api"] => Some(discovery::core_versions(&shared.address.to_string())),
        ["apis"] => Some(discovery::groups(registry)),
        ["api", version] => discovery::resources(registry, "", version),
        ["apis", group] => discovery::group(registry, group),
        ["apis", group, version] => discovery::resources(registry, group, version),
        ["version"] => Some(discovery::version()),
        [] => Some(discovery::paths(registry)),
        ["openapi", "v3"] => Some(open_api::index(registry)),
        ["openapi", "v3", "api", version] => open_api::document(registry, "", version),
        ["openapi", "v3", "apis", group, version] => open_api::document(registry, group, version),
        _ => None,
    };
    found.map(Reply::ok).ok_or(ApiError::UnknownPath)
}

fn on_resource(
    shared: &Arc<Shared>,
    state: &mut State,
    request: &Request,
    user: &User,
    target: &Target,
) -> Result<Answer, ApiError> {
    state.authorize(user, &access(request, target))?;
    let Some(resource) = state.registry.find(&target.group, &target.version, &target.resource) else {
        return Err(nothing_at(state, target));
    };
    check_scope(request, &resource, target)?;
    let form = Form::parse(&request.accept)?.including(&request.query);
    let Some(name) = &target.name else {
        let reply = on_collection(shared, state, request, user, (&resource, target, form))?;
        return Ok(Answer::Reply(reply));
    };
    let door = match target.subresource.as_deref() {
        None => Door::Main,
        Some("status") if resource.has_status => Door::Status,
        Some("finalize") if resource.is("", "namespaces") => Door::Main,
        Some("scale") if resource.scale.is_some() => Door::Scale,
        Some("token") if resource.is("", "serviceaccounts") => Door::Main,
        Some("binding" | "eviction" | "log" | "portforward") if resource.is("", "pods") => Door::Main,
        Some(_) if resource.is_custom() => return Err(ApiError::NotFound(Subject::of(&resource, name))),
        Some(_) => return Err(ApiError::UnknownResource),
    };
    let namespace = target.namespace.clone().filter(|_| resource.is_namespaced);
    let place = Place { resource: Arc::clone(&resource), namespace, name: name.clone(), door };
    match target.subresource.as_deref() {
        Some("log") => on_log(state, request, &place),
        Some("portforward") => on_port_forward(state, request, &place).map(Answer::Errand),
        Some("scale") => on_scale(state, request, user, &place).map(Answer::Reply),
        Some("token" | "binding" | "eviction") => on_deed(state, request, &place, target).map(Answer::Reply),
        _ => on_object(state, request, user, &place, form).map(Answer::Reply),
    }
}

/// Built-in types have a router of their own, which says so itself that there is no such type.
fn nothing_at(state: &State, target: &Target) -> ApiError {
    let types = state.registry.in_version(&target.group, &target.version);
    if types.iter().any(|one| !one.is_custom()) { ApiError::UnknownResource } else { ApiError::UnknownPath }
}

/// Objects with a namespace are in one, others are not; only lists and watches go through all.
fn check_scope(request: &Request, resource: &ResourceType, target: &Target) -> Result<(), ApiError> {
    let has_namespace = target.namespace.is_some() && !resource.is("", "namespaces");
    let is_right = match (resource.is_namespaced, has_namespace) {
        (false, has_namespace) => !has_namespace,
        (true, true) => true,
        (true, false) if resource.is_custom() => target.name.is_none() && request.method == Method::Get,
        (true, false) => target.name.is_none(),
    };
    match is_right {
        true => Ok(()),
        false if resource.is_custom() => Err(ApiError::UnknownPath),
        false => Err(ApiError::UnknownResource),
    }
}

/// Subresources to which something is posted, which nobody keeps.
fn on_deed(state: &mut State, request: &Request, place: &Place, target: &Target) -> Result<Reply, ApiError> {
    if request.method != Method::Post {
        return Err(ApiError::MethodNotAllowed);
    }
    if target.subresource.as_deref() == Some("token") {
        let body = match protobuf::decode_token_request(&request.body) {
            Some(body) => body,
            None => decode::parse(&request.body)?,
        };
        return Ok(Reply::json(201, state.request_token(place, body)?));
    }
    if target.subresource.as_deref() == Some("binding") {
        let is_dry = request.query.get("dryRun") == Some("All");
        return Ok(Reply::json(201, state.bind(place, &decode::parse(&request.body)?, is_dry)?));
    }
    let body = match protobuf::decode_eviction(&request.body) {
        Some(body) => body,
        None => decode::parse(&request.body)?,
    };
    let options = DeleteOptions::of(&body["deleteOptions"], &request.query)?;
    Ok(Reply::json(201, state.evict(place, &body, &options)?))
}

fn access(request: &Request, target: &Target) -> Access {
    let mut name = target.name.clone().unwrap_or_default();
    if name.is_empty() && request.method == Method::Get {
        // Lists and watches of one object are asked about by its name.
        let fields = request.query.text("fieldSelector");
        name = fields
            .split(',')
            .find_map(|term| term.strip_prefix("metadata.name="))
            .map(|name| name.trim_start_matches('=').to_owned())
            .unwrap_or_default();
    }
    Access {
        verb: request.verb(target).to_owned(),
        group: target.group.clone(),
        resource: target.resource.clone(),
        subresource: target.subresource.clone().unwrap_or_default(),
        namespace: target.namespace.clone().unwrap_or_default(),
        name,
    }
}

fn on_collection(
    shared: &Arc<Shared>,
    state: &mut State,
    request: &Request,
    user: &User,
    (resource, target, form): (&Arc<ResourceType>, &Target, Form),
) -> Result<Reply, ApiError> {
    let namespace = target.namespace.as_deref();
    match request.method {
        Method::Get if resource.is_review => Err(ApiError::MethodNotAllowed),
        Method::Get if request.query.flag("watch") && yaml::is_preferred(&request.accept) => {
            Err(ApiError::NotAcceptable { accepted: STREAMS })
        }
        Method::Get if request.query.flag("watch") => {
            let watch = Watch::start(shared, state, resource, namespace, request)?;
            Ok(Reply::Watch(Box::new(watch)))
        }
        Method::Get => {
            let page = state.list(resource, namespace, &request.query)?;
            Ok(Reply::ok(form.list(resource, &page)))
        }
        // An apply may still create. Since Kubernetes 1.34 it may not, and both are forbidden (403).
        Method::Post if resource.is_definition_terminating() => {
            Err(ApiError::DefinitionTerminating(Subject::of(resource, "")))
        }
        Method::Post => {
            let body = decode::body(resource, request.media_type(), &request.body)?;
            if resource.is_review {
                return Ok(Reply::json(201, state.review(resource, user, body)?));
            }
            let options = request.write_options(user)?;
            if resource.is_namespaced && namespace.is_none() {
                return Err(ApiError::MethodNotAllowed);
            }
            let place = Place {
                resource: Arc::clone(resource),
                namespace: namespace.map(str::to_owned),
                name: String::new(),
                door: Door::Main,
            };
            let written = state.create(place, body, &options)?;
            Ok(answer(resource, form, written))
        }
        Method::Delete if resource.is_namespaced && namespace.is_none() => Err(ApiError::MethodNotAllowed),
        Method::Delete if !resource.verbs().contains(&"deletecollection") => Err(ApiError::MethodNotAllowed),
        Method::Delete => {
            let options = DeleteOptions::parse(&request.body, &request.query)?;
            let page = state.list(resource, namespace, &request.query)?;
            for item in &page.items {
                let place = Place {
                    resource: Arc::clone(resource),
                    namespace: namespace.map(str::to_owned),
                    name: object::name(item).to_owned(),
                    door: Door::Main,
                };
                state.delete(&place, &options)?;
            }
            Ok(Reply::ok(form.list(resource, &page)))
        }
        Method::Put | Method::Patch | Method::Other => Err(ApiError::MethodNotAllowed),
    }
}

fn on_object(
    state: &mut State,
    request: &Request,
    user: &User,
    place: &Place,
    form: Form,
) -> Result<Reply, ApiError> {
    let resource = &place.resource;
    if resource.is_review {
        return Err(ApiError::MethodNotAllowed);
    }
    match request.method {
        Method::Get => {
            state.check_reached(&request.query)?;
            let found = state.get(place)?;
            Ok(Reply::ok(form.one(resource, &served(resource, &found))))
        }
        Method::Put => {
            let body = decode::body(resource, request.media_type(), &request.body)?;
            let written = state.update(place, body, &request.write_options(user)?)?;
            Ok(answer(resource, form, written))
        }
        Method::Patch => {
            let (kind, options) = patch_options(request, user, resource)?;
            let written = state.patch(place, kind, &patch(kind, request)?, &options)?;
            Ok(answer(resource, form, written))
        }
        Method::Delete if place.door == Door::Main => {
            let options = DeleteOptions::parse(&request.body, &request.query)?;
            Ok(match state.delete(place, &options)? {
                Deleted::Gone(object) if !returns_object(resource) => {
                    let mut details =
                        json!({"name": place.name, "kind": resource.plural, "uid": object::uid(&object)});
                    if !resource.group.is_empty() {
                        details["group"] = json!(resource.group);
                    }
                    Reply::success(&details)
                }
                Deleted::Gone(object) | Deleted::Terminating(object) => {
                    Reply::ok(form.one(resource, &served(resource, &object)))
                }
            })
        }
        Method::Delete | Method::Post | Method::Other => Err(ApiError::MethodNotAllowed),
    }
}

/// Who applies says so: the name of the program does not do.
fn patch_options(
    request: &Request,
    user: &User,
    resource: &ResourceType,
) -> Result<(PatchKind, WriteOptions), ApiError> {
    let kind = PatchKind::of(resource, request.media_type())?;
    let mut options = request.write_options(user)?;
    if kind == PatchKind::Apply && request.query.get("fieldManager").is_none() {
        options.manager = String::new();
    }
    Ok((kind, options))
}

fn patch(kind: PatchKind, request: &Request) -> Result<Value, ApiError> {
    match kind {
        PatchKind::Apply => yaml::parse_config(&request.body),
        PatchKind::Json | PatchKind::Merge | PatchKind::Strategic => decode::parse(&request.body),
    }
}

/// Of these the real server answers a deletion with what is deleted.
fn returns_object(resource: &ResourceType) -> bool {
    resource.group.is_empty()
        && ["pods", "services", "persistentvolumeclaims", "serviceaccounts"]
            .contains(&resource.plural.as_str())
}

fn on_log(state: &State, request: &Request, place: &Place) -> Result<Answer, ApiError> {
    if request.method != Method::Get {
        return Err(ApiError::MethodNotAllowed);
    }
    // A pod that is on no node has no log yet.
    Ok(match state.log_of(place, &request.query)? {
        Some(at) => Answer::Errand(Errand::Log { at, pod: place.name.clone() }),
        None => Answer::Reply(Reply::text(200, "")),
    })
}

fn on_port_forward(state: &State, request: &Request, place: &Place) -> Result<Errand, ApiError> {
    if !matches!(request.method, Method::Get | Method::Post) {
        return Err(ApiError::MethodNotAllowed);
    }
    let at = state.ports_of(place)?;
    let wanted = request.upgrade.clone();
    let wanted = wanted.ok_or_else(|| ApiError::BadRequest("Upgrade request required".to_owned()))?;
    Ok(Errand::PortForward { at, wanted })
}

fn on_scale(state: &mut State, request: &Request, user: &User, place: &Place) -> Result<Reply, ApiError> {
    let paths = place.resource.scale.clone().ok_or(ApiError::UnknownResource)?;
    let body = match request.method {
        Method::Get => state.get_scale(place, &paths)?,
        Method::Put => {
            let scale = scale::body(request.media_type(), &request.body)?;
            state.update_scale(place, &paths, scale, &request.write_options(user)?)?
        }
        Method::Patch => {
            let (kind, options) = patch_options(request, user, &place.resource)?;
            state.patch_scale(place, kind, &patch(kind, request)?, &options)?
        }
        Method::Post | Method::Delete | Method::Other => return Err(ApiError::MethodNotAllowed),
    };
    Ok(Reply::ok(body))
}

fn answer(resource: &ResourceType, form: Form, written: Written) -> Reply {
    let object: Value = served(resource, &written.object);
    let code = if written.is_new { 201 } else { 200 };
    Reply::json(code, form.one(resource, &object)).warning(written.warnings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::impersonation::Impersonation;

    #[test]
    fn a_watch_of_one_object_is_asked_about_by_name() {
        let request = Request {
            method: Method::Get,
            path: "/api/v1/namespaces/a/secrets".to_owned(),
            query: crate::request::Query::parse("watch=1&fieldSelector=metadata.name%3Dx"),
            raw_query: String::new(),
            accept: String::new(),
            content_type: String::new(),
            user_agent: String::new(),
            authorization: None,
            impersonation: Impersonation::default(),
            upgrade: None,
            body: bytes::Bytes::new(),
        };
        let access = access(&request, &Target::parse(&request.path).unwrap());
        assert_eq!((access.verb.as_str(), access.name.as_str()), ("watch", "x"));
    }
}
