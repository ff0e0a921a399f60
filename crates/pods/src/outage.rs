//! The API server is away for a while when people ask for it with kubectl, which cannot ask for its return.

use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::json;
use tokio::time::sleep;
use tracing::warn;
use wattle_api_server::{Faults, Outage};

const NAMESPACE: &str = "kube-system";
const ANNOTATION: &str = "wattle.dev/outage";
const LONGEST: Duration = Duration::from_secs(3600);
/// Who asks for an outage hears first that it will come; who is cut off tries again sooner than that.
const ANSWER: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(300);

static IS_ON: AtomicBool = AtomicBool::new(false);

pub(crate) fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// How long the server is to be away, as in `90s` or `2m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Length(Duration);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{ANNOTATION} is to be a time like 90s or 2m, of at most an hour")]
struct NoLength;

impl FromStr for Length {
    type Err = NoLength;

    fn from_str(text: &str) -> Result<Self, NoLength> {
        let (number, unit) = match (text.strip_suffix('s'), text.strip_suffix('m')) {
            (Some(number), _) => (number, 1),
            (_, Some(number)) => (number, 60),
            (None, None) => return Err(NoLength),
        };
        let number: u64 = number.parse().map_err(|_| NoLength)?;
        let length = Duration::from_secs(number.saturating_mul(unit));
        if length <= LONGEST { Ok(Self(length)) } else { Err(NoLength) }
    }
}

/// Takes the server away as often as it is asked to, until it is dropped.
pub(crate) async fn obey(client: Client, faults: Faults) {
    let namespaces: Api<Namespace> = Api::all(client);
    loop {
        match asked_for(&namespaces).await {
            Ok(text) => match text.parse::<Length>() {
                Ok(Length(length)) => away_for(length, &faults).await,
                Err(error) => warn!(text, %error, "the server stays"),
            },
            Err(error) => {
                warn!(%error, "nobody can ask for an outage");
                sleep(RETRY).await;
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Deaf {
    #[error(transparent)]
    Watch(#[from] kube::runtime::wait::Error),
    #[error(transparent)]
    Patch(#[from] kube::Error),
}

/// Waits for the annotation, and takes it away, so that the same command works again.
async fn asked_for(namespaces: &Api<Namespace>) -> Result<String, Deaf> {
    let asks = |namespace: Option<&Namespace>| namespace.and_then(length).is_some();
    let found = await_condition(namespaces.clone(), NAMESPACE, asks).await?;
    let asked = found.as_ref().and_then(length).unwrap_or_default();
    let heard = Patch::Merge(json!({"metadata": {"annotations": {ANNOTATION: null}}}));
    namespaces.patch(NAMESPACE, &PatchParams::default(), &heard).await?;
    Ok(asked)
}

fn length(namespace: &Namespace) -> Option<String> {
    namespace.metadata.annotations.as_ref()?.get(ANNOTATION).cloned()
}

async fn away_for(length: Duration, faults: &Faults) {
    sleep(ANSWER).await;
    println!("the API server is away for {} s", length.as_secs());
    IS_ON.store(true, Ordering::Relaxed);
    faults.start_outage(Outage::Refused);
    sleep(length).await;
    faults.end_outage();
    // All have found it again then, and what they say is of interest.
    sleep(ANSWER).await;
    IS_ON.store(false, Ordering::Relaxed);
    println!("the API server is back");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, seconds: Option<u64>) {
        let expected = seconds.map(|seconds| Length(Duration::from_secs(seconds))).ok_or(NoLength);
        assert_eq!(text.parse(), expected, "{text}");
    }

    #[test]
    fn an_outage_lasts_seconds_or_minutes_and_at_most_an_hour() {
        check("90s", Some(90));
        check("2m", Some(120));
        check("60m", Some(3600));
        for text in ["61m", "90", "m", "", "-1s", "1h", "18446744073709551615m"] {
            check(text, None);
        }
    }
}
