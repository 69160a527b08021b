//! What a machine looks like from outside: taken before and after, it proves that nothing of a lab stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
    process::Command,
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{
    process::{ProcessId, read_text},
    run::{self, RunError},
};

/// A part of what a machine looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Aspect {
    /// Network links.
    Links,
    /// Addresses of links.
    Addresses,
    /// Routes of all tables.
    Routes,
    /// Rules that choose a table.
    Rules,
    /// The nftables ruleset, without what counts.
    Nftables,
    /// Mounts.
    Mounts,
    /// Cgroups of all hierarchies.
    Cgroups,
    /// Namespaces that a process is in.
    Namespaces,
    /// Processes, without the kernel's and those that have ended.
    Processes,
    /// Settings of the whole machine that parts of Kubernetes are known to change.
    Settings,
    /// Entries of folders that parts of Kubernetes are known to write to.
    Files,
}

/// What a machine looks like. The network is that of the caller's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSnapshot(BTreeMap<Aspect, BTreeSet<String>>);

/// What one snapshot has and another has not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference(Vec<(Aspect, Change, String)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Gone,
    New,
}

const FOLDERS: [&str; 13] = [
    "/etc/cni",
    "/opt",
    "/run",
    "/run/netns",
    "/tmp",
    "/usr/libexec",
    "/var/lib",
    "/var/lib/cni",
    "/var/lib/containers",
    "/var/log",
    "/var/log/containers",
    "/var/log/pods",
    "/var/tmp",
];

const SETTINGS: [&str; 14] = [
    "fs/inotify/max_user_instances",
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/conf/all/forwarding",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/default/rp_filter",
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/netfilter/nf_conntrack_max",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "vm/max_map_count",
];

impl HostSnapshot {
    /// Looks at the machine.
    ///
    /// # Errors
    /// When `ip` or `nft` fail.
    pub fn take() -> Result<Self, RunError> {
        let ip = |arguments: &str| printed(Command::new("ip").args(arguments.split(' ')));
        let routes = [ip("-4 route show table all")?, ip("-6 route show table all")?].concat();
        let rules = [ip("-4 rule")?, ip("-6 rule")?].concat();
        Ok(Self(BTreeMap::from([
            (Aspect::Links, lines(&ip("-oneline link")?)),
            (Aspect::Addresses, lines(&ip("-oneline address")?)),
            (Aspect::Routes, lines(&routes)),
            (Aspect::Rules, lines(&rules)),
            (Aspect::Nftables, lines(&printed(Command::new("nft").args(["list", "ruleset"]))?)),
            (Aspect::Mounts, mounts()),
            (Aspect::Cgroups, cgroups()),
            (Aspect::Namespaces, namespaces()),
            (Aspect::Processes, processes()),
            (Aspect::Settings, SETTINGS.iter().filter_map(|name| setting(name)).collect()),
            (Aspect::Files, FOLDERS.iter().flat_map(|folder| entries(Path::new(folder))).collect()),
        ])))
    }

    /// What has come and gone from this snapshot to a later one.
    pub fn difference(&self, later: &Self) -> Difference {
        let none = BTreeSet::new();
        let of = |snapshot: &Self, aspect| snapshot.0.get(&aspect).unwrap_or(&none).clone();
        let aspects = self.0.keys().chain(later.0.keys()).collect::<BTreeSet<_>>();
        let changes = aspects.into_iter().flat_map(|aspect| {
            let (before, after) = (of(self, *aspect), of(later, *aspect));
            let gone = before.difference(&after).map(|item| (*aspect, Change::Gone, item.clone())).collect::<Vec<_>>();
            let new = after.difference(&before).map(|item| (*aspect, Change::New, item.clone())).collect::<Vec<_>>();
            gone.into_iter().chain(new)
        });
        Difference(changes.collect())
    }
}

impl Difference {
    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The changes that somebody can have left: that a process ended, and its namespaces with it, is no trace of anyone.
    #[must_use]
    pub fn left_behind(self) -> Self {
        let ended = |aspect| matches!(aspect, Aspect::Processes | Aspect::Namespaces);
        Self(self.0.into_iter().filter(|(aspect, change, _)| *change == Change::New || !ended(*aspect)).collect())
    }

    /// The changes of which `keep` is true: on a machine where others work too, those that can be one's own.
    #[must_use]
    pub fn filtered(self, keep: impl Fn(Aspect, &str) -> bool) -> Self {
        Self(self.0.into_iter().filter(|(aspect, _, item)| keep(*aspect, item)).collect())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (aspect, change, item) in &self.0 {
            let sign = if *change == Change::New { '+' } else { '-' };
            writeln!(f, "{sign} {}: {item}", format!("{aspect:?}").to_lowercase())?;
        }
        Ok(())
    }
}

fn printed(command: &mut Command) -> Result<String, RunError> {
    Ok(String::from_utf8_lossy(&run::run(command)?.stdout).into_owned())
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(stable).filter(|line| !line.is_empty()).collect()
}

/// A line without the words that change by themselves: counters and lifetimes.
fn stable(line: &str) -> String {
    const CHANGING: [&str; 6] = ["packets", "bytes", "expires", "valid_lft", "preferred_lft", "age"];
    let mut words = Vec::new();
    let mut skip = false;
    for word in line.split_whitespace() {
        if skip {
            skip = false;
        } else if CHANGING.contains(&word) {
            skip = true;
        } else {
            words.push(word);
        }
    }
    words.join(" ")
}

fn mounts() -> BTreeSet<String> {
    read_text(Path::new("/proc/self/mountinfo")).unwrap_or_default().lines().filter_map(mount).collect()
}

/// Mount point, type and source of a line of `/proc/self/mountinfo`; its numbers are given anew at each mount.
fn mount(line: &str) -> Option<String> {
    let (left, right) = line.split_once(" - ")?;
    let point = left.split(' ').nth(4)?;
    let mut kind = right.split(' ');
    Some(format!("{point} {} {}", kind.next()?, kind.next()?))
}

fn cgroups() -> BTreeSet<String> {
    let mounts = read_text(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let points = mounts.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    let mut found = BTreeSet::new();
    for point in points {
        folders(Path::new(point), &mut found);
    }
    found
}

fn folders(folder: &Path, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        found.insert(entry.path().display().to_string());
        folders(&entry.path(), found);
    }
}

fn pids() -> impl Iterator<Item = ProcessId> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(ProcessId::of))
}

/// The kernel's own threads have no command line and come and go with its work.
fn processes() -> BTreeSet<String> {
    let describe = |id: ProcessId| {
        let words = fs::read(format!("/proc/{}/cmdline", id.pid)).ok()?;
        let line: String =
            String::from_utf8_lossy(&words).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Some(format!("{} (started {}) {}", id.pid, id.started, line.trim())).filter(|_| !words.is_empty())
    };
    // Who looks is not what is looked at.
    pids().filter(|id| id.pid.unsigned_abs() != std::process::id()).filter_map(describe).collect()
}

fn namespaces() -> BTreeSet<String> {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
    let of = |id: ProcessId| kinds.map(|kind| fs::read_link(format!("/proc/{}/ns/{kind}", id.pid)).ok());
    pids().flat_map(of).flatten().map(|link| link.display().to_string()).collect()
}

fn setting(name: &str) -> Option<String> {
    Some(format!("{name} = {}", read_text(&Path::new("/proc/sys").join(name))?.trim()))
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path().display().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_lifetimes_are_not_part_of_a_line() {
        assert_eq!(stable("  counter packets 5 bytes 300 accept"), "counter accept");
        assert_eq!(stable("inet6 fe80::1/64 valid_lft forever preferred_lft 55sec"), "inet6 fe80::1/64");
    }

    #[test]
    fn a_difference_says_what_came_and_what_went() {
        let snapshot = |items: &[&str]| {
            HostSnapshot(BTreeMap::from([(Aspect::Links, items.iter().map(|item| (*item).to_owned()).collect())]))
        };
        let difference = snapshot(&["lo", "a"]).difference(&snapshot(&["lo", "b"]));
        assert_eq!(difference.to_string(), "- links: a\n+ links: b\n");
        assert!(snapshot(&["lo"]).difference(&snapshot(&["lo"])).is_empty());
    }

    #[test]
    fn a_snapshot_survives_being_written_down() {
        let snapshot = HostSnapshot::take().unwrap();
        let text = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<HostSnapshot>(&text).unwrap(), snapshot);
        assert!(snapshot.0[&Aspect::Links].iter().any(|link| link.contains("lo:")));
    }
}
