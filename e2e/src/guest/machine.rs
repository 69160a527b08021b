//! What differs between processor architectures, in one table.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::GuestError;

/// How a package's kernel is booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Image {
    /// An x86 boot image; its payload is unpacked and entered directly (PVH), which spares the emulation of unpacking it.
    BootProtocol,
    /// As it is.
    Plain,
}

/// A processor architecture.
#[derive(Debug)]
pub(super) struct Machine {
    /// As Rust names it.
    architecture: &'static str,
    /// The emulator.
    pub(super) emulator: &'static str,
    /// The Debian package that has it.
    package: &'static str,
    /// The emulator's model of a computer.
    pub(super) model: &'static str,
    /// The kernel's name for the first serial port.
    pub(super) console: &'static str,
    /// Debian packages that depend on the newest kernel, the wanted ones first: Debian 12 has 6.12 beside its own.
    pub(super) kernels: [&'static str; 2],
    /// How that is booted.
    pub(super) image: Image,
}

const MACHINES: [Machine; 2] = [
    Machine {
        architecture: "x86_64",
        emulator: "qemu-system-x86_64",
        package: "qemu-system-x86",
        model: "q35",
        console: "ttyS0",
        kernels: ["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"],
        image: Image::BootProtocol,
    },
    Machine {
        architecture: "aarch64",
        emulator: "qemu-system-aarch64",
        package: "qemu-system-arm",
        model: "virt",
        console: "ttyAMA0",
        kernels: ["linux-image-6.12-cloud-arm64", "linux-image-cloud-arm64"],
        image: Image::Plain,
    },
];

impl Machine {
    /// The one that this program runs on: what runs in the guest are the host's programs.
    pub(super) fn own() -> Result<&'static Self, GuestError> {
        let own = env::consts::ARCH;
        MACHINES.iter().find(|machine| machine.architecture == own).ok_or(GuestError::Architecture(own))
    }
}

/// Where Debian has the file server, which is in no `PATH`: with the emulator in 12, in a package of its own later.
const SERVERS: [&str; 2] = ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"];
/// Programs that are called beside the emulator, and the packages that have them.
const PROGRAMS: [(&str, &str); 6] = [
    ("apt-get", "apt"),
    ("depmod", "kmod"),
    ("dpkg", "dpkg"),
    ("unshare", "util-linux"),
    ("unxz", "xz-utils"),
    ("zstd", "zstd"),
];

/// Finds the file server, and that all other programs are there.
pub(super) fn file_server(machine: &Machine) -> Result<PathBuf, GuestError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    let there = |program: &str| folders.iter().any(|folder: &PathBuf| folder.join(program).is_file());
    let wanted = PROGRAMS.iter().copied().chain([(machine.emulator, machine.package)]);
    let mut missing: Vec<_> = wanted.filter(|(program, _)| !there(program)).collect();
    let server = SERVERS.iter().map(Path::new).find(|path| path.is_file());
    if server.is_none() {
        missing.push(("virtiofsd", "qemu-system-common, or virtiofsd from Debian 13 on"));
    }
    match server {
        Some(server) if missing.is_empty() => Ok(server.to_owned()),
        _ => Err(GuestError::Programs(
            missing.iter().map(|(program, package)| format!("{program} (package {package})")).collect(),
        )),
    }
}
