//! What can go wrong with a lab as a whole.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::waiting::{Testimony, shown};
use crate::{
    api::ApiError,
    binaries::BinariesError,
    cgroup::CgroupError,
    component::ComponentError,
    config::{ConfigError, LabName, NodeName},
    control_plane::ControlPlaneError,
    images::ImageError,
    node::NodeError,
    pki::PkiError,
    run::RunError,
    space::SpaceError,
    wait::WaitError,
};

/// Why a lab could not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// There is a lab of this name.
    #[error("a lab named {0} is there already: use it, or end it with `lab down --name {0}`")]
    Exists(LabName),
    /// There is none.
    #[error("no lab named {0} is there: start it with `lab up --name {0}`")]
    Missing(LabName),
    /// No node of this name.
    #[error("lab {lab} has no node {node}: it has {present}")]
    NoNode {
        /// The lab.
        lab: LabName,
        /// The name that was asked for.
        node: String,
        /// The names that there are.
        present: String,
    },
    /// A node of this name is there.
    #[error("lab {lab} has a node {node} already")]
    NodeExists {
        /// The lab.
        lab: LabName,
        /// The node.
        node: NodeName,
    },
    /// All ordinals are taken.
    #[error("lab {0} has no room for another node: 64 are the most")]
    Full(LabName),
    /// The lab did not come up and is gone.
    #[error("{source}\nThe lab was taken down again; its logs are kept in {logs}", logs = logs.display())]
    NotUp {
        /// What failed.
        source: Box<LabError>,
        /// Where the logs are.
        logs: PathBuf,
    },
    /// Not root.
    #[error("the lab makes namespaces and mounts: run it as root")]
    NotRoot,
    /// Programs that the machine lacks.
    #[error("programs are missing: {programs}; on Debian: apt-get install {packages}")]
    Programs {
        /// Their names.
        programs: String,
        /// The packages that have them.
        packages: String,
    },
    /// The kernel's allowance of inotify instances is too small.
    #[error(
        "root has {used} of its {limit} inotify instances in use and this needs {needed} more: end other labs, or raise the limit with `sysctl -w fs.inotify.max_user_instances=1024`"
    )]
    Inotify {
        /// How many are in use.
        used: usize,
        /// How many more are needed.
        needed: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The `lab` program could not be found.
    #[error(
        "the program `lab` is not beside {0}: build it with `cargo build -p towpath-e2e`, or name it in TOWPATH_LAB_COMMAND"
    )]
    NoCommand(PathBuf),
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
    /// A record does not read.
    #[error("record {path}: {source}", path = path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A component is not as it should be.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// A wait ended; with what was said by the components that were waited for.
    #[error("{source}{}\nThe logs of all components are in {logs}", shown(said), logs = logs.display())]
    Waited {
        /// The wait's end.
        source: WaitError,
        /// What the components said last.
        said: Vec<Testimony>,
        /// Where all logs are.
        logs: PathBuf,
    },
    /// A wait ended.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// The parameters do not fit.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The binaries are not to be had.
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    /// An image could not be made or loaded.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Cgroups could not be used.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A space could not be used.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// A certificate could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The control plane's files could not be written.
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    /// A node's files could not be written.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The API server could not be asked.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A command failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl LabError {
    /// The same error with the logs that it names in another folder.
    pub(crate) fn with_logs_in(self, folder: &Path) -> Self {
        match self {
            Self::Component(ComponentError::Died { component, lines, log }) => {
                let log = folder.join(log.file_name().unwrap_or_default());
                ComponentError::Died { component, lines, log }.into()
            }
            Self::Waited { source, said, .. } => Self::Waited { source, said, logs: folder.to_owned() },
            other => other,
        }
    }

    /// A failed file operation.
    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }
}
