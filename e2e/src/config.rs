//! What a lab is made of: the parameters of `lab up`, checked once and stored beside the lab.

use std::{fmt, path::PathBuf, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::address::Family;

/// Why a lab's parameters cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A lab or node name that cannot name cgroups, folders and Kubernetes objects.
    #[error("name {name:?}: 1 to {max} characters of a-z, 0-9 and '-' are needed, beginning with a letter")]
    Name {
        /// The name that was given.
        name: String,
        /// The longest name that is accepted, in characters.
        max: usize,
    },
    /// A number outside of what the wire's address plan has room for.
    #[error("{what} is {value}: use {least} to {most}")]
    Range {
        /// The parameter.
        what: &'static str,
        /// Its value.
        value: u32,
        /// The least value that works.
        least: u32,
        /// The greatest value that works.
        most: u32,
    },
    /// A CIDR whose family the wire does not carry, or a second one of the same family.
    #[error("{what} {cidr}: the wire is {wire}; give at most one CIDR for each of its families")]
    Cidr {
        /// The parameter.
        what: &'static str,
        /// The offending CIDR.
        cidr: IpNet,
        /// The wire's families.
        wire: Wire,
    },
}

/// The name of a lab: it names the cluster, its cgroups and its folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabName(String);

/// The name of a node of a lab, also its host name and the name of its `Node`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// Longest name: `e-NAME` must fit an interface name of 15 characters (`linux/if.h`, `IFNAMSIZ`).
const NODE_NAME_MAX: usize = 12;
const LAB_NAME_MAX: usize = 32;

fn checked(name: String, max: usize) -> Result<String, ConfigError> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    let usable = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if starts_well && name.len() <= max && name.chars().all(usable) && !name.ends_with('-') {
        Ok(name)
    } else {
        Err(ConfigError::Name { name, max })
    }
}

macro_rules! name {
    ($kind:ident, $max:expr) => {
        impl TryFrom<String> for $kind {
            type Error = ConfigError;
            fn try_from(name: String) -> Result<Self, ConfigError> {
                checked(name, $max).map(Self)
            }
        }
        impl FromStr for $kind {
            type Err = ConfigError;
            fn from_str(name: &str) -> Result<Self, ConfigError> {
                name.to_owned().try_into()
            }
        }
        impl From<$kind> for String {
            fn from(name: $kind) -> Self {
                name.0
            }
        }
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl $kind {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}
name!(LabName, LAB_NAME_MAX);
name!(NodeName, NODE_NAME_MAX);

impl NodeName {
    /// The name of the node with this ordinal: `n1`, `n2` and so on.
    pub fn numbered(ordinal: u8) -> Self {
        Self(format!("n{ordinal}"))
    }
}

/// The address families that the wire between the nodes carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// IPv4 only.
    Ipv4,
    /// Both; the nodes' first address is the IPv4 one.
    Dual,
    /// IPv6 only.
    Ipv6,
}

impl Wire {
    /// The families, the primary one first.
    pub fn families(self) -> &'static [Family] {
        match self {
            Self::Ipv4 => &[Family::V4],
            Self::Dual => &[Family::V4, Family::V6],
            Self::Ipv6 => &[Family::V6],
        }
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4",
            Self::Dual => "dual",
            Self::Ipv6 => "ipv6",
        })
    }
}

/// What `lab up` is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabConfig {
    /// The lab's name, also the cluster's.
    pub name: LabName,
    /// How many nodes there are: `n1` to `nN`.
    pub nodes: u8,
    /// The families of the wire.
    pub wire: Wire,
    /// Over how many subnets, joined by a router, the nodes are spread in turn.
    pub subnets: u8,
    /// MTU of every link of the wire, in bytes.
    pub mtu: u32,
    /// Ranges of Service addresses, the primary family first.
    pub service_cidrs: Vec<IpNet>,
    /// Ranges that the controller-manager cuts `Node.spec.podCIDRs` from; empty: it allocates none.
    pub pod_cidrs: Vec<IpNet>,
    /// The beginning of the names of the links that lead to pods, for kube-proxy to know pods' traffic by.
    pub pod_link_prefix: String,
    /// A folder of ready-made binaries to use in place of the cache.
    pub binaries: Option<PathBuf>,
    /// Image archives to load into every node.
    pub images: Vec<PathBuf>,
    /// The users whose requests the API server writes into its audit log, without bodies; none: it has no log.
    #[serde(default)]
    pub audited: Vec<String>,
}

impl LabConfig {
    /// Three nodes on one IPv4 subnet.
    pub fn new(name: LabName) -> Self {
        Self {
            name,
            nodes: 3,
            wire: Wire::Ipv4,
            subnets: 1,
            mtu: 1500,
            service_cidrs: Vec::new(),
            pod_cidrs: Vec::new(),
            pod_link_prefix: "tow".to_owned(),
            binaries: None,
            images: Vec::new(),
            audited: Vec::new(),
        }
    }

    /// Fills what was left out and checks the rest.
    ///
    /// # Errors
    /// A number or CIDR that the wire has no room for.
    pub fn validated(mut self) -> Result<Self, ConfigError> {
        in_range("the number of nodes", u32::from(self.nodes), 1, 64)?;
        in_range("the number of subnets", u32::from(self.subnets), 1, 16)?;
        // RFC 8200 section 5: a link that carries IPv6 has an MTU of 1280 bytes at least.
        in_range("the MTU", self.mtu, 1280, 9216)?;
        if self.service_cidrs.is_empty() {
            self.service_cidrs = self.wire.families().iter().map(|f| f.services()).collect();
        }
        self.check_cidrs("service CIDR", &self.service_cidrs)?;
        self.check_cidrs("pod CIDR", &self.pod_cidrs)?;
        Ok(self)
    }

    fn check_cidrs(&self, what: &'static str, cidrs: &[IpNet]) -> Result<(), ConfigError> {
        for (index, cidr) in cidrs.iter().enumerate() {
            let family = Family::of(cidr.addr());
            let repeated = cidrs[..index].iter().any(|c| Family::of(c.addr()) == family);
            if repeated || !self.wire.families().contains(&family) {
                let (cidr, wire) = (*cidr, self.wire);
                return Err(ConfigError::Cidr { what, cidr, wire });
            }
        }
        Ok(())
    }
}

fn in_range(what: &'static str, value: u32, least: u32, most: u32) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Range { what, value, least, most })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab() -> LabConfig {
        LabConfig::new("t".parse().unwrap())
    }

    #[test]
    fn names_that_cannot_name_a_link_or_a_folder_are_refused() {
        for bad in ["", "A", "a/b", "..", "a-", "1a", "a-name-too-long"] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad:?} was accepted");
        }
        assert_eq!("n1".parse::<NodeName>().unwrap(), NodeName::numbered(1));
    }

    #[test]
    fn service_ranges_are_filled_in_for_each_family_of_the_wire() {
        let dual = LabConfig { wire: Wire::Dual, ..lab() }.validated().unwrap();
        assert_eq!(dual.service_cidrs.len(), 2);
        assert!(dual.service_cidrs[0].addr().is_ipv4());
    }

    #[test]
    fn a_pod_range_of_a_family_that_the_wire_lacks_is_refused_by_name() {
        let pods = vec!["fd00:10:244::/56".parse().unwrap()];
        let error = LabConfig { pod_cidrs: pods, ..lab() }.validated().unwrap_err();
        assert!(error.to_string().starts_with("pod CIDR fd00:10:244::/56: the wire is ipv4"));
    }

    #[test]
    fn more_nodes_than_addresses_are_refused() {
        assert!(LabConfig { nodes: 0, ..lab() }.validated().is_err());
        assert!(LabConfig { nodes: 65, ..lab() }.validated().is_err());
    }
}
