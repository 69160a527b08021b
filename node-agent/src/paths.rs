//! Where the agent keeps and finds files.

use std::path::{Path, PathBuf};

use towpath_kernel::leases::Store;
use towpath_net::policy::admission::SOCKET;

/// The name of the CNI configuration file.
pub const CONFLIST: &str = "05-towpath.conflist";

/// The folders that the agent works in.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Of the agent and the CNI binary, on tmpfs: gone after a reboot, as the pods are.
    pub state: PathBuf,
    /// Of the agent, on disk: what a node that starts again needs of what it was told.
    pub lasting: PathBuf,
    /// The same as the CNI binary sees it: on the node, outside any container.
    pub state_on_node: PathBuf,
    /// Where the runtime looks for CNI configuration files.
    pub cni_conf: PathBuf,
    /// Where the runtime looks for CNI binaries.
    pub cni_bin: PathBuf,
    /// The CNI binary that is to be installed.
    pub cni_binary: PathBuf,
    /// Kernel settings of the node.
    pub sysctls: PathBuf,
}

impl Paths {
    /// What the CNI binary reads.
    pub fn node_file(&self) -> PathBuf {
        self.state.join("node.json")
    }

    /// Whether an agent knew this node since it started: pods may run.
    pub fn is_node_known(&self) -> bool {
        self.node_file().exists()
    }

    /// The leases of this node's pods: where one changes, so does this folder.
    pub fn leases(&self) -> PathBuf {
        Store::below(&self.state).records()
    }

    /// The folder of all that outlives a start of the node.
    pub fn kept(&self) -> PathBuf {
        self.lasting.join("agent")
    }

    /// The last state that the agent was given: what it starts from.
    pub fn last_state(&self) -> PathBuf {
        self.kept().join("state.json")
    }

    /// What became of that state since it was written.
    pub fn journal(&self) -> PathBuf {
        self.kept().join("state-changes.json")
    }

    /// The policies that the operator told last.
    pub fn policies(&self) -> PathBuf {
        self.state.join("agent").join("policies")
    }

    /// The same on disk, somewhat later.
    pub fn lasting_policies(&self) -> PathBuf {
        self.kept().join("policies")
    }

    /// Where CNI binaries ask about pods that start.
    pub fn admission(&self) -> PathBuf {
        self.state.join(SOCKET)
    }

    /// Where replicas of the operator were, and whom to believe.
    pub fn operators(&self) -> PathBuf {
        self.kept().join("operators.json")
    }

    /// The node's private WireGuard keys.
    pub fn wireguard_keys(&self) -> PathBuf {
        self.state.join("agent").join("wireguard.json")
    }

    /// Settings as they were before the agent first changed them.
    pub fn settings_before(&self) -> PathBuf {
        self.state.join("agent").join("settings-before.json")
    }

    /// How often files of other networks were moved aside since the node started.
    pub fn moves(&self) -> PathBuf {
        self.state.join("agent").join("moved-aside.json")
    }

    /// The CNI configuration file: before those of every plugin that is not a wrapper of others.
    pub fn conflist(&self) -> PathBuf {
        self.cni_conf.join(CONFLIST)
    }

    /// A CNI binary.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.cni_bin.join(name)
    }
}

/// The folder of a file.
pub fn folder(file: &Path) -> &Path {
    match file.parent() {
        // A name alone is one of a file that is here.
        Some(here) if here.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => Path::new("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_named_alone_is_in_the_folder_that_one_is_in() {
        let of = |file: &'static str| folder(Path::new(file));
        assert_eq!([of("state.json"), of("a/state.json"), of("/state.json")], [".", "a", "/"].map(Path::new));
    }
}
