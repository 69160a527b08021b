//! Ports of the node that lead to the pod, as a runtime asks for them.

use std::net::IpAddr;

use serde_json::{Map, Value};
use towpath_net::lease::{HostPort, Protocol};

use crate::config::{Error, any_case, field};

/// The ports that the runtime asks for (`runtimeConfig.portMappings`), each once.
pub fn asked(config: &Map<String, Value>) -> Result<Vec<HostPort>, Error> {
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
fn host_port(index: usize, mapping: &Value) -> Result<Option<HostPort>, Error> {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Config;
    use crate::environment::Verb;

    fn parse(verb: Verb, config: &Value) -> Result<Config, Error> {
        Config::parse(verb, config.to_string().as_bytes())
    }

    fn ports(runtime: &Value) -> Result<Vec<HostPort>, Error> {
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
