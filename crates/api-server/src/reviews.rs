//! Reviews: questions about tokens and rights that are answered and not kept. And tokens on request.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::auth::{Token, User};
use crate::error::ApiError;
use crate::object::{self, list, text};
use crate::rbac::Access;
use crate::resource::ResourceType;
use crate::state::{State, random};
use crate::time;
use crate::write::Place;

/// What a token lasts that nobody gave a time.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// Of whom a SubjectAccessReview asks.
fn subject(spec: &Value) -> User {
    let groups = list(spec, "/groups").iter().filter_map(Value::as_str);
    User {
        name: text(spec, "/user").to_owned(),
        uid: text(spec, "/uid").to_owned(),
        groups: groups.map(str::to_owned).collect(),
        extra: BTreeMap::new(),
    }
}

impl State {
    pub(crate) fn review(
        &self,
        resource: &ResourceType,
        user: &User,
        mut body: Value,
    ) -> Result<Value, ApiError> {
        let status = match resource.plural.as_str() {
            "tokenreviews" => match self.user_of(text(&body, "/spec/token")) {
                Some(user) => json!({"authenticated": true, "user": user.shown()}),
                None => json!({"user": {}, "error": "[invalid bearer token]"}),
            },
            "selfsubjectreviews" => json!({"userInfo": user.shown()}),
            "selfsubjectrulesreviews" => {
                let namespace = text(&body, "/spec/namespace").to_owned();
                if namespace.is_empty() {
                    return Err(ApiError::BadRequest("no namespace on request".to_owned()));
                }
                // The real server does not repeat what it was asked.
                body["spec"] = json!({});
                self.review_rules(user, &namespace)
            }
            "subjectaccessreviews" => self.review_access(&subject(&body["spec"]), &body["spec"]),
            _ => self.review_access(user, &body["spec"]),
        };
        body["kind"] = json!(resource.kind);
        body["apiVersion"] = json!(resource.api_version());
        object::set_meta(&mut body, "creationTimestamp", Value::Null);
        body["status"] = status;
        Ok(body)
    }

    /// What a user may do in a namespace, rule by rule.
    fn review_rules(&self, user: &User, namespace: &str) -> Value {
        let (mut resource_rules, mut path_rules) = (Vec::new(), Vec::new());
        let copy = |rule: &Value, fields: &[&str]| {
            let known = fields.iter().filter(|field| !list(rule, &format!("/{field}")).is_empty());
            Value::Object(known.map(|&field| (field.to_owned(), rule[field].clone())).collect())
        };
        for rule in self.rules_of(user, namespace) {
            if !list(rule, "/resources").is_empty() {
                resource_rules.push(copy(rule, &["verbs", "apiGroups", "resources", "resourceNames"]));
            }
            if !list(rule, "/nonResourceURLs").is_empty() {
                path_rules.push(copy(rule, &["verbs", "nonResourceURLs"]));
            }
        }
        json!({"resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": false})
    }

    fn review_access(&self, user: &User, spec: &Value) -> Value {
        let is_allowed = if spec["nonResourceAttributes"].is_object() {
            let part = |field: &str| text(spec, &format!("/nonResourceAttributes/{field}"));
            self.authorize_path(user, part("verb"), part("path")).is_ok()
        } else {
            let part = |field: &str| text(spec, &format!("/resourceAttributes/{field}")).to_owned();
            let access = Access {
                verb: part("verb"),
                group: part("group"),
                resource: part("resource"),
                subresource: part("subresource"),
                namespace: part("namespace"),
                name: part("name"),
            };
            self.may(user, &access)
        };
        json!({"allowed": is_allowed})
    }

    /// A new token of a service account that is there.
    pub(crate) fn request_token(&mut self, place: &Place, mut body: Value) -> Result<Value, ApiError> {
        let account = self.get(place)?;
        let seconds = body["spec"]["expirationSeconds"].as_u64();
        let lifetime = seconds.map_or(TOKEN_LIFETIME, Duration::from_secs);
        let namespace = place.namespace.as_deref().unwrap_or_default();
        let uid = object::uid(&account).to_owned();
        let token = self.mint(User::service_account(namespace, &place.name, uid), Some(lifetime));
        let expires = time::seconds_since_epoch(SystemTime::now() + lifetime);
        body["kind"] = json!("TokenRequest");
        body["apiVersion"] = json!("authentication.k8s.io/v1");
        body["status"] = json!({"token": token, "expirationTimestamp": time::format(expires)});
        Ok(body)
    }

    pub(crate) fn mint(&mut self, user: User, lifetime: Option<Duration>) -> String {
        let token: String = random::<24>().iter().map(|byte| format!("{byte:02x}")).collect();
        let expires = lifetime.map(|lifetime| SystemTime::now() + lifetime);
        self.tokens.insert(token.clone(), Token { user, expires });
        token
    }
}
