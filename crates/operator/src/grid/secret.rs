//! The secret that the nodes of a grid share: made once and kept, or given.

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};

use super::observe::Founding;
use crate::context::Context;
use crate::error::Error;
use crate::hex::hex;
use crate::manifests::{Blueprint, GRID_UID, new_secret};

/// A node takes no shorter one.
const SHORTEST: usize = 16;

/// Makes the secret if it is not there. One that is there is never written; nor is one made anew for a grid whose nodes have another.
pub(super) async fn ensure(
    context: &Context,
    blueprint: &Blueprint<'_>,
    founding: Founding,
) -> Result<(), Error> {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), blueprint.namespace);
    let name = blueprint.secret_name();
    if let Some(secret) = secrets.get_opt(&name).await? {
        let made_for = secret.annotations().get(GRID_UID).map(String::as_str);
        if blueprint.spec.secret.is_none() && made_for != Some(blueprint.uid) {
            return Err(Error::NotOurs { kind: "Secret".to_owned(), name });
        }
        let text = secret.data.as_ref().and_then(|data| data.get("secret"));
        let is_long = text.is_some_and(|text| text.0.len() >= SHORTEST);
        return if is_long { Ok(()) } else { Err(Error::NoSecret { name }) };
    }
    if blueprint.spec.secret.is_some() || founding == Founding::Done {
        return Err(Error::NoSecret { name });
    }
    let mut random = [0_u8; 32];
    getrandom::fill(&mut random).map_err(|_| Error::Random)?;
    let made = serde_json::from_value(new_secret(blueprint, &hex(&random)));
    let made: Secret = made.map_err(|_| Error::Malformed { what: "not a Secret" })?;
    match secrets.create(&PostParams::default(), &made).await.map_err(Error::from) {
        // Somebody else was faster: that one counts.
        Ok(_) | Err(Error::Refused { code: 409, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
