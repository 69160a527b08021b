//! What the machine must have before a lab is begun.

use std::{env, fs, path::Path};

use crate::{lab::LabError, process::read_text};

/// Programs that the lab calls, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 9] = [
    ("buildah", "buildah"),
    ("cp", "coreutils"),
    ("debootstrap", "debootstrap"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("nsenter", "util-linux"),
    ("runc", "runc"),
    ("unshare", "util-linux"),
];

/// Looks for root's rights and for programs.
///
/// # Errors
/// What is missing, and where it is to be had.
pub fn check() -> Result<(), LabError> {
    if !rustix::process::geteuid().is_root() {
        return Err(LabError::NotRoot);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    let present =
        |program: &str| folders.iter().any(|folder: &std::path::PathBuf| Path::new(folder).join(program).is_file());
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, _)| !present(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = |names: Vec<&str>, separator| names.join(separator);
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    Err(LabError::Programs {
        programs: list(missing.iter().map(|(program, _)| *program).collect(), ", "),
        packages: list(packages, " "),
    })
}

/// inotify instances of a node with its agent, and of the control plane, as counted; all of a machine's labs share root's allowance.
const INSTANCES_PER_NODE: usize = 12;
const INSTANCES_OF_CONTROL_PLANE: usize = 10;

/// Looks whether there are inotify instances for another lab of so many nodes, or, with `control_plane` false, for more
/// nodes: programs that get none end with "too many open files", which says little.
///
/// # Errors
/// When the kernel's limit would be passed.
pub fn check_inotify(nodes: u8, control_plane: bool) -> Result<(), LabError> {
    let file = Path::new("/proc/sys/fs/inotify/max_user_instances");
    let limit = read_text(file).and_then(|text| text.trim().parse().ok()).unwrap_or(usize::MAX);
    let needed = usize::from(nodes) * INSTANCES_PER_NODE + if control_plane { INSTANCES_OF_CONTROL_PLANE } else { 0 };
    let used = inotify_instances();
    if used + needed <= limit { Ok(()) } else { Err(LabError::Inotify { used, needed, limit }) }
}

fn inotify_instances() -> usize {
    let entries =
        |path: &Path| fs::read_dir(path).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let files = entries(Path::new("/proc")).flat_map(|process| entries(&process.join("fd")).collect::<Vec<_>>());
    files.filter(|file| fs::read_link(file).is_ok_and(|target| target == Path::new("anon_inode:inotify"))).count()
}
