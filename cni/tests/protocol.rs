//! What a runtime may say, and what it is answered.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::{Call, config, netns, node, sh, traces};
use towpath_kernel::testing::isolated;

#[test]
fn version_needs_nothing_but_the_command() {
    let expected = json!({"cniVersion": "1.1.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]});
    for input in ["", "{\"cniVersion\": \"9.9.9\"}", "x"] {
        assert_eq!(Call::new("VERSION").input(input).succeed().document, expected);
    }
}

#[test]
fn called_by_hand_it_says_what_it_is() {
    for call in [Call::new(""), Call::new("").input("")] {
        let answer = call.run();
        assert_eq!((answer.status, answer.stdout.as_str()), (0, ""));
        assert!(answer.stderr.contains("Towpath CNI plugin"), "{}", answer.stderr);
        assert!(answer.stderr.contains("0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{}", answer.stderr);
    }
}

#[test]
fn the_agent_recognises_the_binary_by_the_api_group_in_it() {
    let binary = fs::read(env!("CARGO_BIN_EXE_towpath")).unwrap();
    assert!(binary.windows(11).any(|window| window == b"towpath.dev"));
}

#[test]
fn a_bad_environment_is_named() {
    assert!(Call::new("ADD").fail(4).contains("required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME] missing"));
    assert!(Call::new("DEL").fail(4).contains("required env variables [CNI_CONTAINERID,CNI_IFNAME] missing"));
    assert!(Call::new("DESTROY").fail(4).contains("unknown CNI_COMMAND \"DESTROY\""));
    assert!(Call::of("ADD", "../x", "/x").fail(4).contains("CNI_CONTAINERID"));
    assert!(Call::of("ADD", "x", "/x").with("CNI_IFNAME", "a/b").fail(4).contains("CNI_IFNAME"));
    assert!(Call::of("ADD", "x", "/x").with("CNI_ARGS", "A=1").fail(4).contains("unknown keys [A]"));
}

#[test]
fn a_bad_configuration_is_named_in_one_document() {
    let with = |key: &str, value: Value| {
        let mut config = config();
        config[key] = value;
        Call::of("ADD", "a", "/run/netns/none").config(&config)
    };
    assert!(Call::of("ADD", "a", "/x").input("").fail(6).contains("not a JSON object"));
    assert!(Call::of("DEL", "a", "/x").input("{").fail(6).contains("not a JSON object"));
    assert!(with("cniVersion", json!("1.0")).fail(1).contains("config is \"1.0\", plugin supports"));
    assert!(with("name", json!("a b")).fail(7).contains("name is \"a b\""));
    assert!(with("stateDir", json!("run")).fail(7).contains("stateDir is \"run\""));
    let ports = json!({"portMappings": [{"HostPort": 99999, "ContainerPort": 1}]});
    assert!(with("runtimeConfig", ports).fail(7).contains("runtimeConfig.portMappings[0].hostPort is 99999"));
    let old = with("cniVersion", json!("0.4.0")).run();
    assert_eq!(old.document["cniVersion"], "0.4.0", "an error is in the configuration's version");
    let mut old = config();
    old["cniVersion"] = json!("1.0.0");
    for verb in ["GC", "STATUS"] {
        assert!(Call::new(verb).config(&old).fail(1).contains(verb));
    }
}

#[test]
fn containerds_environment_and_keys_work_as_they_come() {
    isolated("containerds_environment_and_keys_work_as_they_come", || {
        node(&["10.244.1.0/24"]);
        fs::create_dir_all("/run/over").unwrap();
        let mut config = config();
        config["args"] = json!({"cni": {"labels": []}});
        config["cni.dev/unknown"] = json!(7);
        config["runtimeConfig"] = json!({"PortMappings": [], "bandWidth": {"IngressRate": 1}});
        Call::of("ADD", "0a1b", &netns("a"))
            .config(&config)
            .with(
                "CNI_ARGS",
                "K8S_POD_INFRA_CONTAINER_ID=0a1b;K8S_POD_UID=u;IgnoreUnknown=1;X=y;K8S_POD_NAME=p;K8S_POD_NAMESPACE=n",
            )
            .with("TRACEPARENT", "00-0-0-00")
            .succeed();
        let pod = support::leases().remove(0).pod.unwrap();
        assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_str()), ("n", "p", "u"));
        Call::of("DEL", "0a1b", "").config(&config).succeed();
    });
}

#[test]
fn called_as_loopback_it_sets_the_loopback_up() {
    isolated("called_as_loopback_it_sets_the_loopback_up", || {
        fs::create_dir_all("/run/bin").unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_towpath"), "/run/bin/loopback").unwrap();
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
