//! The command `lab`: arguments in, text out. What it does is the library's.

mod cluster;
mod logs;
mod show;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;

use crate::{
    config::{LabConfig, LabName, NodeName, Wire},
    gateway::{self, GatewayError},
    lab::LabError,
    snapshot::Aspect,
};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The lab could not do it.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The gateway could not work.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The terminal could not be written to.
    #[error("write to standard output: {0}")]
    Output(#[from] std::io::Error),
}

/// A real Kubernetes on this machine: each node is a set of namespaces.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
pub struct Command {
    /// The lab's name; several run side by side.
    #[arg(long, global = true, default_value = "demo", env = "TOWPATH_LAB")]
    name: LabName,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Bring a lab up: a cluster without a pod network.
    Up(UpArguments),
    /// End a lab and remove all of it, whatever state it is in.
    Down {
        /// End every lab on this machine.
        #[arg(long)]
        all: bool,
    },
    /// Show components, nodes and memory.
    Status,
    /// Run kubectl for the lab.
    #[command(disable_help_flag = true)]
    Kubectl {
        /// kubectl's own arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run a command, or a shell, in all namespaces of a node (or of `control-plane`, `outside`, `wire`).
    Enter {
        /// The node.
        node: String,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Show the log of a component: kube-apiserver, n1/kubelet and so on.
    Logs {
        /// The component.
        component: String,
        /// Go on showing what is added.
        #[arg(short, long)]
        follow: bool,
    },
    /// Add, remove, restart or move a node.
    #[command(subcommand)]
    Node(NodeVerb),
    /// Load an image archive into every node, and into those that come later.
    LoadImage(ImageArguments),
    /// Build what a lab needs into the cache and bring nothing up.
    Prepare {
        /// Build upstream's specs too.
        #[arg(long)]
        specs: bool,
    },
    /// Print where a program of the lab is: kubectl, ctr, e2e.test and so on.
    Binary {
        /// The program.
        program: String,
    },
    /// Print what this machine looks like, or compare it with what was printed before.
    Snapshot {
        /// What was printed before.
        #[arg(long, value_name = "FILE")]
        compare: Option<PathBuf>,
        /// Compare these parts alone.
        #[arg(long, value_enum, value_delimiter = ',', requires = "compare")]
        only: Vec<Aspect>,
    },
    /// Join the host and the cluster (started by `up`).
    #[command(hide = true)]
    Gateway {
        /// The host's side.
        #[arg(long)]
        listen: SocketAddr,
        /// The control plane's network namespace.
        #[arg(long)]
        namespace: PathBuf,
        /// A kubeconfig that works in it.
        #[arg(long)]
        kubeconfig: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum NodeVerb {
    /// Add a node and wait until it is registered.
    Add {
        /// Its name; the next free nN when left out.
        node: Option<NodeName>,
    },
    /// Remove a node with all that is on it.
    Remove {
        /// Its name.
        node: String,
    },
    /// End a node as a power cut would and start it again.
    Restart {
        /// Its name.
        node: String,
    },
    /// Give a node another address on its subnet.
    Readdress {
        /// Its name.
        node: String,
    },
}

#[derive(Debug, Args)]
struct UpArguments {
    /// How many nodes.
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// The wire's address families.
    #[arg(long, value_enum, default_value_t = Wire::Ipv4)]
    wire: Wire,
    /// Over how many subnets, joined by a router, the nodes are spread.
    #[arg(long, default_value_t = 1)]
    subnets: u8,
    /// The MTU of every link of the wire, in bytes.
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    /// Ranges of Service addresses, the primary family first.
    #[arg(long, value_delimiter = ',')]
    service_cidrs: Vec<IpNet>,
    /// Ranges that the controller-manager cuts Node.spec.podCIDRs from; without, it allocates none.
    #[arg(long, value_delimiter = ',')]
    pod_cidrs: Vec<IpNet>,
    /// What the names of the links to pods begin with, for kube-proxy.
    #[arg(long, default_value = "tow")]
    pod_link_prefix: String,
    /// A folder of ready-made binaries.
    #[arg(long, env = "TOWPATH_BINARIES")]
    binaries: Option<PathBuf>,
    /// An image archive to load into every node; may be repeated.
    #[arg(long = "image")]
    images: Vec<PathBuf>,
    /// A user whose requests the API server writes into its audit log; may be repeated.
    #[arg(long = "audit", value_name = "USER")]
    audited: Vec<String>,
}

#[derive(Debug, Args)]
struct ImageArguments {
    /// The archive, docker's or OCI's.
    #[arg(required_unless_present = "build")]
    archive: Option<PathBuf>,
    /// Build the image first, from the Containerfile of this folder.
    #[arg(long, value_name = "FOLDER", conflicts_with = "archive")]
    build: Option<PathBuf>,
    /// The name and tag of the image that is built.
    #[arg(long, default_value = "towpath.dev/towpath:dev")]
    tag: String,
}

impl UpArguments {
    fn config(self, name: LabName) -> LabConfig {
        LabConfig {
            name,
            nodes: self.nodes,
            wire: self.wire,
            subnets: self.subnets,
            mtu: self.mtu,
            service_cidrs: self.service_cidrs,
            pod_cidrs: self.pod_cidrs,
            pod_link_prefix: self.pod_link_prefix,
            binaries: self.binaries,
            images: self.images,
            audited: self.audited,
        }
    }
}

impl Command {
    /// Does what was asked and returns the status to end with.
    ///
    /// # Errors
    /// Why it could not be done.
    pub fn run(self) -> Result<ExitCode, CommandError> {
        let Self { name, verb } = self;
        match verb {
            Verb::Up(arguments) => cluster::up(arguments.config(name)),
            Verb::Down { all } => cluster::down(name, all),
            Verb::Status => show::status(&name),
            Verb::Kubectl { arguments } => cluster::kubectl(&name, &arguments),
            Verb::Enter { node, arguments } => cluster::enter(&name, &node, &arguments),
            Verb::Logs { component, follow } => logs::show(&name, &component, follow),
            Verb::Node(verb) => cluster::node(&name, verb),
            Verb::LoadImage(ImageArguments { archive, build, tag }) => cluster::load_image(&name, archive, build, &tag),
            Verb::Binary { program } => cluster::binary(&program),
            Verb::Snapshot { compare, only } => show::snapshot(compare.as_deref(), &only),
            Verb::Prepare { specs } => cluster::prepare(specs),
            Verb::Gateway { listen, namespace, kubeconfig } => {
                gateway::run(listen, &namespace, &kubeconfig)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}
