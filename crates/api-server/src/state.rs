//! What the server holds: objects, types, tokens. One lock guards it: every request is one short step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::auth::{Token, User};
use crate::object;
use crate::registry::Registry;
use crate::resource::{ResourceId, ResourceType};
use crate::store::{Key, Store};
use crate::time;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) tokens: BTreeMap<String, Token>,
    /// Addresses for services, handed out in order.
    pub(crate) next_service: u32,
    /// As in the settings.
    pub(crate) owner_references_enforced: bool,
}

const FIRST_NODE_PORT: u32 = 30_000;
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

impl State {
    pub(crate) fn new() -> Self {
        let mut state = Self {
            store: Store::new(),
            registry: Registry::new(),
            tokens: BTreeMap::new(),
            next_service: 1,
            owner_references_enforced: false,
        };
        for name in NAMESPACES {
            state.add("", "v1", "namespaces", json!({"metadata": {"name": name}}));
        }
        let service = json!({
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {"ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]},
        });
        state.add("", "v1", "services", service);
        for (plural, role) in crate::rbac::bootstrap() {
            state.add("rbac.authorization.k8s.io", "v1", plural, role);
        }
        state
    }

    /// Puts an object in as the server's own work.
    pub(crate) fn add(&mut self, group: &str, version: &str, plural: &str, mut value: Value) {
        let Some(resource) = self.registry.find(group, version, plural) else { return };
        value["kind"] = json!(resource.kind);
        value["apiVersion"] = json!(resource.api_version());
        object::set_meta(&mut value, "uid", json!(uid()));
        object::set_meta(&mut value, "creationTimestamp", json!(time::now()));
        crate::defaults::apply(&resource, &mut value);
        self.assign(&resource, &mut value);
        self.store.put(&resource.id(), value);
    }

    /// What a real server's allocators give a new object.
    pub(crate) fn assign(&mut self, resource: &ResourceType, value: &mut Value) {
        if !resource.is("", "services") || value["spec"]["type"] == "ExternalName" {
            return;
        }
        if value["spec"]["clusterIP"].as_str().is_none_or(str::is_empty) {
            let (high, low) = (self.next_service / 256, self.next_service % 256);
            self.next_service += 1;
            value["spec"]["clusterIP"] = json!(format!("10.96.{high}.{low}"));
        }
        if value["spec"]["type"] == "NodePort" || value["spec"]["type"] == "LoadBalancer" {
            for port in value["spec"]["ports"].as_array_mut().into_iter().flatten() {
                object::default_to(port, "nodePort", json!(FIRST_NODE_PORT + self.next_service));
                self.next_service += 1;
            }
        }
        let address = value["spec"]["clusterIP"].clone();
        object::default_to(&mut value["spec"], "clusterIPs", json!([address]));
        object::default_to(&mut value["spec"], "ipFamilies", json!(["IPv4"]));
        object::default_to(&mut value["spec"], "ipFamilyPolicy", json!("SingleStack"));
    }

    pub(crate) fn find(
        &self,
        resource: &ResourceType,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<&Arc<Value>> {
        self.store.get(&resource.id(), &key(resource, namespace, name))
    }

    pub(crate) fn user_of(&self, token: &str) -> Option<User> {
        let token = self.tokens.get(token)?;
        let is_current = token.expires.is_none_or(|expires| SystemTime::now() < expires);
        is_current.then(|| token.user.clone())
    }
}

pub(crate) fn key(resource: &ResourceType, namespace: Option<&str>, name: &str) -> Key {
    let namespace = if resource.is_namespaced { namespace.unwrap_or_default() } else { "" };
    Key { namespace: namespace.to_owned(), name: name.to_owned() }
}

pub(crate) fn id(group: &str, plural: &str) -> ResourceId {
    ResourceId { group: group.to_owned(), plural: plural.to_owned() }
}

/// A random UUID, version 4.
pub(crate) fn uid() -> String {
    let mut bytes = random::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The five letters that `generateName` ends with: no vowels, so that no words come about.
pub(crate) fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    random::<5>().iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}
