//! Where a module comes from, and whether it is the one that was meant.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use sha2::{Digest as _, Sha256};

use crate::api::{ContentKey, GridFunction, UrlSource};
use crate::context::Context;
use crate::error::Error;
use crate::hex::hex;
use crate::http_get::{Get, GetError, get};

/// A node takes no longer module.
const MODULE_BYTES: usize = 16 << 20;
const FETCH_TIME: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Module {
    pub(super) bytes: Bytes,
    pub(super) digest: String,
}

/// Why there is no module, in words for who has written the manifest.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("there is no {kind} {name} in the namespace")]
    NoObject { kind: &'static str, name: String },
    #[error("{kind} {name} has no key {key:?}; it has {known}")]
    NoKey { kind: &'static str, name: String, key: String, known: String },
    #[error("Secret {name} has no key {key:?}")]
    NoSecretKey { name: String, key: String },
    #[error("no source is given")]
    NoSource,
    #[error("{url}: {error}")]
    NotFetched { url: String, error: GetError },
    #[error("{url} answers {status}")]
    Answered { url: String, status: StatusCode },
    #[error("expected sha256 {expected}, found {found} in {bytes} bytes{hint}")]
    DigestMismatch { expected: String, found: String, bytes: usize, hint: &'static str },
    #[error("expected sha256 {expected}, and the secret has another")]
    SecretMismatch { expected: String },
}

impl SourceError {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NoObject { .. } | Self::NoKey { .. } | Self::NoSecretKey { .. } | Self::NoSource => {
                "SourceMissing"
            }
            Self::NotFetched { .. } | Self::Answered { .. } => "FetchFailed",
            Self::DigestMismatch { .. } | Self::SecretMismatch { .. } => "DigestMismatch",
        }
    }
}

/// The module, if it is the one with the digest that is asked for.
pub(super) async fn fetch(
    context: &Context,
    function: &GridFunction,
) -> Result<Result<Module, SourceError>, Error> {
    let source = &function.spec.source;
    let bytes = if let Some(key) = &source.config_map {
        config_map(context, function, key).await?
    } else if let Some(key) = &source.secret {
        secret(context, function, key).await?
    } else if let Some(url) = &source.url {
        from_url(context, function, url).await?
    } else {
        Err(SourceError::NoSource)
    };
    let checked = bytes.and_then(|bytes| checked(bytes, function.spec.sha256.as_deref()));
    // Who may write a GridFunction need not be one who may read a Secret.
    Ok(match checked {
        Err(SourceError::DigestMismatch { expected, .. }) if source.secret.is_some() => {
            Err(SourceError::SecretMismatch { expected })
        }
        checked => checked,
    })
}

fn checked(bytes: Bytes, expected: Option<&str>) -> Result<Module, SourceError> {
    let digest = hex(&Sha256::digest(&bytes));
    match expected {
        Some(expected) if expected != digest => Err(SourceError::DigestMismatch {
            expected: expected.to_owned(),
            found: digest,
            bytes: bytes.len(),
            hint: hint(&bytes),
        }),
        _ => Ok(Module { bytes, digest }),
    }
}

/// What went wrong, most likely.
fn hint(bytes: &[u8]) -> &'static str {
    if bytes.starts_with(b"\0asm") {
        ""
    } else if bytes.is_empty() {
        ": it is empty"
    } else if bytes.trim_ascii_start().starts_with(b"<") {
        ": it looks like a web page, not like WebAssembly"
    } else if bytes.starts_with(b"AGFzb") {
        ": it is WebAssembly in base64, which belongs under binaryData, not data"
    } else {
        ": it does not begin as WebAssembly does"
    }
}

type Found = Result<Bytes, SourceError>;

async fn config_map(context: &Context, function: &GridFunction, key: &ContentKey) -> Result<Found, Error> {
    let maps = context.api_beside::<ConfigMap>(function)?;
    let kind = "ConfigMap";
    let Some(map) = maps.get_opt(&key.name).await? else {
        return Ok(Err(SourceError::NoObject { kind, name: key.name.clone() }));
    };
    let (binary, text) = (map.binary_data.unwrap_or_default(), map.data.unwrap_or_default());
    let bytes = binary.get(&key.key).map(|bytes| bytes.0.clone());
    let found = bytes.or_else(|| text.get(&key.key).map(|text| text.clone().into_bytes()));
    Ok(found.map(Bytes::from).ok_or_else(|| no_key(kind, key, binary.keys().chain(text.keys()))))
}

async fn secret(context: &Context, function: &GridFunction, key: &ContentKey) -> Result<Found, Error> {
    let secrets = context.api_beside::<Secret>(function)?;
    let kind = "Secret";
    let Some(secret) = secrets.get_opt(&key.name).await? else {
        return Ok(Err(SourceError::NoObject { kind, name: key.name.clone() }));
    };
    let data = secret.data.unwrap_or_default();
    let found = data.get(&key.key).map(|bytes| bytes.0.clone());
    // Nor what else is in it.
    Ok(found
        .map(Bytes::from)
        .ok_or_else(|| SourceError::NoSecretKey { name: key.name.clone(), key: key.key.clone() }))
}

fn no_key<'a>(kind: &'static str, key: &ContentKey, known: impl Iterator<Item = &'a String>) -> SourceError {
    let mut known = known.map(String::as_str).collect::<Vec<_>>().join(", ");
    if known.is_empty() {
        known = "none".to_owned();
    }
    SourceError::NoKey { kind, name: key.name.clone(), key: key.key.clone(), known }
}

async fn from_url(context: &Context, function: &GridFunction, source: &UrlSource) -> Result<Found, Error> {
    let authority = match &source.authority {
        None => None,
        Some(key) => match config_map(context, function, key).await? {
            Ok(authority) => Some(authority),
            Err(missing) => return Ok(Err(missing)),
        },
    };
    let url = source.address.clone();
    let authority = authority.as_deref();
    let asked = Get { url: &source.address, authority, longest: MODULE_BYTES, time: FETCH_TIME };
    Ok(match get(&asked).await {
        Ok(answer) if answer.status == StatusCode::OK => Ok(answer.body),
        Ok(answer) => Err(SourceError::Answered { url, status: answer.status }),
        Err(error) => Err(SourceError::NotFetched { url, error }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_module_is_the_one_that_was_meant_or_none() {
        assert_eq!(checked(Bytes::new(), Some(EMPTY)).unwrap().digest, EMPTY);
        assert_eq!(checked(Bytes::new(), None).unwrap().digest, EMPTY);
        let wrong = |bytes: &'static [u8]| {
            checked(Bytes::from_static(bytes), Some(&"0".repeat(64))).unwrap_err().to_string()
        };
        let said = wrong(b"");
        assert!(
            said.starts_with(&format!("expected sha256 {}, found {EMPTY} in 0 bytes", "0".repeat(64))),
            "{said}"
        );
        assert!(wrong(b"\n<!DOCTYPE html>").ends_with("it looks like a web page, not like WebAssembly"));
        assert!(wrong(b"AGFzbQEAAAA=").ends_with("which belongs under binaryData, not data"));
        assert!(wrong(b"\0asm\x01\0\0\0").ends_with("in 8 bytes"));
    }
}
