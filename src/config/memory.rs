//! How much memory this process may use: the machine's, or less if its cgroup says so.

use std::fs;

/// Bytes of memory; `None` if the system does not tell.
pub(super) fn available() -> Option<u64> {
    let machine = machine(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let cgroup = limits.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).min();
    Some(cgroup.map_or(machine, |cgroup: u64| cgroup.min(machine)))
}

fn machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read_from_meminfo() {
        assert_eq!(machine("MemTotal:       24689764 kB\nMemFree: 1 kB\n"), Some(24_689_764 * 1024));
        assert_eq!(machine("MemFree: 1 kB\n"), None);
        assert!(available().unwrap() > 1 << 20);
    }
}
