//! What must hold for any input from outside: it is understood or refused by name, and nothing else happens.
//!
//! Each [`Target`] is a program of its own for the fuzzer; `tests/corpus.rs` gives all of them the committed corpus
//! without one.

mod cni;
mod control;
mod domain;
mod netlink;
mod state;

/// What is given input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The configuration on the standard input, for all verbs.
    Config,
    /// What the operator and agents say to each other.
    Control,
    /// The environment, `CNI_ARGS` among it.
    Environment,
    /// What a user declares.
    Intent,
    /// A lease.
    Lease,
    /// Links, addresses and routes as the kernel tells of them.
    Netlink,
    /// nftables as the kernel tells of them.
    Nftables,
    /// `node.json`.
    NodeFile,
    /// The results of plugins before.
    Previous,
    /// What the runtime asks for: ports, bandwidth, addresses.
    Runtime,
}

impl Target {
    /// All of them, with the names of their programs and of their folders in the corpus.
    pub const ALL: [(&'static str, Self); 10] = [
        ("config", Self::Config),
        ("control", Self::Control),
        ("environment", Self::Environment),
        ("intent", Self::Intent),
        ("lease", Self::Lease),
        ("netlink", Self::Netlink),
        ("nftables", Self::Nftables),
        ("node_file", Self::NodeFile),
        ("previous", Self::Previous),
        ("runtime", Self::Runtime),
    ];

    /// Panics where something does not hold for an input.
    pub fn check(self, data: &[u8]) {
        match self {
            Self::Config => cni::config(data),
            Self::Control => control::message(data),
            Self::Environment => cni::environment(data),
            Self::Intent => domain::intent(data),
            Self::Lease => state::lease(data),
            Self::Netlink => netlink::route(data),
            Self::Nftables => netlink::nftables(data),
            Self::NodeFile => state::node_file(data),
            Self::Previous => cni::previous(data),
            Self::Runtime => cni::runtime(data),
        }
    }
}
