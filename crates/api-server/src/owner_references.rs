//! The admission plugin OwnerReferencesPermissionEnforcement: whoever gives an object an owner must be allowed to delete the
//! object, and whoever lets it hold up its owner's deletion, to set finalizers on the owner.

use serde_json::Value;

use crate::auth::User;
use crate::error::ApiError;
use crate::object::{owners, text};
use crate::rbac::Access;
use crate::resource::split_api_version;
use crate::state::State;
use crate::strategy::Door;
use crate::write::Place;

impl State {
    pub(crate) fn check_owner_references(
        &self,
        (place, user): (&Place, &User),
        old: Option<&Value>,
        new: &Value,
    ) -> Result<(), ApiError> {
        // Old kubelets write broken ones into the status of pods, which cannot change them. A Scale has none.
        let is_exempt =
            place.door == Door::Scale || place.door == Door::Status && place.resource.is("", "pods");
        if !self.owner_references_enforced || is_exempt || old.is_some_and(|old| owners(old) == owners(new)) {
            return Ok(());
        }
        // Whoever makes an object may say whose it is.
        if old.is_some() && !self.may(user, &delete(place)) {
            return Err(refusal(place, "cannot set an ownerRef on a resource you can't delete: , <nil>"));
        }
        let newly_blocking = newly_blocking(old, new);
        if newly_blocking.is_empty() || self.may(user, &finalize("*", "*", "*")) {
            return Ok(());
        }
        newly_blocking.into_iter().try_for_each(|owner| self.check_finalizers((place, user), owner))
    }

    fn check_finalizers(&self, (place, user): (&Place, &User), owner: &Value) -> Result<(), ApiError> {
        let (api_version, kind) = (text(owner, "/apiVersion"), text(owner, "/kind"));
        let (group, version) = split_api_version(api_version);
        let Some(resource) = self.registry.by_kind(group, version, kind) else {
            return Err(refusal(
                place,
                &format!(
                    "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion \
                     {api_version} Kind {kind}: no matches for kind {kind:?} in version {api_version:?}"
                ),
            ));
        };
        let mut access = finalize(group, &resource.plural, text(owner, "/name"));
        if resource.is_namespaced {
            access.namespace = place.namespace.clone().unwrap_or_default();
        }
        if self.may(user, &access) {
            return Ok(());
        }
        Err(refusal(
            place,
            "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>",
        ))
    }
}

/// The references that hold up their owner's deletion and did not before.
fn newly_blocking<'a>(old: Option<&Value>, new: &'a Value) -> Vec<&'a Value> {
    let before = old.map(owners).unwrap_or_default();
    let blocks = |owner: &Value| owner["blockOwnerDeletion"] == true;
    let blocked = |owner: &Value| before.iter().any(|one| one["uid"] == owner["uid"] && blocks(one));
    owners(new).iter().filter(|owner| blocks(owner) && !blocked(owner)).collect()
}

fn delete(place: &Place) -> Access {
    Access {
        verb: "delete".to_owned(),
        group: place.resource.group.clone(),
        resource: place.resource.plural.clone(),
        subresource: if place.door == Door::Status { "status".to_owned() } else { String::new() },
        namespace: place.namespace.clone().unwrap_or_default(),
        name: place.name.clone(),
    }
}

fn finalize(group: &str, resource: &str, name: &str) -> Access {
    Access {
        verb: "update".to_owned(),
        group: group.to_owned(),
        resource: resource.to_owned(),
        subresource: "finalizers".to_owned(),
        name: name.to_owned(),
        ..Access::default()
    }
}

fn refusal(place: &Place, message: &str) -> ApiError {
    ApiError::Forbidden { subject: place.subject(), message: message.to_owned(), causes: Vec::new() }
}
