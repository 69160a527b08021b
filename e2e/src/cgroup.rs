//! The lab's cgroups: one tree per lab in every mounted hierarchy, version 1, 2 or both.
//!
//! All processes of a lab live below `/towpath-lab-NAME`, containers and their shims too, so the tree is the
//! complete list of what there is to end, also after the lab's own records were lost.
//!
//! ```text
//! /towpath-lab-NAME/NODE/system    what the lab starts on the node
//! /towpath-lab-NAME/NODE/kubepods  the kubelet's: its cgroupRoot is /towpath-lab-NAME/NODE
//! ```
//! Processes are in leaves only, as version 2 demands (kernel's cgroup-v2.rst, "No Internal Process Constraint").

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::{config::LabName, process::read_text};

/// Why cgroups cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No hierarchy is mounted.
    #[error("no cgroup hierarchy is mounted: mount cgroup2 on /sys/fs/cgroup")]
    None,
    /// A file operation failed.
    #[error("{operation} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Processes survive SIGKILL.
    #[error("processes of cgroup {name} do not end: {pids:?}")]
    Survivors {
        /// The tree.
        name: String,
        /// Their ids.
        pids: Vec<i32>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

#[derive(Debug, Clone)]
struct Hierarchy {
    mount: PathBuf,
    version: Version,
}

/// The cgroups of one lab.
#[derive(Debug, Clone)]
pub struct CgroupTree {
    name: String,
    hierarchies: Vec<Hierarchy>,
}

const PREFIX: &str = "towpath-lab-";
const END: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::Io { operation, path, source }
}

fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let version = match right.split(' ').next()? {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        Some(Hierarchy { mount: left.split(' ').nth(4)?.into(), version })
    };
    mountinfo.lines().filter_map(parse).collect()
}

/// The names of all labs that have cgroups.
pub fn labs() -> Vec<LabName> {
    let Ok(text) = fs::read_to_string("/proc/self/mountinfo") else { return Vec::new() };
    let mut names = BTreeSet::new();
    for hierarchy in hierarchies(&text) {
        names.extend(
            children(&hierarchy.mount)
                .iter()
                .filter_map(|path| path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse::<LabName>().ok()),
        );
    }
    names.into_iter().collect()
}

impl CgroupTree {
    /// The tree of a lab; nothing is created yet.
    ///
    /// # Errors
    /// When no hierarchy is mounted.
    pub fn of(lab: &LabName) -> Result<Self, CgroupError> {
        let file = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(file).map_err(failed("read", file))?;
        let hierarchies = hierarchies(&text);
        if hierarchies.is_empty() {
            return Err(CgroupError::None);
        }
        Ok(Self { name: format!("{PREFIX}{lab}"), hierarchies })
    }

    /// The path that a kubelet takes as its cgroup root, the same in every hierarchy.
    pub fn root_of(&self, space: &str) -> String {
        format!("/{}/{space}", self.name)
    }

    /// Creates the cgroups of one space and returns the files through which a process joins them.
    ///
    /// # Errors
    /// The folder or file that the kernel refused.
    pub fn create(&self, space: &str) -> Result<Vec<PathBuf>, CgroupError> {
        let levels = [self.name.as_str(), space, "system"];
        let join = |hierarchy: &Hierarchy| {
            let mut path = hierarchy.mount.clone();
            for level in levels {
                hierarchy.delegate(&path);
                path.push(level);
                hierarchy.make(&path)?;
            }
            Ok(path.join("cgroup.procs"))
        };
        self.hierarchies.iter().map(join).collect()
    }

    /// The processes in the tree, or below one space of it.
    pub fn processes(&self, space: Option<&str>) -> BTreeSet<i32> {
        let mut pids = BTreeSet::new();
        for folder in self.folders(space) {
            collect(&folder, &mut pids);
        }
        pids
    }

    /// Ends every process below the tree or one space of it, then removes the cgroups. Nothing there is success.
    ///
    /// # Errors
    /// Processes that stay, or a cgroup that cannot be removed.
    pub fn destroy(&self, space: Option<&str>) -> Result<(), CgroupError> {
        self.kill(space)?;
        let deadline = Instant::now() + END;
        for folder in self.folders(space) {
            while let Err(error) = remove(&folder) {
                if Instant::now() > deadline {
                    return Err(error);
                }
                self.kill(space)?;
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    fn kill(&self, space: Option<&str>) -> Result<(), CgroupError> {
        let deadline = Instant::now() + END;
        loop {
            let pids = self.processes(space);
            if pids.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let pids = pids.into_iter().collect();
                return Err(CgroupError::Survivors { name: self.name.clone(), pids });
            }
            end_one(pids.into_iter().filter_map(Pid::from_raw));
        }
    }

    fn folders(&self, space: Option<&str>) -> Vec<PathBuf> {
        let below =
            |h: &Hierarchy| space.map_or_else(|| h.mount.join(&self.name), |s| h.mount.join(&self.name).join(s));
        self.hierarchies.iter().map(below).collect()
    }
}

/// Kills processes, and waits until the first of them has ended, or for a moment.
fn end_one(pids: impl Iterator<Item = Pid>) {
    // Of one that has ended meanwhile there is nothing to be had: that is what is wanted.
    let running: Vec<OwnedFd> = pids
        .filter_map(|pid| {
            let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
            pidfd_send_signal(&process, Signal::KILL).ok()?;
            Some(process)
        })
        .collect();
    let mut ends: Vec<PollFd<'_>> = running.iter().map(|process| PollFd::new(process, PollFlags::IN)).collect();
    // What interrupts it, or its end, is followed by another look.
    let pause = Timespec { tv_sec: 0, tv_nsec: PAUSE.subsec_nanos().into() };
    let _looked = poll(&mut ends, Some(&pause));
}

impl Hierarchy {
    /// Lets the children of a cgroup use all controllers. A controller that the machine keeps for itself is
    /// left out; the kubelet names the one that it misses.
    fn delegate(&self, path: &Path) {
        if self.version == Version::V2 {
            let controllers = read_text(&path.join("cgroup.controllers")).unwrap_or_default();
            for controller in controllers.split_whitespace() {
                drop(fs::write(path.join("cgroup.subtree_control"), format!("+{controller}")));
            }
        }
    }

    fn make(&self, path: &Path) -> Result<(), CgroupError> {
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("create cgroup", path)(error));
            }
            _ => {}
        }
        if self.version == Version::V1 {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                inherit(path, file)?;
            }
        }
        Ok(())
    }
}

/// A new cpuset of version 1 is empty and takes no process; it gets what its parent has.
fn inherit(path: &Path, file: &str) -> Result<(), CgroupError> {
    let own = path.join(file);
    let Some(parent) = path.parent().and_then(|parent| read_text(&parent.join(file))) else { return Ok(()) };
    if read_text(&own).is_some_and(|value| value.trim().is_empty()) {
        fs::write(&own, parent.trim()).map_err(failed("write", &own))?;
    }
    Ok(())
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let folders = entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

fn collect(folder: &Path, pids: &mut BTreeSet<i32>) {
    let text = read_text(&folder.join("cgroup.procs")).unwrap_or_default();
    // A process of another pid namespace reads as 0.
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    for child in children(folder) {
        collect(&child, pids);
    }
}

fn remove(folder: &Path) -> Result<(), CgroupError> {
    for child in children(folder) {
        remove(&child)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove cgroup", folder)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found_in_a_hybrid_mount_table() {
        let table = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                     41 31 0:38 / /sys/fs/cgroup/unified rw shared:1 - cgroup2 cgroup2 rw\n\
                     42 31 0:39 / /proc rw - proc proc rw\n";
        let found = hierarchies(table);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].version, found[1].version), (Version::V1, Version::V2));
        assert_eq!(found[1].mount, Path::new("/sys/fs/cgroup/unified"));
    }
}
