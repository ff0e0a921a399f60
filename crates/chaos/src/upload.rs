//! [`Uploads`]: one version of a function after the other, each of which does the same; and whether calls ran what they should have.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use wattle_client::{Client, Error, UploadOptions};
use wattle_simulation::linearizability::Time;

use crate::clock::Clock;
use crate::load::FUNCTION;
use crate::record::Run;
use crate::violation::Violation;

/// From one upload to the next.
const PAUSE: Duration = Duration::from_secs(7);
const LOOK_TIME: Duration = Duration::from_millis(50);

/// An upload. It took effect between its begin and its end; if nobody knows its end, at any time after its begin, or never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upload {
    pub(crate) module: String,
    pub(crate) began: Time,
    pub(crate) ended: Option<Time>,
}

pub(crate) struct Uploads {
    stops: Arc<AtomicBool>,
    task: JoinHandle<Vec<Upload>>,
}

impl Uploads {
    /// Begins with a first one, before anything is called.
    pub(crate) async fn start(client: Client, module: Bytes, clock: Clock) -> Result<Self, Error> {
        let first = upload(&client, &version(&module, 0), clock).await;
        let mut uploads = vec![first?];
        let stops = Arc::<AtomicBool>::default();
        let stopping = Arc::clone(&stops);
        let task = tokio::spawn(async move {
            let mut last = Instant::now();
            while !stopping.load(Ordering::Relaxed) {
                if last.elapsed() < PAUSE {
                    tokio::time::sleep(LOOK_TIME).await;
                    continue;
                }
                let (next, begins) = (version(&module, uploads.len()), clock.now());
                let doubtful = Upload { module: hash(&next), began: begins, ended: None };
                uploads.push(upload(&client, &next, clock).await.unwrap_or(doubtful));
                last = Instant::now();
            }
            uploads
        });
        Ok(Self { stops, task })
    }

    pub(crate) async fn stop(self) -> Vec<Upload> {
        self.stops.store(true, Ordering::Relaxed);
        self.task.await.expect("an upload does not panic")
    }
}

async fn upload(client: &Client, module: &Bytes, clock: Clock) -> Result<Upload, Error> {
    let began = clock.now();
    let options = UploadOptions::new().export(FUNCTION);
    client.functions().upload(FUNCTION, module.clone(), &options).await?;
    Ok(Upload { module: hash(module), began, ended: Some(clock.now()) })
}

/// The same module, as other bytes: with a custom section more, which means nothing to anybody.
fn version(module: &Bytes, number: usize) -> Bytes {
    let name = format!("version {number}");
    let length = u8::try_from(name.len()).expect("it is short");
    let mut bytes = module.to_vec();
    bytes.extend([0, length + 1, length]);
    bytes.extend(name.as_bytes());
    bytes.into()
}

fn hash(module: &[u8]) -> String {
    Sha256::digest(module).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a text can be written to");
        text
    })
}

/// Whether a call may have run its module: it was not replaced before the call began, and not first uploaded after its end.
pub(crate) fn may_have_run(run: &Run, uploads: &[Upload]) -> bool {
    let replaced = uploads.iter().rposition(|upload| upload.ended.is_some_and(|ended| ended < run.asked));
    let uploads = uploads.iter().enumerate();
    uploads
        .filter(|(_, upload)| upload.module == run.module && upload.began <= run.answered)
        .any(|(place, upload)| upload.ended.is_none() || replaced.is_none_or(|replaced| replaced <= place))
}

pub(crate) fn judge(runs: &[Run], uploads: &[Upload]) -> Vec<Violation> {
    let wrong = runs.iter().filter(|run| !may_have_run(run, uploads));
    let violation = |run: &Run| Violation::OldCode {
        key: run.key.to_string(),
        module: run.module.clone(),
        asked: Duration::from_micros(run.asked.0),
        answered: Duration::from_micros(run.answered.0),
    };
    wrong.map(violation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Key;

    fn uploaded(module: &str, began: u64, ended: Option<u64>) -> Upload {
        Upload { module: module.to_owned(), began: Time(began), ended: ended.map(Time) }
    }

    #[track_caller]
    fn check(uploads: &[Upload], (asked, answered, module): (u64, u64, &str), can_be: bool) {
        let key = Key { round: 0, place: 0 };
        let run = Run { key, module: module.to_owned(), asked: Time(asked), answered: Time(answered) };
        assert_eq!(judge(&[run], uploads).is_empty(), can_be);
    }

    #[test]
    fn a_version_runs_until_the_next_one_is_answered() {
        let uploads = [uploaded("a", 0, Some(10)), uploaded("b", 20, Some(30))];
        check(&uploads, (11, 12, "a"), true);
        check(&uploads, (29, 40, "a"), true);
        check(&uploads, (31, 40, "a"), false);
        check(&uploads, (31, 40, "b"), true);
        check(&uploads, (25, 26, "b"), true);
        check(&uploads, (11, 19, "b"), false);
        check(&uploads, (31, 40, "c"), false);
    }

    #[test]
    fn an_upload_in_doubt_may_take_effect_late_or_never() {
        let uploads = [uploaded("a", 0, Some(10)), uploaded("b", 20, None), uploaded("c", 40, Some(50))];
        check(&uploads, (30, 35, "a"), true);
        check(&uploads, (60, 65, "b"), true);
        check(&uploads, (60, 65, "c"), true);
        check(&uploads, (60, 65, "a"), false);
    }

    #[test]
    fn versions_differ() {
        let module = Bytes::from_static(b"\0asm");
        assert_eq!(version(&module, 7), &b"\0asm\0\x0a\x09version 7"[..]);
        assert_ne!(hash(&version(&module, 1)), hash(&version(&module, 2)));
    }
}
