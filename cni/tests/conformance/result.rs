//! What ADD returns: C11 to C15.

use std::fs;

use serde_json::{Value, json};
use towpath_kernel::testing::isolated;
use towpath_net::lease::host_interface;

use crate::DUAL;
use crate::support::{Call, add, config, netns, node, sh};

/// Upstream speaks 0.1.0 and 0.2.0, too, which no runtime of today asks for.
#[test]
fn c11_results_have_the_shape_of_the_configurations_version() {
    isolated("result::c11_results_have_the_shape_of_the_configurations_version", || {
        node(&DUAL);
        for (index, version) in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"].iter().enumerate() {
            let name = format!("pod{index}");
            let mut config = config();
            config["cniVersion"] = json!(version);
            let result = Call::of("ADD", &name, &netns(&name)).config(&config).succeed().document;
            assert_eq!(result["cniVersion"], *version);
            let old = version.starts_with('0');
            let families = if old { [json!("4"), json!("6")] } else { [Value::Null, Value::Null] };
            assert_eq!([&result["ips"][0]["version"], &result["ips"][1]["version"]], families.each_ref());
            assert_eq!(result["interfaces"][1]["mtu"].is_null(), *version != "1.1.0");
            assert_eq!(result["interfaces"][0]["sandbox"], Value::Null);
        }
    });
}

#[test]
fn c12_the_result_says_what_was_made() {
    isolated("result::c12_the_result_says_what_was_made", || {
        node(&DUAL);
        let result = add("a");
        let mac = |line: &str| sh(line).split_whitespace().nth(1).unwrap().to_owned();
        let veth = host_interface("a", "eth0");
        let expected = json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": veth, "mac": mac(&format!("ip link show {veth} | grep ether")), "mtu": 1450},
                {"name": "eth0", "mac": mac("ip -n a link show eth0 | grep ether"), "mtu": 1450, "sandbox": "/run/netns/a"},
            ],
            "ips": [
                {"interface": 1, "address": "10.244.1.2/24", "gateway": "10.244.1.1"},
                {"interface": 1, "address": "fd00:10:244:1::2/64", "gateway": "fd00:10:244:1::1"},
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.244.1.1"}, {"dst": "::/0", "gw": "fd00:10:244:1::1"}],
        });
        assert_eq!(result, expected);
    });
}

/// containerd compares the path with the one that it gave.
#[test]
fn c12_the_namespace_is_named_as_the_runtime_wrote_it() {
    isolated("result::c12_the_namespace_is_named_as_the_runtime_wrote_it", || {
        node(&DUAL);
        netns("a");
        let path = "/run/../run/netns/./a";
        let result = Call::of("ADD", "a", path).succeed().document;
        assert_eq!(result["interfaces"][1]["sandbox"], path);
    });
}

#[test]
fn c13_a_plugin_before_keeps_what_it_returned() {
    isolated("result::c13_a_plugin_before_keeps_what_it_returned", || {
        node(&DUAL);
        let mut config = config();
        config["prevResult"] = json!({
            "cniVersion": "1.1.0", "interfaces": [{"name": "x0"}], "dns": {"nameservers": ["192.0.2.1"]},
        });
        let result = Call::of("ADD", "a", &netns("a")).config(&config).succeed().document;
        assert_eq!(result["interfaces"][0]["name"], "x0");
        assert_eq!(result["interfaces"][2]["name"], "eth0");
        assert_eq!(result["ips"][0]["interface"], 2);
        assert_eq!(result["dns"]["nameservers"][0], "192.0.2.1");
    });
}

#[test]
fn c14_an_empty_dns_is_taken_and_not_returned() {
    isolated("result::c14_an_empty_dns_is_taken_and_not_returned", || {
        node(&DUAL);
        assert_eq!(config()["dns"], json!({}));
        let result = add("a");
        assert!(result.get("dns").is_none());
        assert!(result["routes"].as_array().unwrap().iter().all(|route| route["dst"].is_string()));
    });
}

/// Upstream delegates to a plugin for addresses; Towpath gives them itself, and needs no other program.
#[test]
fn c15_no_other_plugin_is_asked_for_addresses() {
    isolated("result::c15_no_other_plugin_is_asked_for_addresses", || {
        node(&DUAL);
        fs::create_dir("/run/bin").unwrap();
        let mut config = config();
        config["ipam"] = json!({"type": "host-local", "subnet": "192.0.2.0/24"});
        let call = Call::of("ADD", "a", &netns("a")).config(&config).with("CNI_PATH", "/run/bin");
        assert_eq!(call.succeed().document["ips"][0]["address"], "10.244.1.2/24");
    });
}
