//! The programs that a lab keeps running, and the records that outlive the command that started them.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::{
    process::{Launch, ProcessError, ProcessId, tail},
    space::Space,
    wire::{CONTROL_PLANE, OUTSIDE},
};

/// Why a component is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// No component has this name.
    #[error(
        "{0:?} names no component: use one of etcd, kube-apiserver, kube-controller-manager, kube-scheduler, gateway, netexec, or NODE/containerd, NODE/kubelet, NODE/kube-proxy"
    )]
    Name(String),
    /// Its record could not be read or written.
    #[error("{component}: {operation} {path}: {source}", path = path.display())]
    Record {
        /// The component.
        component: ComponentId,
        /// What was tried.
        operation: &'static str,
        /// The record.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// It could not be started or ended.
    #[error("{component}: {source}")]
    Process {
        /// The component.
        component: ComponentId,
        /// What failed.
        source: ProcessError,
    },
    /// It is not running any more.
    #[error("{component} has ended. Its last lines:\n{lines}\nAll of its log: {log}", log = log.display())]
    Died {
        /// The component.
        component: ComponentId,
        /// The end of its log.
        lines: String,
        /// Its log.
        log: PathBuf,
    },
}

/// The programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// etcd, the store.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// The controllers.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
    /// The lab's own way from the host to the cluster and from the control plane to the pods.
    Gateway,
    /// A server outside of the cluster, which tells the source address that it sees.
    Netexec,
    /// A node's container runtime.
    Containerd,
    /// A node's agent of Kubernetes.
    Kubelet,
    /// A node's Services.
    KubeProxy,
}

const KINDS: [(Kind, &str); 9] = [
    (Kind::Etcd, "etcd"),
    (Kind::KubeApiserver, "kube-apiserver"),
    (Kind::KubeControllerManager, "kube-controller-manager"),
    (Kind::KubeScheduler, "kube-scheduler"),
    (Kind::Gateway, "gateway"),
    (Kind::Netexec, "netexec"),
    (Kind::Containerd, "containerd"),
    (Kind::Kubelet, "kubelet"),
    (Kind::KubeProxy, "kube-proxy"),
];

impl Kind {
    /// The program's name.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// The only space that it runs in; `None` for what runs on every node.
    pub fn home(self) -> Option<&'static str> {
        match self {
            Self::Containerd | Self::Kubelet | Self::KubeProxy => None,
            Self::Netexec => Some(OUTSIDE),
            _ => Some(CONTROL_PLANE),
        }
    }
}

/// One running program of a lab.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ComponentId {
    /// The space that it runs in.
    pub space: String,
    /// The program.
    pub kind: Kind,
}

impl ComponentId {
    /// The component that runs on a node.
    pub fn on(space: &str, kind: Kind) -> Self {
        Self { space: space.to_owned(), kind }
    }

    /// The component that there is one of.
    pub fn single(kind: Kind) -> Self {
        Self::on(kind.home().unwrap_or_default(), kind)
    }

    /// The name of its files.
    pub fn file_name(&self) -> String {
        self.to_string().replace('/', ".")
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.home() {
            Some(_) => f.write_str(self.kind.name()),
            None => write!(f, "{}/{}", self.space, self.kind.name()),
        }
    }
}

impl FromStr for ComponentId {
    type Err = ComponentError;

    fn from_str(text: &str) -> Result<Self, ComponentError> {
        let (space, program) = text.split_once('/').map_or((None, text), |(space, program)| (Some(space), program));
        let kind = KINDS.iter().find(|(_, name)| *name == program).map(|(kind, _)| *kind);
        match (kind, space) {
            (Some(kind), None) if kind.home().is_some() => Ok(Self::single(kind)),
            (Some(kind), Some(space)) if kind.home().is_none_or(|home| home == space) => Ok(Self::on(space, kind)),
            _ => Err(ComponentError::Name(text.to_owned())),
        }
    }
}

/// A component as it was last started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Which one.
    pub id: ComponentId,
    /// How it is started.
    pub launch: Launch,
    /// The process; `None` while it is stopped on purpose.
    pub process: Option<ProcessId>,
}

/// How many lines of a log an error shows.
const LINES: usize = 15;

impl Component {
    /// Starts the program in its space and records it in the folder of records.
    ///
    /// # Errors
    /// When it cannot be started or recorded.
    pub fn start(id: ComponentId, launch: Launch, space: &Space, records: &Path) -> Result<Self, ComponentError> {
        let failed = |source| ComponentError::Process { component: id.clone(), source };
        let process = Some(launch.start(space).map_err(failed)?);
        let component = Self { id, launch, process };
        component.save(records)?;
        Ok(component)
    }

    /// Ends the program and records that it was meant.
    ///
    /// # Errors
    /// When it cannot be ended or recorded.
    pub fn signal(&mut self, signal: Signal, records: &Path) -> Result<Option<ProcessId>, ComponentError> {
        let process = self.process.take();
        self.save(records)?;
        let failed = |source| ComponentError::Process { component: self.id.clone(), source };
        process.map_or(Ok(()), |process| process.signal(signal)).map_err(failed)?;
        Ok(process)
    }

    /// The end of its log.
    pub fn last_lines(&self) -> String {
        tail(&self.launch.log, LINES)
    }

    /// The error that tells of its death, if it died.
    pub fn died(&self) -> Option<ComponentError> {
        let process = self.process?;
        if process.alive() {
            return None;
        }
        let (component, log) = (self.id.clone(), self.launch.log.clone());
        Some(ComponentError::Died { component, lines: self.last_lines(), log })
    }

    fn save(&self, records: &Path) -> Result<(), ComponentError> {
        let path = record(records, &self.id);
        let failed = |operation| {
            let (component, path) = (self.id.clone(), path.clone());
            move |source| ComponentError::Record { component, operation, path, source }
        };
        let text = serde_json::to_string_pretty(self).map_err(|error| failed("encode")(error.into()))?;
        let aside = path.with_extension("new");
        fs::write(&aside, text).map_err(failed("write"))?;
        fs::rename(&aside, &path).map_err(failed("rename"))
    }

    /// Reads one component's record.
    ///
    /// # Errors
    /// When there is none or it does not read.
    pub fn load(id: &ComponentId, records: &Path) -> Result<Self, ComponentError> {
        let path = record(records, id);
        let failed = |operation| {
            let (component, path) = (id.clone(), path.clone());
            move |source| ComponentError::Record { component, operation, path, source }
        };
        let text = fs::read_to_string(&path).map_err(failed("read"))?;
        serde_json::from_str(&text).map_err(|error| failed("decode")(error.into()))
    }

    /// All components that were ever started and not removed, in the order of their names. What is being written
    /// or does not read is not among them.
    pub fn all(records: &Path) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(records) else { return Vec::new() };
        let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
        let records = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let mut all: Vec<Self> =
            records.filter_map(|path| serde_json::from_str(&fs::read_to_string(path).ok()?).ok()).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// Forgets a component of a node that is no more.
    pub fn forget(&self, records: &Path) {
        drop(fs::remove_file(record(records, &self.id)));
    }
}

fn record(records: &Path, id: &ComponentId) -> PathBuf {
    records.join(format!("{}.json", id.file_name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_component_is_named_as_it_is_shown() {
        for (kind, _) in KINDS {
            let id = ComponentId::on(kind.home().unwrap_or("n1"), kind);
            assert_eq!(id.to_string().parse::<ComponentId>().unwrap(), id);
        }
    }

    #[test]
    fn a_node_component_without_its_node_is_refused_with_what_would_do() {
        let error = "kubelet".parse::<ComponentId>().unwrap_err().to_string();
        assert!(error.contains("NODE/kubelet"), "{error}");
        assert!("n1/etcd".parse::<ComponentId>().is_err());
    }
}
