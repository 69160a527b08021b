//! A lab as a whole: up, down, and all that is done to it in between.
//!
//! ```text
//! host        lab command, gateway: 127.0.0.1:PORT ---.
//!                                                      | (its sockets live in both)
//! spaces      control-plane: etcd, API server, controllers, scheduler
//!             n1, n2 ...:    containerd, kubelet, kube-proxy, pods
//!             outside:       netexec, an address that is not the cluster's
//!             wire:          bridges and the router that join them all
//! ```
//! There is no daemon: components are started detached and found again through the lab's folder ([`Folder`]) and
//! its cgroups ([`CgroupTree`]). Either alone is enough to end the lab.

mod dns;
mod down;
mod error;
mod folder;
mod interrupt;
mod nodes;
mod pods;
mod registered;
mod status;
mod up;
mod waiting;

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

pub use self::{
    error::LabError,
    folder::Folder,
    interrupt::catch_interrupt,
    nodes::NodeHandle,
    pods::PodOutput,
    status::{ComponentStatus, Status},
    waiting::Testimony,
};
use crate::{
    address::{HostNumber, Subnet},
    api::Api,
    binaries::Binaries,
    cgroup::{self, CgroupTree},
    component::{Component, ComponentId},
    config::{LabConfig, LabName, NodeName},
    control_plane,
    images::ImageStore,
    node::Node,
    progress::Progress,
    run,
    space::Space,
    wait::{self, Interrupt, Look},
    wire::{CONTROL_PLANE, OUTSIDE, Port},
};

/// A lab that is up, or was.
pub struct Lab {
    config: LabConfig,
    folder: Folder,
    cgroups: CgroupTree,
    binaries: Binaries,
    progress: Progress,
    interrupt: Interrupt,
    /// Whether it ends with this value.
    owned: bool,
}

/// How a lab is worked on.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Where progress is shown.
    pub progress: Progress,
    /// Set when the user wants it to end.
    pub interrupt: Interrupt,
}

impl Default for Manner {
    fn default() -> Self {
        Self { progress: Progress::quiet(), interrupt: Interrupt::default() }
    }
}

impl Lab {
    /// Brings a lab up that ends when the value is dropped: what a test wants. Nodes are registered, not Ready:
    /// the lab has no pod network.
    ///
    /// # Errors
    /// What failed; nothing is left then.
    pub fn up(config: LabConfig) -> Result<Self, LabError> {
        let mut lab = Self::start(config, &Manner::default())?;
        lab.owned = true;
        Ok(lab)
    }

    /// Brings a lab up that stays when the value is dropped: what the command does.
    ///
    /// # Errors
    /// What failed; nothing is left then.
    pub fn start(config: LabConfig, manner: &Manner) -> Result<Self, LabError> {
        up::up(config.validated()?, manner)
    }

    /// A lab that is up.
    ///
    /// # Errors
    /// When there is none of this name, or its folder is damaged.
    pub fn open(name: &LabName, manner: &Manner) -> Result<Self, LabError> {
        let folder = Folder::of(name);
        if !folder.config().exists() {
            return Err(LabError::Missing(name.clone()));
        }
        let config: LabConfig = read(&folder.config())?;
        let binaries = Binaries::find(config.binaries.as_deref(), &manner.progress)?;
        Self::assemble(config, binaries, manner)
    }

    fn assemble(config: LabConfig, binaries: Binaries, manner: &Manner) -> Result<Self, LabError> {
        let (folder, cgroups) = (Folder::of(&config.name), CgroupTree::of(&config.name)?);
        let Manner { progress, interrupt } = manner.clone();
        Ok(Self { config, folder, cgroups, binaries, progress, interrupt, owned: false })
    }

    /// The names of all labs of which anything is there.
    pub fn names() -> Vec<LabName> {
        let mut names = [folder::labs(), cgroup::labs()].concat();
        names.sort();
        names.dedup();
        names
    }

    /// Ends a lab, whatever state it is in, and removes all of it. There being nothing is success.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove(name: &LabName) -> Result<(), LabError> {
        down::down(name)
    }

    /// Ends this lab.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn down(mut self) -> Result<(), LabError> {
        self.owned = false;
        down::down(&self.config.name)
    }

    /// Fills the cache with all that a lab needs, without bringing one up.
    ///
    /// # Errors
    /// What could not be built.
    pub fn prepare(manner: &Manner) -> Result<Binaries, LabError> {
        let binaries = Binaries::find(None, &manner.progress)?;
        // A name of its own: ending its cgroups must not end a lab.
        let cgroups = CgroupTree::of(&format!("prepare-{}", std::process::id()).try_into()?)?;
        let images = ImageStore::find(&binaries, &cgroups, &manner.progress);
        cgroups.destroy(None)?;
        images?;
        Ok(binaries)
    }

    /// Its parameters.
    pub fn config(&self) -> &LabConfig {
        &self.config
    }

    /// Its folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// A kubeconfig with all rights that works on the host.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.kubeconfig()
    }

    /// Where the API server is reached on the host.
    ///
    /// # Errors
    /// When the record of it does not read.
    pub fn endpoint(&self) -> Result<SocketAddr, LabError> {
        read(&self.folder.endpoint())
    }

    /// A client with all rights. To be called in a runtime.
    ///
    /// # Errors
    /// When the kubeconfig does not read.
    pub async fn client(&self) -> Result<kube::Client, LabError> {
        Ok(crate::api::client(&self.kubeconfig()).await?)
    }

    pub(crate) fn api(&self) -> Result<Api, LabError> {
        Ok(Api::open(&self.kubeconfig())?)
    }

    /// The API server's audit log: one JSON object per request of [`LabConfig::audited`] and line.
    pub fn audit_log(&self) -> PathBuf {
        control_plane::audit_log(&self.folder.space_root(CONTROL_PLANE))
    }

    /// `kubectl` for this lab.
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(self.binaries.path("kubectl"));
        command.env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// Runs `kubectl` and returns what it printed.
    ///
    /// # Errors
    /// When it does not succeed, with what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, LabError> {
        let output = run::run(self.kubectl_command().args(arguments))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// When the server refuses one.
    pub fn apply(&self, manifests: &str) -> Result<(), LabError> {
        run::run_with_input(
            self.kubectl_command().args(["apply", "--server-side", "--force-conflicts", "-f", "-"]),
            manifests,
        )?;
        Ok(())
    }

    /// The addresses of the host outside of the cluster, the primary one first. It answers HTTP on port
    /// [`Self::OUTSIDE_PORT`]; `/clientip` tells the source that it sees.
    pub fn outside_addresses(&self) -> Vec<IpAddr> {
        Port::only(Subnet::OUTSIDE, HostNumber::FIRST).hosts(&self.config)
    }

    /// The port of the server on the outside host.
    pub const OUTSIDE_PORT: u16 = 8080;

    /// A space by its name: a node's, `control-plane`, `wire` or `outside`.
    ///
    /// # Errors
    /// When there is none.
    pub fn space(&self, name: &str) -> Result<Space, LabError> {
        let record = self.folder.space_record(name);
        if !record.exists() {
            return Err(self.no_node(name));
        }
        Ok(Space::load(&record)?)
    }

    fn no_node(&self, name: &str) -> LabError {
        let present = self.nodes().iter().map(|node| node.name.to_string()).collect::<Vec<_>>().join(", ");
        LabError::NoNode { lab: self.config.name.clone(), node: name.to_owned(), present }
    }

    /// Its nodes, in the order of their ordinals.
    pub fn nodes(&self) -> Vec<Node> {
        let Ok(entries) = fs::read_dir(self.folder.nodes()) else { return Vec::new() };
        let mut nodes: Vec<Node> = entries.filter_map(|entry| read(&entry.ok()?.path()).ok()).collect();
        nodes.sort_by_key(|node| node.ordinal);
        nodes
    }

    /// A node by its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, name: &str) -> Result<NodeHandle<'_>, LabError> {
        let node = self.nodes().into_iter().find(|node| node.name.as_str() == name);
        Ok(NodeHandle::new(self, node.ok_or_else(|| self.no_node(name))?))
    }

    /// The outside host, to run commands on.
    ///
    /// # Errors
    /// When its record does not read.
    pub fn outside(&self) -> Result<Space, LabError> {
        self.space(OUTSIDE)
    }

    /// Starts a component from its record, as it was started first.
    ///
    /// # Errors
    /// When it is unknown or cannot be started.
    pub fn start_component(&self, id: &ComponentId) -> Result<(), LabError> {
        let Component { id, launch, process } = Component::load(id, &self.folder.records())?;
        if process.is_none_or(|process| !process.alive()) {
            let space = self.space(&id.space)?;
            Component::start(id, launch, &space, &self.folder.records())?;
        }
        Ok(())
    }

    /// Ends a component with SIGKILL and waits until it is gone. What it started (containers) goes on.
    ///
    /// # Errors
    /// When it is unknown or does not end.
    pub fn stop_component(&self, id: &ComponentId) -> Result<(), LabError> {
        let mut component = Component::load(id, &self.folder.records())?;
        let process = component.signal(rustix::process::Signal::KILL, &self.folder.records())?;
        let Some(process) = process else { return Ok(()) };
        wait::until(&format!("{id} to end"), Duration::from_secs(10), &self.interrupt, || {
            Ok(if process.alive() { Look::NotYet("it runs".to_owned()) } else { Look::Found(()) })
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.owned
            && let Err(error) = down::down(&self.config.name)
        {
            tracing::error!(%error, lab = %self.config.name, "Lab not removed");
        }
    }
}

impl Space {
    /// Runs a command in all namespaces of the space and returns its output, whatever its status.
    ///
    /// # Errors
    /// When the command cannot be started.
    pub fn exec(&self, arguments: &[&str]) -> Result<Output, LabError> {
        let (program, rest) = arguments.split_first().unwrap_or((&"true", &[]));
        Ok(run::output(self.command(program).args(rest))?)
    }
}

pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, LabError> {
    let text = fs::read_to_string(path).map_err(LabError::io("read", path))?;
    serde_json::from_str(&text).map_err(|source| LabError::Record { path: path.to_owned(), source })
}

pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), LabError> {
    let record = |source| LabError::Record { path: path.to_owned(), source };
    let text = serde_json::to_string_pretty(value).map_err(record)?;
    let aside = path.with_extension("new");
    fs::write(&aside, text).map_err(LabError::io("write", &aside))?;
    fs::rename(&aside, path).map_err(LabError::io("rename", path))
}

/// The program `lab`, of which the gateway is a part: this one, or beside a test's.
fn command_path() -> Result<PathBuf, LabError> {
    if let Some(path) = std::env::var_os("TOWPATH_LAB_COMMAND") {
        return Ok(path.into());
    }
    let own = std::env::current_exe().map_err(LabError::io("find", "the running program"))?;
    let candidates = own.ancestors().skip(1).take(2).map(|folder| folder.join("lab"));
    candidates.into_iter().find(|path| path.is_file()).ok_or(LabError::NoCommand(own))
}

/// The name of the node that an ordinal stands for.
fn ordinal_name(ordinal: u8) -> NodeName {
    NodeName::numbered(ordinal)
}
