//! The addresses that a pod asks for: by `CNI_ARGS` (`IP=`, `MAC=`), by the capabilities `ips` and `mac`, by
//! `args.cni.ips` (CNI conventions), or by an annotation of the pod. The first of these that says anything counts.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};
use towpath_net::mac::Mac;
use towpath_net::{Family, PerFamily};

use crate::config::{Error, any_case, field};

/// Under which key runtimes hand over the pod's annotations, where the configuration declares it as a capability.
pub const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
/// The annotation of a pod that asks for addresses: one of each family at most, with a comma in between.
pub const ANNOTATION: &str = "towpath.dev/ip-addresses";

/// What a list of addresses may be.
const LIST: &str = "it should be a list of addresses such as [\"10.244.1.7\", \"fd00::7\"]";
/// What an address may be.
const ADDRESS: &str = "each should be an address such as 10.244.1.7 or 10.244.1.7/24";
/// How many there may be.
const ONE_EACH: &str = "there may be one address of each family";
/// What an Ethernet address may be.
const MAC: &str = "it should be an Ethernet address of one interface, such as 02:00:5e:10:00:01";

/// Addresses that were asked for, by family.
pub type Asked = PerFamily<Option<IpAddr>>;

/// Reads addresses, with or without a prefix length: the node's block has the one that counts.
pub fn addresses<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Asked, &'static str> {
    let mut asked = Asked::default();
    for text in texts.into_iter().map(str::trim).filter(|text| !text.is_empty()) {
        let address = text.parse().or_else(|_| text.parse::<IpNet>().map(|net| net.addr())).map_err(|_| ADDRESS)?;
        if asked.get_mut(Family::of(address)).replace(address).is_some() {
            return Err(ONE_EACH);
        }
    }
    Ok(asked)
}

/// Reads an Ethernet address.
pub fn mac(text: &str) -> Result<Option<Mac>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse::<Mac>().ok().filter(|mac| mac.is_unicast()).map(Some).ok_or(MAC)
}

/// The addresses that the runtime or the pod's annotation asks for.
pub fn asked(config: &Map<String, Value>) -> Result<Asked, Error> {
    let runtime = config.get("runtimeConfig");
    let arguments = config.get("args").and_then(|args| args.get("cni"));
    let annotation = runtime.and_then(|runtime| runtime.get(ANNOTATIONS)?.get(ANNOTATION));
    let lists = [
        ("runtimeConfig.ips", runtime.and_then(|runtime| any_case(runtime, "ips"))),
        ("args.cni.ips", arguments.and_then(|arguments| any_case(arguments, "ips"))),
    ];
    for (name, list) in lists {
        let Some(value) = list else { continue };
        let texts: Option<Vec<&str>> = value.as_array().and_then(|all| all.iter().map(Value::as_str).collect());
        let asked = texts.ok_or(LIST).and_then(addresses).map_err(|remedy| field(name, value, remedy))?;
        if asked != Asked::default() {
            return Ok(asked);
        }
    }
    let Some(value) = annotation.filter(|value| !value.is_null()) else { return Ok(Asked::default()) };
    let texts = value.as_str().map(|text| text.split(','));
    let asked = texts.ok_or(ADDRESS).and_then(addresses);
    asked.map_err(|remedy| field(format!("the pod's annotation {ANNOTATION}"), value, remedy))
}

/// The Ethernet address that the runtime asks for.
pub fn asked_mac(config: &Map<String, Value>) -> Result<Option<Mac>, Error> {
    let value = config.get("runtimeConfig").and_then(|runtime| any_case(runtime, "mac"));
    value.map_or(Ok(None), |value| {
        value.as_str().ok_or(MAC).and_then(mac).map_err(|remedy| field("runtimeConfig.mac", value, remedy))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(config: &Value) -> Result<String, String> {
        let asked = asked(config.as_object().unwrap()).map_err(|error| error.to_string())?;
        let all: Vec<String> = asked.iter().filter_map(|(_, address)| address.map(|a| a.to_string())).collect();
        Ok(all.join(" "))
    }

    #[test]
    fn the_first_place_that_names_addresses_counts() {
        let annotations = json!({"towpath.dev/ip-addresses": "10.244.1.7, fd00::7/64", "other": "x"});
        let mut config = json!({"runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations}});
        assert_eq!(of(&config).unwrap(), "10.244.1.7 fd00::7");
        config["args"] = json!({"cni": {"ips": ["fd00::8"]}});
        assert_eq!(of(&config).unwrap(), "fd00::8");
        config["runtimeConfig"]["Ips"] = json!(["10.244.1.9/24"]);
        assert_eq!(of(&config).unwrap(), "10.244.1.9");
        config["runtimeConfig"]["Ips"] = json!([]);
        assert_eq!(of(&config).unwrap(), "fd00::8");
        assert_eq!(of(&json!({})).unwrap(), "");
    }

    #[test]
    fn what_is_no_address_is_named_with_its_place() {
        let annotated = |value: Value| {
            let annotations = json!({"towpath.dev/ip-addresses": value});
            of(&json!({"runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations}})).unwrap_err()
        };
        assert_eq!(
            annotated(json!("10.244.1.300")),
            "the pod's annotation towpath.dev/ip-addresses is \"10.244.1.300\": each should be an address such as \
             10.244.1.7 or 10.244.1.7/24"
        );
        assert!(annotated(json!("10.0.0.1,10.0.0.2")).ends_with(ONE_EACH));
        assert!(annotated(json!(["10.0.0.1"])).ends_with(ADDRESS));
        let refused = of(&json!({"runtimeConfig": {"ips": "10.0.0.1"}})).unwrap_err();
        assert!(refused.starts_with("runtimeConfig.ips is \"10.0.0.1\": it should be a list"), "{refused}");
        assert!(of(&json!({"args": {"cni": {"ips": [1]}}})).is_err());
    }

    #[test]
    fn an_ethernet_address_is_one_interfaces() {
        let of = |value: Value| asked_mac(json!({"runtimeConfig": {"mac": value}}).as_object().unwrap());
        assert_eq!(of(json!("02:00:5E:10:00:01")).unwrap(), Some(Mac([2, 0, 0x5e, 0x10, 0, 1])));
        assert_eq!(of(json!("")).unwrap(), None);
        for wrong in [json!("01:00:5e:00:00:01"), json!("00:00:00:00:00:00"), json!("x"), json!(7)] {
            assert!(of(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
