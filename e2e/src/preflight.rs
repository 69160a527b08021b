//! What the machine must have before a lab is begun.

use std::{env, path::Path};

use crate::lab::LabError;

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
