//! What a container has written last: its termination message under the policy `FallbackToLogsOnError`.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// As in a kubelet.
const BYTES: u64 = 2048;
const LINES: usize = 80;

/// The end of what stands in the log behind this position; nothing if that is nothing.
pub(super) fn last_words(log: &Path, from: u64) -> Option<String> {
    let text = tail(log, from).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
    (!last.is_empty()).then_some(last)
}

fn tail(log: &Path, from: u64) -> io::Result<String> {
    let mut log = File::open(log)?;
    let end = log.metadata()?.len();
    log.seek(SeekFrom::Start(from.max(end.saturating_sub(BYTES))))?;
    let mut bytes = Vec::new();
    log.take(BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_this_life_s_log_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "before\nnow\n").unwrap();
        assert_eq!(last_words(&log, 7).as_deref(), Some("now"));
        assert_eq!(last_words(&log, 11), None);
        assert_eq!(last_words(&folder.path().join("none"), 0), None);
        std::fs::write(&log, "x".repeat(3000)).unwrap();
        assert_eq!(last_words(&log, 0).map(|text| text.len()), Some(2048));
        std::fs::write(&log, "l\n".repeat(100)).unwrap();
        assert_eq!(last_words(&log, 0).map(|text| text.lines().count()), Some(80));
    }
}
