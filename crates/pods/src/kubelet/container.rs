//! One container: its process started, probed, restarted after a while, and stopped.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use rustix::process::Pid;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Host;
use super::journal::Journal;
use super::last_words::last_words;
use super::probe::{Probe, Verdict};
use super::process::Process;
use crate::controller::Events;

/// A container that ran so long before it ended is restarted at once again.
const STABLE: Duration = Duration::from_secs(600);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);
/// What a shell says of a program that cannot be started.
const CANNOT_START: i32 = 128;

/// All that a container's processes are started with.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) command: Vec<String>,
    pub(crate) arguments: Vec<String>,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) folder: PathBuf,
    pub(crate) journal: Journal,
    /// What it says last is the message of a process that fails.
    pub(crate) falls_back_to_log: bool,
    pub(crate) restart: Restart,
    pub(crate) grace: Duration,
    pub(crate) startup: Option<Probe>,
    pub(crate) liveness: Option<Probe>,
    pub(crate) readiness: Option<Probe>,
    pub(crate) pod: ObjectReference,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    Always,
    OnFailure,
    Never,
}

impl Restart {
    fn after(self, ended: &Ended) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => ended.exit_code != 0,
            Self::Never => false,
        }
    }
}

/// A process that is no more.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ended {
    pub(crate) exit_code: i32,
    pub(crate) message: Option<String>,
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Phase {
    Waiting { reason: &'static str, message: Option<String> },
    Running { process: Pid, since: Timestamp },
    Ended(Ended),
}

/// What is known of a container.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    pub(crate) phase: Phase,
    pub(crate) last: Option<Ended>,
    pub(crate) restarts: i32,
    pub(crate) is_started: bool,
    pub(crate) is_ready: bool,
}

impl View {
    pub(crate) fn waiting(restarts: i32, last: Option<Ended>) -> Self {
        let phase = Phase::Waiting { reason: "ContainerCreating", message: None };
        Self { phase, last, restarts, is_started: false, is_ready: false }
    }
}

/// One container's place among those of its pod.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) views: watch::Sender<Vec<View>>,
    pub(crate) at: usize,
}

impl Slot {
    fn update(&self, change: impl FnOnce(&mut View)) {
        self.views.send_if_modified(|views| {
            let before = views[self.at].clone();
            change(&mut views[self.at]);
            views[self.at] != before
        });
    }

    fn wait(&self, reason: &'static str, message: String) {
        self.update(|view| view.phase = Phase::Waiting { reason, message: Some(message) });
    }

    /// Until the container has got through its start.
    async fn started(&self) {
        let mut views = self.views.subscribe();
        let started = views.wait_for(|views| views[self.at].is_started).await;
        started.expect("this slot keeps the channel open");
    }
}

/// When the container must have ended; none while it is to run.
pub(crate) type Deadline = watch::Receiver<Option<Instant>>;

/// Runs until the container is stopped, or ends for good.
pub(crate) async fn supervise(host: Arc<Host>, launch: Launch, slot: Slot, mut deadline: Deadline) {
    let mut back_off = BackOff { next: Duration::ZERO, first: host.back_off };
    loop {
        let begun = Instant::now();
        let Some(ended) = run(&host, &launch, &slot, &mut deadline).await else { return };
        slot.update(|view| {
            view.phase = Phase::Ended(ended.clone());
            (view.is_started, view.is_ready) = (false, false);
        });
        if deadline.borrow().is_some() || !launch.restart.after(&ended) {
            return;
        }
        let delay = back_off.after(begun.elapsed());
        if !delay.is_zero() {
            let message =
                format!("back-off {}s restarting failed container={}", delay.as_secs(), launch.name);
            let note = format!("Back-off restarting failed container {}", launch.name);
            host.context.events.warning(launch.pod.clone(), "BackOff", &note);
            slot.update(|view| view.last = Some(ended.clone()));
            slot.wait("CrashLoopBackOff", message);
        }
        tokio::select! {
            () = sleep(delay) => {}
            _ = deadline.wait_for(Option::is_some) => return,
        }
        slot.update(|view| {
            view.last = Some(ended);
            view.restarts += 1;
        });
    }
}

/// The first restart is at once, then each waits twice as long as the one before.
struct BackOff {
    next: Duration,
    first: Duration,
}

impl BackOff {
    fn after(&mut self, lived: Duration) -> Duration {
        if lived >= STABLE {
            self.next = Duration::ZERO;
        }
        let delay = self.next;
        self.next = if delay.is_zero() { self.first } else { (delay * 2).min(LONGEST_BACK_OFF) };
        delay
    }
}

/// One process, from its start to its end; none if the container is stopped before there is one.
async fn run(host: &Host, launch: &Launch, slot: &Slot, deadline: &mut Deadline) -> Option<Ended> {
    let program = tokio::select! {
        program = find(host, launch, slot) => program,
        _ = deadline.wait_for(Option::is_some) => return None,
    };
    let since = Timestamp::now();
    launch.journal.begin();
    let started = match command(launch, &program) {
        Ok(command) => host.spawner.spawn(command).await,
        Err(error) => Err(error),
    };
    let mut process = match started {
        Ok(process) => process,
        Err(error) => {
            let message = Some(format!("{program}: {error}"));
            host.context.events.warning(launch.pod.clone(), "Failed", &format!("Error: {program}: {error}"));
            launch.journal.end();
            return Some(Ended { exit_code: CANNOT_START, message, since, until: Timestamp::now() });
        }
    };
    if let Some(id) = process.id() {
        slot.update(|view| view.phase = Phase::Running { process: id, since });
    }
    host.context.events.normal(launch.pod.clone(), "Started", &format!("Started container {}", launch.name));
    let exit_code = tokio::select! {
        exit_code = look_after(host, launch, slot, deadline, &mut process) => exit_code,
        never = launch.journal.keep() => match never {},
    };
    launch.journal.end();
    let says_why = launch.falls_back_to_log && exit_code != 0;
    let message = if says_why {
        launch.journal.start().and_then(|start| last_words(launch.journal.path(), start))
    } else {
        None
    };
    Some(Ended { exit_code, message, since, until: Timestamp::now() })
}

async fn look_after(
    host: &Host,
    launch: &Launch,
    slot: &Slot,
    deadline: &mut Deadline,
    process: &mut Process,
) -> i32 {
    let events = &host.context.events;
    let mut readiness = std::pin::pin!(watch_readiness(events, launch, slot));
    let mut end = tokio::select! {
        ended = process.wait() => return exit_code(ended),
        never = &mut readiness => match never {},
        kind = watch_health(events, launch, slot) => {
            let note = format!("Container {} failed {kind} probe, will be restarted", launch.name);
            events.normal(launch.pod.clone(), "Killing", &note);
            Instant::now() + launch.grace
        }
        end = wanted(deadline) => end,
    };
    process.terminate();
    loop {
        tokio::select! {
            ended = process.wait() => return exit_code(ended),
            never = &mut readiness => match never {},
            () = sleep_until(end) => {
                process.kill();
                return exit_code(process.wait().await);
            }
            Ok(()) = deadline.changed() => end = deadline.borrow().map_or(end, |sooner| sooner.min(end)),
        }
    }
}

async fn wanted(deadline: &mut Deadline) -> Instant {
    match deadline.wait_for(Option::is_some).await.map(|deadline| *deadline) {
        Ok(Some(end)) => end,
        // Who would say so is gone.
        _ => Instant::now(),
    }
}

/// Probes of readiness go on while the container is being stopped.
async fn watch_readiness(events: &Events, launch: &Launch, slot: &Slot) -> Infallible {
    slot.started().await;
    let Some(probe) = launch.readiness.clone() else {
        slot.update(|view| view.is_ready = true);
        return std::future::pending().await;
    };
    let mut rounds = probe.start();
    loop {
        let verdict = rounds.next(|failure| unhealthy(events, launch, "Readiness", failure)).await;
        if let Some(verdict) = verdict {
            slot.update(|view| view.is_ready = verdict == Verdict::Good);
        }
    }
}

/// Ends with the kind of probe that has failed for good.
async fn watch_health(events: &Events, launch: &Launch, slot: &Slot) -> &'static str {
    if let Some(probe) = launch.startup.clone() {
        let mut rounds = probe.start();
        loop {
            match rounds.next(|failure| unhealthy(events, launch, "Startup", failure)).await {
                Some(Verdict::Good) => break,
                Some(Verdict::Bad) => return "startup",
                None => {}
            }
        }
    }
    slot.update(|view| view.is_started = true);
    let Some(probe) = launch.liveness.clone() else { return std::future::pending().await };
    let mut rounds = probe.start();
    loop {
        let verdict = rounds.next(|failure| unhealthy(events, launch, "Liveness", failure)).await;
        if verdict == Some(Verdict::Bad) {
            return "liveness";
        }
    }
}

fn unhealthy(events: &Events, launch: &Launch, kind: &str, failure: &super::probe::Failure) {
    events.warning(launch.pod.clone(), "Unhealthy", &format!("{kind} probe failed: {failure}"));
}

/// The program that stands for the image, or for a command that is no part of it; waits for images that are not there.
async fn find(host: &Host, launch: &Launch, slot: &Slot) -> String {
    let mut images = host.images.subscribe();
    loop {
        if let Some(program) =
            super::image::program(&images.borrow_and_update(), &launch.image, &launch.command)
        {
            return program;
        }
        let message = format!("no program stands for image \"{}\"", launch.image);
        host.context.events.warning(launch.pod.clone(), "Failed", &message);
        slot.wait("ErrImagePull", message);
        images.changed().await.expect("the cluster keeps the images");
    }
}

fn command(launch: &Launch, program: &str) -> io::Result<Command> {
    if let Some(folder) = launch.journal.path().parent() {
        std::fs::create_dir_all(folder)?;
    }
    let log = OpenOptions::new().create(true).append(true).open(launch.journal.path())?;
    let mut command = Command::new(program);
    command
        .args(launch.command.iter().skip(1))
        .args(&launch.arguments)
        .env_clear()
        .envs(&launch.variables)
        .current_dir(&launch.folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(command)
}

fn exit_code(ended: io::Result<ExitStatus>) -> i32 {
    const UNKNOWN: i32 = 255;
    ended.ok().and_then(|status| status.code().or_else(|| Some(128 + status.signal()?))).unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_wait_longer_and_longer_until_a_process_lives() {
        let second = Duration::from_secs(1);
        let mut back_off = BackOff { next: Duration::ZERO, first: second };
        let delays: Vec<u64> = (0..12).map(|_| back_off.after(second).as_secs()).collect();
        assert_eq!(delays, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(back_off.after(STABLE), Duration::ZERO);
        assert_eq!(back_off.after(second), second);
    }
}
