//! The size of the window that this machine can afford.

use std::fs;

use crate::limits::{WINDOW_BYTES_DEFAULT_MAX, WINDOW_BYTES_DEFAULT_MIN};

/// The window taken unless another is asked for: a quarter of the memory that is free, or that the process's
/// control group may use, between 64 MiB and 4 GiB. It is an upper bound, filled only while somebody stalls.
#[must_use]
pub fn default_window_bytes() -> u64 {
    let available = available().into_iter().chain(group_limits()).min();
    (available.unwrap_or(0) / 4).clamp(WINDOW_BYTES_DEFAULT_MIN, WINDOW_BYTES_DEFAULT_MAX)
}

/// The memory that can be had without swapping, in bytes, as the kernel reports it.
fn available() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// The memory limits of the process's control group and those above it, of either version.
fn group_limits() -> Vec<u64> {
    let Ok(groups) = fs::read_to_string("/proc/self/cgroup") else { return Vec::new() };
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            c if c.split(',').any(|c| c == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        loop {
            let text = fs::read_to_string(format!("{root}{path}/{file}"));
            limits.extend(text.ok().and_then(|t| t.trim().parse::<u64>().ok()));
            let Some((above, _)) = path.rsplit_once('/') else { break };
            path = above;
        }
    }
    limits
}
