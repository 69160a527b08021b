//! What a runtime says on standard input: the network's configuration (CNI specification, section 1).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::{Map, Value};
use towpath_net::lease::{AttachmentId, HostPort, Protocol};

use crate::environment::{Verb, is_identifier};
use crate::version::SpecVersion;

/// Where the agent keeps the state of its node, unless the configuration says otherwise.
const STATE: &str = "/run/towpath";

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not a JSON object.
    #[error("the network configuration on stdin is not a JSON object: {0}")]
    NotJson(String),
    /// Its version is not spoken.
    #[error("incompatible CNI versions: config is {found:?}, plugin supports {:?}", SpecVersion::ALL.map(SpecVersion::text))]
    Version {
        /// What the configuration says.
        found: String,
    },
    /// Its version does not have the verb.
    #[error("CNI version {} has no {verb}: it needs {}", version.text(), needed.text())]
    VerbOfLaterVersion {
        /// The verb.
        verb: Verb,
        /// The configuration's version.
        version: SpecVersion,
        /// The first version that has the verb.
        needed: SpecVersion,
    },
    /// A field is not what it should be.
    #[error("{field} is {value}: {remedy}")]
    Field {
        /// The field's path.
        field: String,
        /// What it is.
        value: String,
        /// What it should be.
        remedy: &'static str,
    },
}

/// A network's configuration, as far as it concerns the binary. Unknown keys are ignored: runtimes add some.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The version that results are to be in.
    pub version: SpecVersion,
    /// The network's name.
    pub name: String,
    /// Where the agent keeps the state of its node.
    pub state: PathBuf,
    /// Ports of the node that shall lead to the pod; only read for ADD.
    pub host_ports: Vec<HostPort>,
    /// What the plugins before, or ADD itself, returned.
    pub previous: Option<Value>,
    /// What the runtime still knows, for GC; nothing where it does not say.
    pub listed: Option<BTreeSet<AttachmentId>>,
}

impl Config {
    /// Parses a configuration for a verb.
    pub fn parse(verb: Verb, input: &[u8]) -> Result<Self, Error> {
        let config: Map<String, Value> =
            serde_json::from_slice(input).map_err(|error| Error::NotJson(error.to_string()))?;
        let version = version(&config)?;
        let needed = match verb {
            Verb::Check => SpecVersion::V0_4_0,
            Verb::CollectGarbage | Verb::Status => SpecVersion::V1_1_0,
            Verb::Add | Verb::Delete | Verb::Version => SpecVersion::V0_3_1,
        };
        if version < needed {
            return Err(Error::VerbOfLaterVersion { verb, version, needed });
        }
        Ok(Self {
            version,
            name: name(&config)?,
            state: state(&config)?,
            host_ports: if verb == Verb::Add { host_ports(&config)? } else { Vec::new() },
            previous: config.get("prevResult").filter(|value| !value.is_null()).cloned(),
            listed: if verb == Verb::CollectGarbage { listed(&config)? } else { None },
        })
    }
}

fn field(field: impl Into<String>, value: &Value, remedy: &'static str) -> Error {
    Error::Field { field: field.into(), value: value.to_string(), remedy }
}

fn version(config: &Map<String, Value>) -> Result<SpecVersion, Error> {
    // The first versions of the specification had no such key.
    let text = match config.get("cniVersion") {
        None => "0.1.0",
        Some(Value::String(text)) => text,
        Some(other) => return Err(field("cniVersion", other, "it should be a text such as \"1.1.0\"")),
    };
    SpecVersion::parse(text).ok_or_else(|| Error::Version { found: text.to_owned() })
}

fn name(config: &Map<String, Value>) -> Result<String, Error> {
    let value = config.get("name").unwrap_or(&Value::Null);
    match value.as_str() {
        Some(name) if is_identifier(name) => Ok(name.to_owned()),
        _ => Err(field("name", value, "the network's name is letters, digits, '_', '.' and '-', the first no mark")),
    }
}

fn state(config: &Map<String, Value>) -> Result<PathBuf, Error> {
    match config.get("stateDir") {
        None => Ok(PathBuf::from(STATE)),
        Some(value) => match value.as_str().map(PathBuf::from) {
            Some(path) if path.is_absolute() => Ok(path),
            _ => Err(field("stateDir", value, "it should be an absolute path such as \"/run/towpath\"")),
        },
    }
}

/// Finds a key in whatever case: containerd writes the keys of `runtimeConfig` as Go names them, others as the
/// conventions do, and Go reads both.
fn any_case<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    let object = object.as_object()?;
    let found = object.get(key).or_else(|| object.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v));
    found.filter(|value| !value.is_null())
}

fn host_ports(config: &Map<String, Value>) -> Result<Vec<HostPort>, Error> {
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

/// The list's key, and what some runtimes call it.
const LISTED: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

fn listed(config: &Map<String, Value>) -> Result<Option<BTreeSet<AttachmentId>>, Error> {
    let Some((key, value)) = LISTED.iter().find_map(|key| Some((key, config.get(*key)?))) else { return Ok(None) };
    let remedy = "it should be a list of {\"containerID\", \"ifname\"}";
    let entries = value.as_array().ok_or_else(|| field(*key, value, remedy))?;
    let entry = |entry: &Value| {
        let container = any_case(entry, "containerID")?.as_str()?.to_owned();
        let interface = any_case(entry, "ifname")?.as_str()?.to_owned();
        Some(AttachmentId { container, interface })
    };
    entries.iter().map(|e| entry(e).ok_or_else(|| field(*key, e, remedy))).collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests;
