//! VERSION, and the loopback plugin: C31 and C35.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use towpath_kernel::testing::isolated;

use crate::support::{Call, netns, sh, traces};

#[test]
fn c31_version_needs_nothing_but_the_command() {
    let expected = json!({"cniVersion": "1.1.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]});
    for input in ["", "{\"cniVersion\": \"9.9.9\"}", "x"] {
        assert_eq!(Call::new("VERSION").input(input).succeed().document, expected);
    }
    let dummy = Call::new("VERSION").with("CNI_NETNS", "dummy").with("CNI_IFNAME", "dummy").with("CNI_PATH", "dummy");
    assert_eq!(dummy.succeed().document, expected);
}

#[test]
fn the_agent_recognises_the_binary_by_the_api_group_in_it() {
    let binary = fs::read(env!("CARGO_BIN_EXE_towpath")).unwrap();
    assert!(binary.windows(11).any(|window| window == b"towpath.dev"));
}

#[test]
fn c35_called_as_loopback_it_sets_the_loopback_up() {
    isolated("version::c35_called_as_loopback_it_sets_the_loopback_up", || {
        fs::create_dir_all("/run/bin").unwrap();
        symlink(env!("CARGO_BIN_EXE_towpath"), "/run/bin/loopback").unwrap();
        let path = netns("a");
        let before = traces();
        let mut config = json!({"cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback"});
        let call = |verb: &str, config: &Value| {
            Call::of(verb, "a", &path).with("CNI_IFNAME", "lo").config(config).program("/run/bin/loopback")
        };
        config["cniVersion"] = json!("1.0.0");
        assert!(call("CHECK", &config).fail(105).contains("link lo is down"));
        for version in ["0.3.1", "1.0.0"] {
            config["cniVersion"] = json!(version);
            let result = call("ADD", &config).succeed().document;
            assert_eq!(
                result["interfaces"],
                json!([{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": "/run/netns/a"}])
            );
            assert_eq!(result["ips"][0]["address"], "127.0.0.1/8");
            assert_eq!(result["ips"][1]["address"], "::1/128");
        }
        sh("ip netns exec a ping -n -c 1 -W 5 127.0.0.1");
        call("CHECK", &config).succeed();
        config["cniVersion"] = json!("1.1.0");
        call("STATUS", &config).succeed();
        call("GC", &config).succeed();
        assert_eq!(call("DEL", &config).succeed().stdout, "");
        sh("ip netns del a");
        call("DEL", &config).succeed();
        call("ADD", &config).fail(8);
        assert_eq!(traces(), before);
        call("ADD", &config).with("CNI_NETNS", "/proc/self/ns/net").fail(8);
    });
}
