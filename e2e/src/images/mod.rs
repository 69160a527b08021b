//! Images without a registry: what the lab's own pods run, and Towpath's.
//!
//! ```text
//! CACHE/images/base-KEY/rootfs.tar      a small Debian with what upstream's specs call (debootstrap)
//! CACHE/images/store-KEY/containerd/    a containerd's folder with all of the lab's images unpacked
//! ```
//! A node's containerd starts on a copy of the second, made of hard links to what containerd never changes, so that
//! no node spends time on unpacking.

mod build;
mod store;
mod workshop;

use std::{io, os::unix::net::UnixStream, path::PathBuf, process::Command};

pub use self::{build::build_archive, store::ImageStore};
use crate::{
    binaries::BinariesError,
    run::{self, RunError},
    space::{Space, SpaceError},
};

/// Why an image is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
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
    /// The image could not be made.
    #[error("make image {image}: {source}")]
    Make {
        /// The image.
        image: String,
        /// What the tool said.
        source: RunError,
    },
    /// A certificate in it could not be made.
    #[error(transparent)]
    Pki(#[from] crate::pki::PkiError),
    /// containerd refused an archive.
    #[error("load image archive {archive} on {node}: {source}", archive = archive.display())]
    Load {
        /// The archive.
        archive: PathBuf,
        /// The node.
        node: String,
        /// What containerd said.
        source: RunError,
    },
    /// The space that images are made in is not to be had.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// Its cgroup is not to be had.
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::CgroupError),
    /// The cache is not to be had.
    #[error(transparent)]
    Cache(#[from] BinariesError),
}

impl ImageError {
    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }
}

/// Where upstream's images come from, in their names.
const UPSTREAM: &str = "registry.k8s.io";
/// What Kubernetes 1.36.3's network specs ask for; agnhost with a Debian around it serves for all.
const NAMES: [&str; 3] =
    ["e2e-test-images/agnhost:2.63.0", "e2e-test-images/glibc-dns-testing:2.0.0", "e2e-test-images/busybox:1.37.0-1"];

/// The image for test pods: a shell, curl, nc, dig, getent, ping and ip, and agnhost as its entry point.
pub fn agnhost() -> String {
    format!("{UPSTREAM}/{}", NAMES[0])
}

fn aliases() -> impl Iterator<Item = String> {
    NAMES.iter().skip(1).map(|name| format!("{UPSTREAM}/{name}"))
}

/// What the conformance suite of the network policy API asks for: the same, but its servers of SCTP wait where the kernel
/// has none.
pub const PATIENT_IMAGE: &str = "registry.k8s.io/e2e-test-images/agnhost:2.45";

/// The image of the cluster's DNS.
pub const COREDNS_IMAGE: &str = "towpath.dev/lab/coredns:latest";

fn ctr(space: &Space) -> Command {
    let mut command = space.command("ctr");
    command.args(["--namespace", "k8s.io"]);
    command
}

/// Whether a node's containerd takes connections; it does so once it can serve.
pub fn containerd_ready(space: &Space) -> bool {
    UnixStream::connect(space.path("run/containerd/containerd.sock")).is_ok()
}

/// Loads an archive, docker's or OCI's, that lies anywhere on the host.
///
/// # Errors
/// When containerd refuses it.
pub fn import(space: &Space, archive: &std::path::Path) -> Result<(), ImageError> {
    let inside = space.root.join("var/tmp-image.tar");
    let io = |operation| ImageError::io(operation, &inside);
    std::fs::copy(archive, &inside).map_err(io("copy"))?;
    let result = run::run(ctr(space).args(["images", "import", "--local", "/var/tmp-image.tar"]));
    std::fs::remove_file(&inside).map_err(io("remove"))?;
    let failed = |source| ImageError::Load { archive: archive.to_owned(), node: space.name.clone(), source };
    result.map(drop).map_err(failed)
}
