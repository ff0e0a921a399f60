//! What a refusal with 403 says is missing, as the rule that a role would need.

use std::fmt;

/// A refusal for lack of rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden {
    /// As the API server says it.
    message: String,
    rule: Option<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    user: String,
    verb: String,
    resource: String,
    group: String,
    namespace: Option<String>,
}

impl Forbidden {
    pub(crate) fn parse(message: &str) -> Self {
        Self { message: message.to_owned(), rule: Rule::parse(message) }
    }
}

impl Rule {
    /// `... User "U" cannot VERB resource "R" in API group "G" in the namespace "N"`, or `at the cluster scope`.
    fn parse(message: &str) -> Option<Self> {
        let (_, rest) = message.split_once("User \"")?;
        let (user, rest) = rest.split_once("\" cannot ")?;
        let (verb, rest) = rest.split_once(" resource \"")?;
        let (resource, rest) = rest.split_once("\" in API group \"")?;
        let (group, rest) = rest.split_once('"')?;
        let namespace = rest.split_once("in the namespace \"").and_then(|(_, rest)| rest.split_once('"'));
        Some(Self {
            user: user.to_owned(),
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            group: group.to_owned(),
            namespace: namespace.map(|(namespace, _)| namespace.to_owned()),
        })
    }
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Rule { user, verb, resource, group, namespace }) = &self.rule else {
            return write!(f, "the API server forbids it: {}", self.message);
        };
        let place = match namespace {
            Some(namespace) => format!("a Role in namespace {namespace} (or a ClusterRole)"),
            None => "a ClusterRole".to_owned(),
        };
        write!(
            f,
            "{user} may not {verb} {resource}: {place} needs the rule {{apiGroups: [\"{group}\"], resources: [\"{resource}\"], \
             verbs: [\"{verb}\"]}}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_rule_is_named() {
        let check = |message, expected: &str| assert_eq!(Forbidden::parse(message).to_string(), expected);
        check(
            "configmaps is forbidden: User \"system:serviceaccount:default:bot\" cannot create resource \"configmaps\" in \
             API group \"\" in the namespace \"default\"",
            "system:serviceaccount:default:bot may not create configmaps: a Role in namespace default (or a ClusterRole) needs \
             the rule {apiGroups: [\"\"], resources: [\"configmaps\"], verbs: [\"create\"]}",
        );
        check(
            "grids.wattle.dev is forbidden: User \"u\" cannot list resource \"grids\" in API group \"wattle.dev\" at the \
             cluster scope",
            "u may not list grids: a ClusterRole needs the rule {apiGroups: [\"wattle.dev\"], resources: [\"grids\"], verbs: \
             [\"list\"]}",
        );
        check("roles is forbidden: no", "the API server forbids it: roles is forbidden: no");
    }
}
