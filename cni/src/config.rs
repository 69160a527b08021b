//! What a runtime says on standard input: the network's configuration (CNI specification, section 1).

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Map, Value};
use towpath_net::bandwidth::Bandwidth;
use towpath_net::lease::{AttachmentId, HostPort};
use towpath_net::mac::Mac;

use crate::environment::{Verb, is_identifier};
use crate::version::SpecVersion;
use crate::wish::{self, Asked};
use crate::{bandwidth, hostports};

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
    /// How much of the pod's traffic may pass; only read for ADD.
    pub bandwidth: Option<Bandwidth>,
    /// The addresses that the pod shall have; only read for ADD.
    pub asked: Asked,
    /// The Ethernet address that its interface shall have; only read for ADD.
    pub mac: Option<Mac>,
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
            host_ports: if verb == Verb::Add { hostports::asked(&config)? } else { Vec::new() },
            bandwidth: if verb == Verb::Add { bandwidth::asked(&config)? } else { None },
            asked: if verb == Verb::Add { wish::asked(&config)? } else { Asked::default() },
            mac: if verb == Verb::Add { wish::asked_mac(&config)? } else { None },
            previous: config.get("prevResult").filter(|value| !value.is_null()).cloned(),
            listed: if verb == Verb::CollectGarbage { listed(&config)? } else { None },
        })
    }
}

/// The error of a field.
pub(crate) fn field(field: impl Into<String>, value: &Value, remedy: &'static str) -> Error {
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
pub(crate) fn any_case<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    let object = object.as_object()?;
    let found = object.get(key).or_else(|| object.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v));
    found.filter(|value| !value.is_null())
}

/// The list's key, and what some runtimes call it.
const LISTED: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

fn listed(config: &Map<String, Value>) -> Result<Option<BTreeSet<AttachmentId>>, Error> {
    let Some((key, value)) = LISTED.iter().find_map(|key| Some((key, config.get(*key)?))) else { return Ok(None) };
    let remedy = "it should be a list of {\"containerID\", \"ifname\"}";
    let entries = match value {
        Value::Array(entries) => entries.as_slice(),
        // Go's empty list: CRI-O says so on a node without pods.
        Value::Null => &[],
        other => return Err(field(*key, other, remedy)),
    };
    let entry = |entry: &Value| {
        let container = any_case(entry, "containerID")?.as_str()?.to_owned();
        let interface = any_case(entry, "ifname")?.as_str()?.to_owned();
        Some(AttachmentId { container, interface })
    };
    entries.iter().map(|e| entry(e).ok_or_else(|| field(*key, e, remedy))).collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests;
