//! Nobody hands out rights he does not have: roles and bindings are checked against the rules of who writes them.

use serde_json::{Value, json};

use crate::auth::User;
use crate::error::{ApiError, Subject};
use crate::object::{self, list, text};
use crate::rbac::{Access, GROUP};
use crate::resource::ResourceType;
use crate::state::{State, id};
use crate::store::Key;

impl State {
    /// Whether a user may write this role or binding; other types are not asked about.
    pub(crate) fn check_escalation(
        &self,
        user: &User,
        resource: &ResourceType,
        namespace: Option<&str>,
        value: &Value,
    ) -> Result<(), ApiError> {
        if resource.group != GROUP || user.is_master() {
            return Ok(());
        }
        let namespace = namespace.unwrap_or_default();
        let is_binding = resource.plural.ends_with("bindings");
        let verb = if is_binding { "bind" } else { "escalate" };
        let role = if is_binding { text(value, "/roleRef/name") } else { object::name(value) };
        let plural = match (is_binding, text(value, "/roleRef/kind")) {
            (true, "ClusterRole") => "clusterroles",
            (true, _) => "roles",
            (false, _) => &resource.plural,
        };
        let by_verb = Access {
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            resource: plural.to_owned(),
            namespace: namespace.to_owned(),
            name: role.to_owned(),
            ..Access::default()
        };
        if self.may(user, &by_verb) {
            return Ok(());
        }
        let in_namespace = if plural == "clusterroles" { "" } else { namespace };
        let key = Key { namespace: in_namespace.to_owned(), name: role.to_owned() };
        let rules = match (is_binding, self.store.get(&id(GROUP, plural), &key)) {
            (false, _) => list(value, "/rules"),
            (true, Some(role)) => list(role, "/rules"),
            (true, None) => return Ok(()),
        };
        let missing: Vec<String> =
            rules.iter().filter(|rule| !self.covers(user, namespace, rule)).map(shown).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(ApiError::Forbidden {
            subject: Subject::of(resource, object::name(value)),
            message: format!(
                "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
                user.name,
                quoted(&json!(user.groups)),
                missing.join("\n")
            ),
            causes: Vec::new(),
        })
    }

    /// Whether a user may already do all that a rule allows.
    fn covers(&self, user: &User, namespace: &str, rule: &Value) -> bool {
        let texts = |field: &str| -> Vec<String> {
            let all = list(rule, field).iter().filter_map(Value::as_str);
            all.map(str::to_owned).collect()
        };
        let names = match texts("/resourceNames") {
            names if names.is_empty() => vec![String::new()],
            names => names,
        };
        let mut accesses = Vec::new();
        for verb in texts("/verbs") {
            for group in texts("/apiGroups") {
                for resource in texts("/resources") {
                    accesses.extend(names.iter().map(|name| access(&verb, &group, &resource, name)));
                }
            }
        }
        let urls_are_held = texts("/nonResourceURLs")
            .iter()
            .all(|url| texts("/verbs").iter().all(|verb| self.authorize_path(user, verb, url).is_ok()));
        urls_are_held
            && accesses
                .into_iter()
                .all(|access| self.may(user, &Access { namespace: namespace.to_owned(), ..access }))
    }
}

fn access(verb: &str, group: &str, resource: &str, name: &str) -> Access {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Access {
        verb: verb.to_owned(),
        group: group.to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        name: name.to_owned(),
        ..Access::default()
    }
}

/// A list as Go prints it with `%q`.
fn quoted(list: &Value) -> String {
    let all: Vec<String> = list.as_array().into_iter().flatten().map(Value::to_string).collect();
    format!("[{}]", all.join(" "))
}

/// A rule in the short form of refusals: `{APIGroups:["apps"], Resources:["deployments"], Verbs:["get"]}`.
fn shown(rule: &Value) -> String {
    let parts: Vec<String> = [
        ("APIGroups", "apiGroups"),
        ("Resources", "resources"),
        ("ResourceNames", "resourceNames"),
        ("NonResourceURLs", "nonResourceURLs"),
        ("Verbs", "verbs"),
    ]
    .iter()
    .filter(|(_, field)| !list(rule, &format!("/{field}")).is_empty())
    .map(|(name, field)| format!("{name}:{}", rule[*field]).replace("\",\"", "\" \""))
    .collect();
    format!("{{{}}}", parts.join(", "))
}
