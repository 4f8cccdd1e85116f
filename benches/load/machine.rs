//! The machine: its cores, and its statistics of a process.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Returns the two cores that everything is pinned to: a pair, or the same one twice on a machine with one core.
pub(crate) const SERVER_CORE: usize = 0;
pub(crate) const CALLER_CORE: usize = 1;

/// Pins this thread, and what it starts, to that core.
pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    if let Err(error) = sched_setaffinity(None, &set) {
        crate::warn(&format!("cannot pin to core {core}: {error}"));
    }
}

/// Raises the limit of descriptors for this process and what it starts.
pub(crate) fn raise_descriptors(count: u64) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= count);
    if enough(limit.current) {
        return Ok(());
    }
    let maximum = if enough(limit.maximum) {
        limit.maximum
    } else {
        Some(count)
    };
    let current = Some(count);
    Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
}

/// Returns a value of `/proc/PID/status` in KiB, or without a unit.
pub(crate) fn status(pid: u32, name: &str) -> Option<u64> {
    number_after(
        &fs::read_to_string(format!("/proc/{pid}/status")).ok()?,
        name,
    )
}

/// Returns a value of `/proc/PID/smaps_rollup` in KiB.
pub(crate) fn memory(pid: u32, name: &str) -> Option<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    number_after(&fs::read_to_string(path).ok()?, name)
}

/// Returns the voluntary context switches of all threads of a process: the number of wake-ups.
pub(crate) fn sleeps(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let of_task = |path: std::path::PathBuf| {
        let text = fs::read_to_string(path.join("status")).ok()?;
        number_after(&text, "voluntary_ctxt_switches")
    };
    tasks.filter_map(|task| of_task(task.path())).sum()
}

/// Returns the processor time of a process in nanoseconds.
pub(crate) fn processor_time(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let of_task = |path: std::path::PathBuf| {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    tasks.filter_map(|task| of_task(task.path())).sum()
}

/// Returns the number of a process's open descriptors.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Describes the machine in one line, for readers of the figures.
pub(crate) fn description() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value
            .map_or("unknown", |(_, value)| value.trim())
            .to_owned()
    };
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor"));
    let kernel = read("/proc/sys/kernel/osrelease");
    let virtual_machine = if field("flags").split(' ').any(|flag| flag == "hypervisor") {
        ", a virtual machine"
    } else {
        ""
    };
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?");
    format!(
        "{} ({} cores{virtual_machine}), Linux {}, load {load} at the start",
        field("model name"),
        cores.count(),
        kernel.trim()
    )
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    let line = lines.find(|line| line.split_once(':').is_some_and(|(key, _)| key == name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
