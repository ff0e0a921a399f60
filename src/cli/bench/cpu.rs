//! CPU time of this process and of others.

use std::time::Duration;

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};

pub(super) fn own() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // Never negative, and nanoseconds are below a second.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// User and system time as the kernel counts them.
pub(super) fn of_process(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path)
        .with_context(|| format!("{path} cannot be read: does process {pid} run?"))?;
    let ticks = ticks(&stat).with_context(|| format!("{path} has an unknown form"))?;
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

/// The 14th and the 15th field. The second, the program's name in parentheses, may have spaces and parentheses itself.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let (user, system) = (fields.next()?, fields.next()?);
    Some(user.parse::<u64>().ok()? + system.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_may_look_like_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("7 (a"), None);
    }

    #[test]
    fn time_of_this_process_goes_on() {
        let before = own();
        let mut sum = 0_u64;
        while own() == before {
            sum = sum.wrapping_add(1);
        }
        assert!(own() > before, "{sum}");
        of_process(std::process::id()).unwrap();
    }
}
