//! What a container has written, as `kubectl logs` asks for it.

use std::io;
use std::str::FromStr;

use bytes::Bytes;
use k8s_openapi::jiff::{Timestamp, ToSpan as _};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom};
use tokio::sync::watch;

use super::container::{Phase, View};
use super::journal::{Journal, Life};

/// Bytes that are read at a time, and the longest line that gets one time.
const BLOCK: usize = 32 * 1024;

/// `PodLogOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    follow: bool,
    previous: bool,
    timestamps: bool,
    since: Option<Timestamp>,
    tail: Option<u64>,
    limit: Option<u64>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{{\"message\": \"Unable to decode query.\"}}")]
    Query,
    #[error("container {container:?} in pod {pod:?} is not available")]
    Unavailable { container: String, pod: String },
    #[error("previous terminated container {container:?} in pod {pod:?} not found")]
    NoPrevious { container: String, pod: String },
    #[error("container {container:?} in pod {pod:?} is waiting to start: {reason}")]
    Waiting { container: String, pod: String, reason: &'static str },
}

impl Options {
    pub(crate) fn parse(query: &str) -> Result<Self, Refusal> {
        let mut options = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let is_set = || !matches!(value.to_lowercase().as_str(), "" | "0" | "false");
            match &*name {
                "follow" => options.follow = is_set(),
                "previous" => options.previous = is_set(),
                "timestamps" => options.timestamps = is_set(),
                "sinceSeconds" => {
                    let seconds: i64 = parse(&value)?;
                    let ago = seconds.seconds();
                    options.since = Some(Timestamp::now().checked_sub(ago).unwrap_or(Timestamp::MIN));
                }
                "sinceTime" => options.since = Some(parse(&value)?),
                "tailLines" => options.tail = Some(parse(&value)?),
                "limitBytes" => options.limit = Some(parse(&value)?),
                _ => {}
            }
        }
        Ok(options)
    }
}

fn parse<T: FromStr>(value: &str) -> Result<T, Refusal> {
    value.parse().map_err(|_| Refusal::Query)
}

/// A container of a pod, and which of its lives is asked about.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) pod: &'a str,
    pub(crate) container: &'a str,
    pub(crate) view: &'a View,
    pub(crate) journal: &'a Journal,
}

impl Asked<'_> {
    /// The life whose output is wanted, counted from the latest (`validateContainerLogStatus` of the kubelet).
    fn life(&self, previous: bool) -> Result<usize, Refusal> {
        let (container, pod) = (self.container.to_owned(), self.pod.to_owned());
        let has_ended_before = self.view.last.is_some();
        let back = match (&self.view.phase, previous) {
            (_, true) if !has_ended_before => return Err(Refusal::NoPrevious { container, pod }),
            (Phase::Waiting { .. }, _) if has_ended_before => 0,
            (Phase::Waiting { reason, .. }, _) => {
                let reason = match *reason {
                    "ErrImagePull" => "image can't be pulled",
                    other => other,
                };
                return Err(Refusal::Waiting { container, pod, reason });
            }
            (Phase::Running { .. } | Phase::Ended(_), previous) => usize::from(previous),
        };
        // One that another kubelet has run is not in this one's books.
        let is_known = self.journal.lives().borrow().len() > back;
        if is_known { Ok(back) } else { Err(Refusal::Unavailable { container, pod }) }
    }

    pub(crate) async fn open(&self, options: &Options) -> Result<io::Result<Log>, Refusal> {
        let back = self.life(options.previous)?;
        let mut lives = self.journal.lives();
        let life = {
            let lives = lives.borrow_and_update();
            lives[lives.len() - 1 - back].clone()
        };
        Ok(Log::open(self.journal, lives, life, options).await)
    }
}

/// A part of a log file that is being read, and grows perhaps.
pub(crate) struct Log {
    file: File,
    place: u64,
    life: Life,
    lives: watch::Receiver<Vec<Life>>,
    /// Where it ends for who does not follow.
    end: Option<u64>,
    left: u64,
    timestamps: bool,
    /// Whether the next byte begins a line.
    at_line: bool,
}

impl Log {
    async fn open(
        journal: &Journal,
        lives: watch::Receiver<Vec<Life>>,
        life: Life,
        options: &Options,
    ) -> io::Result<Self> {
        let mut file = File::open(journal.path()).await?;
        let end = life.end.unwrap_or_else(|| journal.length());
        let mut place = life.start;
        if let Some(since) = options.since {
            place = line_after(&mut file, life.place_at(since), (life.start, end)).await?;
        }
        if let Some(tail) = options.tail {
            place = place.max(tail_of(&mut file, tail, (life.start, end)).await?);
        }
        file.seek(SeekFrom::Start(place)).await?;
        Ok(Self {
            file,
            place,
            end: if options.follow { life.end } else { Some(end) },
            life,
            lives,
            left: options.limit.unwrap_or(u64::MAX),
            timestamps: options.timestamps,
            at_line: true,
        })
    }

    /// The next bytes; none at the end.
    pub(crate) async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.left == 0 {
            return None;
        }
        let block = loop {
            let until = self.end.unwrap_or(u64::MAX).saturating_sub(self.place);
            if until == 0 {
                return None;
            }
            let mut block = vec![0; usize::try_from(until).map_or(BLOCK, |until| until.min(BLOCK))];
            match self.file.read(&mut block).await {
                Err(error) => return Some(Err(error)),
                Ok(0) if self.end.is_some() => return None,
                Ok(0) => self.grown().await,
                Ok(length) => {
                    block.truncate(length);
                    if self.end.is_none() {
                        // What the next life writes, it writes after the end of this one is known.
                        self.look();
                        let own = self.end.unwrap_or(u64::MAX).saturating_sub(self.place);
                        block.truncate(usize::try_from(own).unwrap_or(usize::MAX));
                    }
                    if !block.is_empty() {
                        break block;
                    }
                }
            }
        };
        let mut bytes = if self.timestamps { self.stamp(&block) } else { block.clone() };
        self.place += block.len() as u64;
        bytes.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= bytes.len() as u64;
        Some(Ok(bytes.into()))
    }

    /// Waits until there is more, or nothing more to come.
    async fn grown(&mut self) {
        match self.lives.changed().await {
            Ok(()) => self.look(),
            Err(_) => self.end = Some(self.place),
        }
    }

    fn look(&mut self) {
        let lives = self.lives.borrow_and_update();
        match lives.iter().find(|life| life.start == self.life.start) {
            Some(life) => {
                self.end = life.end;
                if self.timestamps {
                    self.life = life.clone();
                }
            }
            None => self.end = Some(self.place),
        }
    }

    fn stamp(&mut self, block: &[u8]) -> Vec<u8> {
        let mut place = self.place;
        let mut stamped = Vec::with_capacity(block.len() * 2);
        for line in block.split_inclusive(|byte| *byte == b'\n') {
            if self.at_line {
                let time = self.life.time_of(place);
                stamped.extend_from_slice(format!("{time:.9} ").as_bytes());
            }
            stamped.extend_from_slice(line);
            place += line.len() as u64;
            self.at_line = line.ends_with(b"\n");
        }
        stamped
    }
}

/// Where the first line begins that does so at this place or later.
async fn line_after(file: &mut File, place: u64, (start, end): (u64, u64)) -> io::Result<u64> {
    if place <= start {
        return Ok(start);
    }
    // A line that begins here has its predecessor's end before it.
    let mut at = place - 1;
    while at < end {
        let block = read(file, at, end).await?;
        if let Some(found) = block.iter().position(|byte| *byte == b'\n') {
            return Ok(at + found as u64 + 1);
        }
        at += block.len() as u64;
    }
    Ok(end)
}

/// Where the last lines begin.
async fn tail_of(file: &mut File, lines: u64, (start, end): (u64, u64)) -> io::Result<u64> {
    let mut to = end;
    // The end of the last line is none between two of them.
    let mut wanted = lines;
    while to > start && lines > 0 {
        let from = to.saturating_sub(BLOCK as u64).max(start);
        let block = read(file, from, to).await?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let place = from + at as u64 + 1;
            if place == end {
                continue;
            }
            wanted -= 1;
            if wanted == 0 {
                return Ok(place);
            }
        }
        to = from;
    }
    Ok(if lines == 0 { end } else { start })
}

/// At most a block.
async fn read(file: &mut File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut block = vec![0; usize::try_from(to - from).map_or(BLOCK, |length| length.min(BLOCK))];
    file.seek(SeekFrom::Start(from)).await?;
    file.read_exact(&mut block).await?;
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log with two lives, of which the second lasts.
    async fn journal(folder: &std::path::Path) -> Journal {
        let journal = Journal::new(folder.join("log"));
        journal.begin();
        append(&journal, "first\n");
        journal.end();
        journal.begin();
        append(&journal, "a\nbb\nccc\npart");
        journal
    }

    fn append(journal: &Journal, text: &str) {
        use std::io::Write as _;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(journal.path()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn view(phase: Phase, has_ended_before: bool) -> View {
        let now = Timestamp::now();
        let ended = super::super::container::Ended { exit_code: 1, message: None, since: now, until: now };
        View { phase, ..View::waiting(0, has_ended_before.then_some(ended)) }
    }

    fn running() -> Phase {
        Phase::Running { process: rustix::process::getpid(), since: Timestamp::now() }
    }

    async fn read(journal: &Journal, view: &View, query: &str) -> Result<String, Refusal> {
        let asked = Asked { pod: "p", container: "c", view, journal };
        Ok(whole(asked.open(&Options::parse(query)?).await?.unwrap()).await)
    }

    async fn whole(mut log: Log) -> String {
        let mut text = String::new();
        while let Some(block) = log.next().await {
            text.push_str(std::str::from_utf8(&block.unwrap()).unwrap());
        }
        text
    }

    #[tokio::test]
    async fn a_part_of_a_life_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path()).await;
        let check = async |query: &str, expected: &str| {
            let found = read(&journal, &view(running(), true), query).await;
            assert_eq!(found.as_deref(), Ok(expected), "{query}");
        };
        check("", "a\nbb\nccc\npart").await;
        check("previous=true", "first\n").await;
        check("tailLines=1", "part").await;
        check("tailLines=2", "ccc\npart").await;
        check("tailLines=4", "a\nbb\nccc\npart").await;
        check("tailLines=5", "a\nbb\nccc\npart").await;
        check("tailLines=0", "").await;
        check("tailLines=2&limitBytes=3", "ccc").await;
        check("sinceSeconds=3600&tailLines=2", "ccc\npart").await;
        check("previous=true&tailLines=1&follow=true", "first\n").await;
    }

    #[tokio::test]
    async fn long_lines_and_many_blocks_are_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path().join("log"));
        journal.begin();
        let long = format!("{}\n", "x".repeat(3 * BLOCK));
        append(&journal, &format!("one\n{long}two\n{long}"));
        let view = view(running(), false);
        assert_eq!(read(&journal, &view, "tailLines=1").await.unwrap(), long);
        assert_eq!(read(&journal, &view, "tailLines=2").await.unwrap(), format!("two\n{long}"));
        let stamped = read(&journal, &view, "timestamps=true").await.unwrap();
        assert_eq!(stamped.lines().filter(|line| line.contains("Z ")).count(), 4);
        assert_eq!(stamped.matches("Z ").count(), 4);
    }

    #[tokio::test]
    async fn lines_from_before_a_time_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path().join("log"));
        journal.begin();
        append(&journal, "old\nhalf");
        journal.end();
        let between = Timestamp::now();
        append(&journal, " old\nnew\n");
        journal.end();
        let query = format!("sinceTime={between:.9}");
        assert_eq!(read(&journal, &view(running(), false), &query).await.unwrap(), "new\n");
    }

    #[tokio::test]
    async fn a_log_is_followed_until_its_life_ends() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path()).await;
        let view = view(running(), false);
        let asked = Asked { pod: "p", container: "c", view: &view, journal: &journal };
        let options = Options::parse("follow=true&tailLines=1").unwrap();
        let log = asked.open(&options).await.unwrap().unwrap();
        let writing = async {
            append(&journal, "ly\nmore\n");
            tokio::task::yield_now().await;
            append(&journal, "last");
            journal.end();
            journal.begin();
            append(&journal, "another life\n");
        };
        let (found, ()) = tokio::join!(whole(log), writing);
        assert_eq!(found, "partly\nmore\nlast");
    }

    #[tokio::test]
    async fn a_life_that_there_is_none_of_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path()).await;
        let check = async |view: View, query: &str, expected: Result<&str, &str>| {
            let found = read(&journal, &view, query).await.map_err(|refusal| refusal.to_string());
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{view:?} {query}");
        };
        let waiting = |reason| Phase::Waiting { reason, message: None };
        let previous = "previous terminated container \"c\" in pod \"p\" not found";
        check(view(running(), false), "previous=true", Err(previous)).await;
        let start = "container \"c\" in pod \"p\" is waiting to start: ";
        let expected = format!("{start}ContainerCreating");
        check(view(waiting("ContainerCreating"), false), "", Err(&expected)).await;
        let expected = format!("{start}image can't be pulled");
        check(view(waiting("ErrImagePull"), false), "", Err(&expected)).await;
        // While it waits to be started again, its latest life is asked about, and is the previous one, too.
        let latest = Ok("a\nbb\nccc\npart");
        check(view(waiting("CrashLoopBackOff"), true), "", latest).await;
        check(view(waiting("CrashLoopBackOff"), true), "previous=true", latest).await;
        assert_eq!(Options::parse("tailLines=x"), Err(Refusal::Query));
        let empty = Journal::new(folder.path().join("none"));
        let refused = read(&empty, &view(waiting("CrashLoopBackOff"), true), "").await;
        assert!(matches!(refused, Err(Refusal::Unavailable { .. })), "{refused:?}");
    }
}
