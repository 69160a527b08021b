//! What a runtime says.

use serde_json::{Value, json};
use towpath_cni::config::{Config, Error};
use towpath_cni::environment::{Command, Verb, is_identifier};
use towpath_cni::error;
use towpath_cni::result;
use towpath_cni::version::SpecVersion;
use towpath_net::lease::is_host_interface;

use crate::state::a_lease;

const VERBS: [Verb; 6] = [Verb::Add, Verb::Delete, Verb::Check, Verb::CollectGarbage, Verb::Status, Verb::Version];

/// The first byte chooses the verb, the rest is the input.
pub fn config(data: &[u8]) {
    let Some((verb, input)) = data.split_first() else { return };
    let verb = VERBS[usize::from(*verb) % VERBS.len()];
    match Config::parse(verb, input) {
        Ok(config) => {
            assert!(is_identifier(&config.name), "{config:?}");
            assert!(config.state.is_absolute(), "{config:?}");
            assert!(config.host_ports.is_empty() || verb == Verb::Add, "{config:?}");
            assert!(config.listed.is_none() || verb == Verb::CollectGarbage, "{config:?}");
        }
        Err(error) => refusal(error),
    }
}

/// A refusal names the field, and is a document that a runtime can read.
fn refusal(error: Error) {
    if let Error::Field { field, remedy, .. } = &error {
        let text = error.to_string();
        assert!(!field.is_empty() && text.contains(field.as_str()) && text.contains(remedy), "{text}");
    }
    document(&error::Error::from(error));
}

fn document(error: &error::Error) {
    for version in SpecVersion::ALL {
        let printed = error.document(version).to_string();
        let read: Value = serde_json::from_str(&printed).expect("an error is a JSON document");
        assert_eq!(read["code"], error.code() as u32);
        assert_eq!(read["cniVersion"], version.text());
        assert!(read["msg"].as_str().is_some_and(|message| !message.is_empty()), "{printed}");
    }
}

/// The first byte chooses the verb; then lines, for each variable one.
pub fn environment(data: &[u8]) {
    let Some((verb, rest)) = data.split_first() else { return };
    let verb = VERBS[usize::from(*verb) % VERBS.len()];
    let text = String::from_utf8_lossy(rest);
    let lines: Vec<&str> = text.split('\n').collect();
    let names = ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_ARGS", "CNI_NETNS_OVERRIDE"];
    let find = |name: &str| {
        let place = names.iter().position(|known| *known == name)?;
        lines.get(place).map(|line| (*line).to_owned())
    };
    match Command::parse(verb, &find) {
        Ok(Command::Add(place) | Command::Check(place)) => {
            assert!(!place.netns.is_empty());
            assert!(is_identifier(&place.attachment.container));
            assert!(is_host_interface(&place.attachment.host_interface()));
        }
        Ok(_) => {}
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("CNI_") || names.iter().any(|name| text.contains(name)), "{text}");
            document(&error::Error::from(error));
        }
    }
}

/// A JSON value, as the runtime's part of an otherwise good configuration.
pub fn runtime(data: &[u8]) {
    let Ok(asked) = serde_json::from_slice::<Value>(data) else { return };
    let config = json!({
        "cniVersion": "1.1.0", "name": "n", "type": "towpath", "runtimeConfig": asked, "args": {"cni": asked},
    });
    match Config::parse(Verb::Add, config.to_string().as_bytes()) {
        Ok(config) => {
            for (index, port) in config.host_ports.iter().enumerate() {
                assert!(port.host_port != 0 && port.container_port != 0, "{port}");
                let overlaps = config.host_ports[..index].iter().any(|other| other.overlaps(port));
                assert!(!overlaps, "{port} twice in {:?}", config.host_ports);
            }
            assert!(config.mac.is_none_or(towpath_net::mac::Mac::is_unicast), "{config:?}");
        }
        Err(error) => {
            let text = error.to_string();
            assert!(["runtimeConfig", "args.cni", "annotation"].iter().any(|part| text.contains(part)), "{text}");
            refusal(error);
        }
    }
    let detached = Config::parse(Verb::Delete, config.to_string().as_bytes());
    detached.expect("what a runtime asked for keeps no pod from being detached");
}

/// A JSON value, as what the plugins before returned.
pub fn previous(data: &[u8]) {
    let Ok(previous) = serde_json::from_slice::<Value>(data) else { return };
    // The last digit of a fraction may get lost; no result has one.
    if serde_json::from_str::<Value>(&previous.to_string()).ok().as_ref() != Some(&previous) {
        return;
    }
    let lease = a_lease();
    for version in SpecVersion::ALL {
        let result = result::of_lease(version, Some(&previous), &lease);
        assert_eq!(serde_json::from_str::<Value>(&result.to_string()).ok().as_ref(), Some(&result));
        assert_eq!(result["cniVersion"], version.text());
        let list = |key: &str| result[key].as_array().cloned().unwrap_or_default();
        let (interfaces, addresses) = (list("interfaces"), list("ips"));
        assert_eq!(interfaces.last().map(|last| &last["name"]), Some(&json!(lease.interface)));
        for address in addresses.iter().rev().take(lease.addresses.len()) {
            assert_eq!(address["interface"], interfaces.len() - 1, "{result}");
        }
        assert_eq!(list("routes").len(), before(&previous, "routes") + lease.addresses.len());
    }
}

fn before(previous: &Value, key: &str) -> usize {
    previous.get(key).and_then(Value::as_array).map_or(0, Vec::len)
}
