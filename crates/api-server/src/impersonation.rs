//! Acting as somebody else, as `kubectl --as` does: the server's impersonation filter.

use std::collections::BTreeMap;

use hyper::HeaderMap;

use crate::auth::{AUTHENTICATED, UNAUTHENTICATED, User};
use crate::error::ApiError;
use crate::rbac::Access;
use crate::request::{Request, decode_percent};
use crate::state::State;

const EXTRA: &str = "impersonate-extra-";
const GROUP: &str = "authentication.k8s.io";

/// As whom a request wants to be answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Impersonation {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Impersonation {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let all = |name: &str| -> Vec<String> {
            let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            values.map(str::to_owned).collect()
        };
        let first = |name: &str| all(name).into_iter().next().unwrap_or_default();
        let extra = headers.keys().filter_map(|name| {
            let key = name.as_str().strip_prefix(EXTRA)?;
            Some((decode_percent(key), all(name.as_str())))
        });
        Self {
            user: first("impersonate-user"),
            uid: first("impersonate-uid"),
            groups: all("impersonate-group"),
            extra: extra.collect(),
        }
    }

    /// What the requester must be allowed to impersonate, one by one, in the order of the real server.
    fn accesses(&self) -> Vec<Access> {
        let impersonate = |group: &str, resource: &str, name: &str| Access {
            verb: "impersonate".to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            ..Access::default()
        };
        let mut all = Vec::new();
        if let Some((namespace, name)) = service_account(&self.user) {
            let namespace = namespace.to_owned();
            all.push(Access { namespace, ..impersonate("", "serviceaccounts", name) });
        } else if !self.user.is_empty() {
            all.push(impersonate("", "users", &self.user));
        }
        all.extend(self.groups.iter().map(|group| impersonate("", "groups", group)));
        for (key, values) in &self.extra {
            all.extend(
                values.iter().map(|value| Access {
                    subresource: key.clone(),
                    ..impersonate(GROUP, "userextras", value)
                }),
            );
        }
        if !self.uid.is_empty() {
            all.push(impersonate(GROUP, "uids", &self.uid));
        }
        all
    }

    fn user(&self) -> User {
        let mut groups = self.groups.clone();
        if let (Some((namespace, name)), true) = (service_account(&self.user), groups.is_empty()) {
            groups = User::service_account(namespace, name, String::new()).groups;
        }
        let own = if self.user == User::anonymous().name { UNAUTHENTICATED } else { AUTHENTICATED };
        if !groups.iter().any(|group| group == own || group == UNAUTHENTICATED) {
            groups.push(own.to_owned());
        }
        User { name: self.user.clone(), uid: self.uid.clone(), groups, extra: self.extra.clone() }
    }
}

fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

impl State {
    /// The user a request is answered to, which is who sends it if it does not say otherwise.
    pub(crate) fn impersonate(&self, requester: User, request: &Request) -> Result<User, ApiError> {
        let wanted = &request.impersonation;
        let accesses = wanted.accesses();
        if accesses.is_empty() {
            return Ok(requester);
        }
        if wanted.user.is_empty() {
            return Err(ApiError::NobodyToActAs { uri: request.uri(), wanted: shown(&accesses) });
        }
        accesses.iter().try_for_each(|access| self.authorize(&requester, access))?;
        Ok(wanted.user())
    }
}

/// As Go prints the object references that stand for what is impersonated.
fn shown(accesses: &[Access]) -> String {
    let all: Vec<String> = accesses
        .iter()
        .map(|access| {
            let (kind, version) = match access.resource.as_str() {
                "groups" => ("Group", ""),
                "uids" => ("UID", "authentication.k8s.io/v1"),
                _ => ("UserExtra", "authentication.k8s.io/v1"),
            };
            format!("{{{kind}  {}  {version}  {}}}", access.name, access.subresource)
        })
        .collect();
    format!("[{}]", all.join(" "))
}
