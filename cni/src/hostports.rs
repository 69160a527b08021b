//! Ports of the node that lead to the pod, as a runtime asks for them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};
use towpath_kernel::nft::Nft;
use towpath_kernel::sysctl::{self, Sysctls};
use towpath_kernel::{conntrack, ports};
use towpath_net::Family;
use towpath_net::lease::{HostPort, Lease, Protocol};
use towpath_net::observed::Sysctl;
use towpath_net::render::hostport_elements;
use towpath_net::state::Attachment;

use crate::check::Mismatch;
use crate::config::{Error as ConfigError, any_case, field};
use crate::error::Error as CallError;

/// Why host ports cannot be had on this node.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel does not follow connections of SCTP, so it cannot rewrite them.
    #[error(
        "{0} cannot be opened: the kernel of this node has no connection tracking of SCTP (CONFIG_NF_CT_PROTO_SCTP); take \
         the port from the pod, or run it on another node"
    )]
    NoSctp(HostPort),
    /// What answers from behind a bridge has its addresses written back before IPv6 sees it, which then takes no packet
    /// for `::1` from a link.
    #[error(
        "{0} cannot be opened: pods of this node are behind a bridge, and no packet for ::1 gets past one; name another address"
    )]
    Bridged(HostPort),
    /// Whether the kernel does could not be told.
    #[error(transparent)]
    Sysctl(#[from] sysctl::Error),
}

/// The ports that the runtime asks for (`runtimeConfig.portMappings`), each once.
pub fn asked(config: &Map<String, Value>) -> Result<Vec<HostPort>, ConfigError> {
    let mappings = config.get("runtimeConfig").and_then(|runtime| any_case(runtime, "portMappings"));
    let mappings = match mappings {
        None => return Ok(Vec::new()),
        Some(Value::Array(mappings)) => mappings,
        Some(other) => return Err(field("runtimeConfig.portMappings", other, "it should be a list")),
    };
    let mut ports: Vec<HostPort> = Vec::new();
    for (index, mapping) in mappings.iter().enumerate() {
        if let Some(port) = host_port(index, mapping)? {
            if let Some(other) = ports.iter().find(|other| other.overlaps(&port) && **other != port) {
                let at = format!("runtimeConfig.portMappings[{index}] ({other})");
                return Err(field(at, mapping, "another mapping of the same pod has this port; remove one"));
            }
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
    }
    Ok(ports)
}

/// A mapping without a host port opens none.
fn host_port(index: usize, mapping: &Value) -> Result<Option<HostPort>, ConfigError> {
    let path = |key: &str| format!("runtimeConfig.portMappings[{index}].{key}");
    let number = |key: &str| match any_case(mapping, key) {
        None => Ok(0),
        Some(value) => {
            let port = value.as_u64().and_then(|number| u16::try_from(number).ok());
            port.ok_or_else(|| field(path(key), value, "a port is a number from 0 to 65535"))
        }
    };
    let (host_port, container_port) = (number("hostPort")?, number("containerPort")?);
    if host_port == 0 {
        return Ok(None);
    }
    if container_port == 0 {
        return Err(field(path("containerPort"), mapping, "a port of the pod is a number from 1 to 65535"));
    }
    let text = |key: &str| any_case(mapping, key).and_then(Value::as_str).unwrap_or_default();
    let protocol = match text("protocol").to_ascii_lowercase().as_str() {
        "" | "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Err(field(path("protocol"), mapping, "it should be tcp, udp or sctp")),
    };
    let host_ip: Option<IpAddr> = match text("hostIP") {
        "" => None,
        text => Some(text.parse().map_err(|_| field(path("hostIP"), mapping, "it should be an IP address"))?),
    };
    Ok(Some(HostPort { host_ip, host_port, container_port, protocol }))
}

/// Refuses ports that the kernel of this node cannot open.
pub fn refuse_unsupported(ports: &[HostPort]) -> Result<(), Error> {
    let Some(port) = ports.iter().find(|port| port.protocol == Protocol::Sctp) else { return Ok(()) };
    // The kernel shows a setting of each protocol that it follows, once it follows any.
    let follows = |protocol: &str| {
        let key = Sysctl(format!("net/netfilter/nf_conntrack_{protocol}"));
        Sysctls::below(sysctl::ROOT).read(&key).map(|value| value.is_some())
    };
    if follows("udp_timeout")? && !follows("sctp_timeout_established")? {
        return Err(Error::NoSctp(port.clone()));
    }
    Ok(())
}

/// Refuses ports that cannot lead to a pod as it is attached.
pub fn refuse_unreachable(lease: &Lease) -> Result<(), Error> {
    let is_loopback = |port: &&HostPort| port.host_ip == Some(IpAddr::V6(Ipv6Addr::LOCALHOST));
    let bridged = lease.host_ports.iter().filter(|_| lease.mode == Attachment::Bridge);
    bridged.into_iter().find(is_loopback).map_or(Ok(()), |port| Err(Error::Bridged(port.clone())))
}

/// The loopback's ports among those that are asked for on every address: all that no program of the node uses. Such a
/// program was there before the pod, and nobody told it that its port would be taken.
pub fn on_loopback(ports: &[HostPort]) -> Vec<HostPort> {
    let named = |family| match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    let wildcards = ports.iter().filter(|port| port.host_ip.is_none_or(|address| address.is_unspecified()));
    let of = |port: &HostPort| {
        let families = Family::ALL.into_iter().filter(|f| port.host_ip.is_none_or(|any| Family::of(any) == *f));
        families.map(|family| HostPort { host_ip: Some(named(family)), ..port.clone() }).collect::<Vec<_>>()
    };
    let is_free = |port: &HostPort| port.host_ip.is_some_and(|at| ports::is_free(at, port.protocol, port.host_port));
    wildcards.flat_map(of).filter(is_free).collect()
}

/// Lets the packets of a pod pass, and opens its host ports.
pub fn open(lease: &Lease) -> Result<(), CallError> {
    // First the table, which has what guards the loopback against what is let through next.
    Nft::open()?.admit(lease)?;
    if lease.host_ports.is_empty() {
        return Ok(());
    }
    if let Some(key) = loopback_setting(lease) {
        Sysctls::below(sysctl::ROOT).ensure(&key, "1")?;
    }
    // Packets that came before this pod began flows to nowhere.
    Ok(conntrack::forget_earlier(lease)?)
}

/// The setting without which the kernel sends nothing from `127.0.0.0/8` to the pod, where something is to be sent.
fn loopback_setting(lease: &Lease) -> Option<Sysctl> {
    let needed = lease.loopback(Family::V4).is_some();
    needed.then(|| Sysctl::of_link(Family::V4, lease.node_link(), "route_localnet"))
}

/// Compares the host ports of a lease with those that are open.
pub fn check(lease: &Lease) -> Result<Vec<Mismatch>, CallError> {
    let mut differences = Vec::new();
    if lease.host_ports.is_empty() {
        return Ok(differences);
    }
    let table = Nft::open()?.read()?.unwrap_or_default();
    for (set, element) in hostport_elements(lease) {
        if !table.sets.get(set).is_some_and(|set| set.elements.contains(&element)) {
            differences.push(Mismatch::HostPort(set));
        }
    }
    if let Some(key) = loopback_setting(lease)
        && Sysctls::below(sysctl::ROOT).read(&key)?.as_deref() != Some("1")
    {
        differences.push(Mismatch::Loopback(key));
    }
    Ok(differences)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Config;
    use crate::environment::Verb;

    fn parse(verb: Verb, config: &Value) -> Result<Config, ConfigError> {
        Config::parse(verb, config.to_string().as_bytes())
    }

    fn ports(runtime: &Value) -> Result<Vec<HostPort>, ConfigError> {
        let config = json!({"cniVersion": "1.1.0", "name": "n", "type": "towpath", "runtimeConfig": runtime});
        Ok(parse(Verb::Add, &config)?.host_ports)
    }

    #[test]
    fn port_mappings_are_read_in_both_spellings() {
        let expected =
            HostPort { host_ip: "10.0.0.1".parse().ok(), host_port: 8081, container_port: 80, protocol: Protocol::Udp };
        let go =
            json!({"PortMappings": [{"HostPort": 8081, "ContainerPort": 80, "Protocol": "UDP", "HostIP": "10.0.0.1"}]});
        let camel =
            json!({"portMappings": [{"hostPort": 8081, "containerPort": 80, "protocol": "udp", "hostIP": "10.0.0.1"}]});
        assert_eq!(ports(&go).unwrap(), ports(&camel).unwrap());
        assert_eq!(ports(&camel).unwrap(), [expected]);
    }

    #[test]
    fn port_mappings_default_to_tcp_and_every_address_and_may_open_nothing() {
        let mapping = json!({"hostPort": 1, "containerPort": 2, "hostIP": ""});
        let runtime = json!({"portMappings": [mapping, {"hostPort": 0, "containerPort": 2}, mapping]});
        let expected = HostPort { host_ip: None, host_port: 1, container_port: 2, protocol: Protocol::Tcp };
        assert_eq!(ports(&runtime).unwrap(), [expected]);
        assert_eq!(ports(&json!({"portMappings": null})).unwrap(), []);
    }

    #[test]
    fn bad_port_mappings_are_refused_by_name() {
        for (mapping, named) in [
            (json!({"hostPort": 70000, "containerPort": 2}), "portMappings[0].hostPort is 70000"),
            (json!({"hostPort": "x", "containerPort": 2}), "portMappings[0].hostPort is \"x\""),
            (json!({"hostPort": 1}), "portMappings[0].containerPort"),
            (json!({"hostPort": 1, "containerPort": 2, "protocol": "icmp"}), "portMappings[0].protocol"),
            (json!({"hostPort": 1, "containerPort": 2, "hostIP": "x"}), "portMappings[0].hostIP"),
        ] {
            let error = ports(&json!({"portMappings": [mapping]})).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let twice = json!({"portMappings": [{"hostPort": 1, "containerPort": 2}, {"hostPort": 1, "containerPort": 3}]});
        assert!(ports(&twice).unwrap_err().to_string().contains("another mapping of the same pod"));
        let config = json!({"cniVersion": "1.1.0", "name": "n", "runtimeConfig": {"portMappings": "x"}});
        assert!(parse(Verb::Add, &config).is_err());
        parse(Verb::Delete, &config).unwrap();
    }
}
