//! What a process has used, as Linux says it in `/proc`.

use crate::failure::Failure;
use std::path::Path;
use std::time::Duration;

/// The unit of times in `/proc/PID/stat`: a hundredth of a second on every Linux that people run.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of all threads of a process.
pub(crate) fn of_process(pid: u32) -> Result<Duration, Failure> {
    read(&format!("/proc/{pid}/stat"), |stat| ticks(stat, [14, 15]))
}

/// CPU time of the children that this program has started and waited for.
pub(crate) fn of_ended_children() -> Result<Duration, Failure> {
    read("/proc/self/stat", |stat| ticks(stat, [16, 17]))
}

/// Resident memory of a process in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64, Failure> {
    read(&format!("/proc/{pid}/status"), resident)
}

fn read<T>(path: &str, pick: impl FnOnce(&str) -> Option<T>) -> Result<T, Failure> {
    let text = std::fs::read_to_string(path).map_err(Failure::file(path))?;
    pick(&text).ok_or_else(|| Failure::Unreadable { path: Path::new(path).to_owned(), text })
}

/// The sum of two fields, counted from 1. The name of the program, field 2, may itself hold spaces.
fn ticks(stat: &str, fields: [usize; 2]) -> Option<Duration> {
    const FIRST_AFTER_NAME: usize = 3;
    let rest: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let field = |number: usize| rest.get(number - FIRST_AFTER_NAME)?.parse::<u32>().ok();
    Some(TICK * (field(fields[0])? + field(fields[1])?))
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_behind_the_name() {
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 7 3 20";
        assert_eq!(ticks(stat, [14, 15]), Some(Duration::from_secs(3)));
        assert_eq!(ticks(stat, [16, 17]), Some(Duration::from_millis(100)));
        assert_eq!(ticks("12 (a) S 1", [14, 15]), None);
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(resident("Name:\ta\nVmRSS:\t   2048 kB\n"), Some(2 * 1024 * 1024));
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_bytes(std::process::id()).expect("Linux") > 0);
    }
}
