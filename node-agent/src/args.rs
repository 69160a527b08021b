//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use towpath_net::state::NodeName;

use crate::paths::Paths;

/// Makes this node's network match its NodeNetwork, and keeps it so.
#[derive(Debug, Parser)]
#[command(name = "towpath-agent", version)]
pub struct Command {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Keep the node as it should be, until told to end.
    Run(Run),
    /// Show what would be changed now, and change nothing.
    Plan(Place),
    /// Print the desired and the observed state of the kernel as YAML.
    Dump(Place),
}

/// Of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Which node, and where its files are.
    #[command(flatten)]
    pub place: Place,
    /// The CNI binary to install.
    #[arg(long, default_value = "/towpath")]
    pub cni_binary: PathBuf,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, default_value = "[::]:9471")]
    pub listen: SocketAddr,
    /// The token by which the operator knows whose call it is.
    #[arg(long, default_value = "/var/run/secrets/towpath.dev/control/token")]
    pub control_token: PathBuf,
    /// How to write log lines.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Which pod this is, so that the agent knows a restart from an uninstallation.
    #[command(flatten)]
    pub pod: Pod,
}

/// Which pod the agent is.
#[derive(Clone, Debug, Args)]
pub struct Pod {
    /// Its namespace; without it the agent takes every end for a restart.
    #[arg(long, env = "POD_NAMESPACE")]
    pub pod_namespace: Option<String>,
    /// The DaemonSet that it belongs to.
    #[arg(long, default_value = "towpath-agent")]
    pub daemon_set: String,
}

/// Which node, and where its files are.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// The name of this node's Node.
    #[arg(long, env = "NODE_NAME")]
    pub node: Option<String>,
    /// A file with this node's state instead of the API server, or a folder with node.yaml and peers/NAME.yaml.
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// Of the agent and the CNI binary, on tmpfs.
    #[arg(long, default_value = "/run/towpath")]
    pub state_dir: PathBuf,
    /// The same as seen from outside this container; the same path where not given.
    #[arg(long)]
    pub state_dir_on_node: Option<PathBuf>,
    /// Of the agent, on disk; --state-dir where not given, and then nothing outlives a start of the node.
    #[arg(long, env = "LASTING_DIR")]
    pub lasting_dir: Option<PathBuf>,
    /// Where the runtime looks for CNI configuration files.
    #[arg(long, default_value = "/host/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Where the runtime looks for CNI binaries.
    #[arg(long, default_value = "/host/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
    /// Kernel settings of the node.
    #[arg(long, default_value = "/proc/sys")]
    pub proc_sys: PathBuf,
}

/// How to write log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Place {
    /// The folders.
    pub fn paths(&self, cni_binary: PathBuf) -> Paths {
        Paths {
            state: self.state_dir.clone(),
            lasting: self.lasting_dir.clone().unwrap_or_else(|| self.state_dir.clone()),
            state_on_node: self.state_dir_on_node.clone().unwrap_or_else(|| self.state_dir.clone()),
            cni_conf: self.cni_conf_dir.clone(),
            cni_bin: self.cni_bin_dir.clone(),
            cni_binary,
            sysctls: self.proc_sys.clone(),
        }
    }

    /// The node, where it was named.
    pub fn node(&self) -> Option<NodeName> {
        self.node.clone().map(NodeName)
    }
}
