//! Who may do what, from the stored roles and bindings; nothing is cached, so a change counts at once.

use serde_json::{Value, json};

use crate::auth::User;
use crate::error::{ApiError, Subject};
use crate::object;
use crate::state::{State, id};
use crate::store::Key;

pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";

/// What is asked for, in the words of authorization.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Access {
    fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            return self.resource.clone();
        }
        format!("{}/{}", self.resource, self.subresource)
    }

    fn refusal(&self, user: &User) -> ApiError {
        let place = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", self.namespace)
        };
        ApiError::Forbidden {
            subject: Subject::new((&self.group, &self.resource), "", &self.name),
            message: format!(
                "User {:?} cannot {} resource {:?} in API group {:?} {place}",
                user.name,
                self.verb,
                self.full_resource(),
                self.group
            ),
            causes: Vec::new(),
        }
    }
}

impl State {
    pub(crate) fn authorize(&self, user: &User, access: &Access) -> Result<(), ApiError> {
        if self.may(user, access) { Ok(()) } else { Err(access.refusal(user)) }
    }

    pub(crate) fn may(&self, user: &User, access: &Access) -> bool {
        user.is_master() || self.rules_of(user, &access.namespace).any(|rule| allows(rule, access))
    }

    pub(crate) fn authorize_path(&self, user: &User, verb: &str, path: &str) -> Result<(), ApiError> {
        let is_allowed =
            user.is_master() || self.rules_of(user, "").any(|rule| allows_path(rule, verb, path));
        if is_allowed {
            return Ok(());
        }
        Err(ApiError::ForbiddenPath(format!("User {:?} cannot {verb} path {path:?}", user.name)))
    }

    /// The rules that hold for a user everywhere, and in one namespace.
    pub(crate) fn rules_of<'a>(
        &'a self,
        user: &'a User,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Value> {
        let cluster = self.store.list(&id(GROUP, "clusterrolebindings"), None);
        let local = self
            .store
            .list(&id(GROUP, "rolebindings"), Some(namespace))
            .filter(move |_| !namespace.is_empty());
        cluster
            .chain(local)
            .filter(move |(key, binding)| binds(binding, user, &key.namespace))
            .filter_map(|(key, binding)| self.role(binding, &key.namespace))
            .flat_map(|role| object::list(role, "/rules"))
    }

    fn role(&self, binding: &Value, namespace: &str) -> Option<&Value> {
        let (plural, namespace) = match object::text(binding, "/roleRef/kind") {
            "ClusterRole" => ("clusterroles", ""),
            _ => ("roles", namespace),
        };
        let name = object::text(binding, "/roleRef/name").to_owned();
        self.store.get(&id(GROUP, plural), &Key { namespace: namespace.to_owned(), name }).map(|role| &**role)
    }
}

fn binds(binding: &Value, user: &User, namespace: &str) -> bool {
    object::list(binding, "/subjects").iter().any(|subject| {
        let name = object::text(subject, "/name");
        match object::text(subject, "/kind") {
            "User" => user.name == name,
            "Group" => user.groups.iter().any(|group| group == name),
            "ServiceAccount" => {
                let of = object::text(subject, "/namespace");
                let of = if of.is_empty() { namespace } else { of };
                user.name == format!("system:serviceaccount:{of}:{name}")
            }
            _ => false,
        }
    })
}

fn has(rule: &Value, field: &str, wanted: &str) -> bool {
    object::list(rule, &format!("/{field}")).iter().any(|one| one == "*" || one == wanted)
}

fn allows(rule: &Value, access: &Access) -> bool {
    let names = object::list(rule, "/resourceNames");
    let any_subresource = format!("*/{}", access.subresource);
    has(rule, "verbs", &access.verb)
        && has(rule, "apiGroups", &access.group)
        && (has(rule, "resources", &access.full_resource())
            || (!access.subresource.is_empty() && has(rule, "resources", &any_subresource)))
        && (names.is_empty() || names.iter().any(|name| *name == *access.name))
}

fn allows_path(rule: &Value, verb: &str, path: &str) -> bool {
    has(rule, "verbs", verb)
        && object::list(rule, "/nonResourceURLs").iter().filter_map(Value::as_str).any(|allowed| {
            allowed == path || allowed.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
        })
}

/// The roles and bindings that a cluster starts with, as far as they matter here.
pub(crate) fn bootstrap() -> Vec<(&'static str, Value)> {
    let role = |name: &str, rules: Value| {
        (
            "clusterroles",
            json!({"metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}, "rules": rules}),
        )
    };
    let binding = |name: &str, groups: &[&str]| {
        let subjects: Vec<Value> =
            groups.iter().map(|group| json!({"apiGroup": GROUP, "kind": "Group", "name": group})).collect();
        (
            "clusterrolebindings",
            json!({
                "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
                "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name},
                "subjects": subjects,
            }),
        )
    };
    let public = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
    let discovery = [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
    ];
    vec![
        role(
            "cluster-admin",
            json!([
                {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
                {"nonResourceURLs": ["*"], "verbs": ["*"]},
            ]),
        ),
        role("system:discovery", json!([{"nonResourceURLs": discovery, "verbs": ["get"]}])),
        role("system:public-info-viewer", json!([{"nonResourceURLs": public, "verbs": ["get"]}])),
        role(
            "system:basic-user",
            json!([{"apiGroups": ["authorization.k8s.io"], "verbs": ["create"],
                "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]},
                {"apiGroups": ["authentication.k8s.io"], "verbs": ["create"], "resources": ["selfsubjectreviews"]}]),
        ),
        binding("cluster-admin", &["system:masters"]),
        binding("system:discovery", &["system:authenticated"]),
        binding("system:basic-user", &["system:authenticated"]),
        binding("system:public-info-viewer", &["system:authenticated", "system:unauthenticated"]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let mut state = State::new();
        state.add(GROUP, "v1", "roles", json!({"metadata": {"namespace": "a", "name": "reader"}, "rules": [
            {"apiGroups": ["apps"], "resources": ["statefulsets", "*/scale"], "verbs": ["get"], "resourceNames": ["web"]}]}));
        state.add(GROUP, "v1", "rolebindings", json!({"metadata": {"namespace": "a", "name": "reader"},
            "roleRef": {"kind": "Role", "name": "reader"}, "subjects": [{"kind": "ServiceAccount", "name": "bot"}]}));
        state
    }

    fn check(verb: &str, resource: &str, subresource: &str, place: (&str, &str), expected: Option<&str>) {
        let bot = User::service_account("a", "bot", String::new());
        let access = Access {
            verb: verb.to_owned(),
            group: "apps".to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: place.0.to_owned(),
            name: place.1.to_owned(),
        };
        let found = state().authorize(&bot, &access).err().map(|error| error.message());
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn roles_allow_what_their_rules_say() {
        check("get", "statefulsets", "", ("a", "web"), None);
        check("get", "deployments", "scale", ("a", "web"), None);
        check(
            "get",
            "statefulsets",
            "",
            ("a", "db"),
            Some(
                "statefulsets.apps \"db\" is forbidden: User \"system:serviceaccount:a:bot\" cannot get resource \
                  \"statefulsets\" in API group \"apps\" in the namespace \"a\"",
            ),
        );
        check(
            "list",
            "statefulsets",
            "",
            ("", ""),
            Some(
                "statefulsets.apps is forbidden: User \"system:serviceaccount:a:bot\" cannot list resource \
                  \"statefulsets\" in API group \"apps\" at the cluster scope",
            ),
        );
    }

    #[test]
    fn discovery_is_for_everyone_who_says_who_they_are() {
        let state = state();
        let bot = User::service_account("a", "bot", String::new());
        assert!(state.authorize_path(&bot, "get", "/apis/apps/v1").is_ok());
        let error = state.authorize_path(&User::anonymous(), "get", "/apis").unwrap_err();
        assert_eq!(error.message(), "forbidden: User \"system:anonymous\" cannot get path \"/apis\"");
        assert!(state.authorize_path(&User::anonymous(), "get", "/healthz").is_ok());
    }
}
