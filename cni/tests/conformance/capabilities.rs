//! The addresses that a pod asks for: C34.

use serde_json::{Value, json};
use towpath_kernel::testing::isolated;

use crate::DUAL;
use crate::support::{Call, add, config, config_after, del, netns, node, ping, sh, traces};

fn asking(runtime: &Value) -> Value {
    let mut config = config();
    config["runtimeConfig"] = runtime.clone();
    config
}

fn annotated(addresses: &str) -> Value {
    asking(&json!({"io.kubernetes.cri.pod-annotations": {"towpath.dev/ip-addresses": addresses, "other": "x"}}))
}

fn given(result: &Value) -> [&str; 2] {
    [result["ips"][0]["address"].as_str().unwrap(), result["ips"][1]["address"].as_str().unwrap()]
}

#[test]
fn c34_a_pod_gets_the_addresses_that_it_asks_for_in_each_way() {
    isolated("capabilities::c34_a_pod_gets_the_addresses_that_it_asks_for_in_each_way", || {
        node(&DUAL);
        let mut args = config();
        args["args"] = json!({"cni": {"ips": ["fd00:10:244:1::77"]}});
        for (config, arguments, expected) in [
            (annotated("10.244.1.7, fd00:10:244:1::7"), "", ["10.244.1.7/24", "fd00:10:244:1::7/64"]),
            (args, "", ["10.244.1.2/24", "fd00:10:244:1::77/64"]),
            (asking(&json!({"Ips": ["10.244.1.8/24"]})), "", ["10.244.1.8/24", "fd00:10:244:1::2/64"]),
            (annotated("10.244.1.9"), "IP=10.244.1.99", ["10.244.1.99/24", "fd00:10:244:1::3/64"]),
        ] {
            let call = Call::of("ADD", "a", &netns("a")).config(&config).with("CNI_ARGS", arguments);
            let result = call.succeed().document;
            assert_eq!(given(&result), expected);
            ping("", expected[0].split('/').next().unwrap());
            Call::of("CHECK", "a", "/run/netns/a").config(&config_after(&result)).succeed();
            del("a");
            sh("ip netns del a");
        }
    });
}

#[test]
fn c34_addresses_that_cannot_be_had_are_refused_and_leave_nothing() {
    isolated("capabilities::c34_addresses_that_cannot_be_had_are_refused_and_leave_nothing", || {
        node(&DUAL);
        let arguments = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=till";
        Call::of("ADD", "a", &netns("a")).config(&annotated("10.244.1.7")).with("CNI_ARGS", arguments).succeed();
        let path = netns("b");
        let before = traces();
        for (asked, reason) in [
            ("10.244.1.7", "it is taken by pod shop/till (a/eth0)"),
            ("10.244.1.1", "it is the gateway of 10.244.1.0/24"),
            ("10.9.0.7", "this node's pods have addresses of 10.244.1.0/24"),
        ] {
            let message = Call::of("ADD", "b", &path).config(&annotated(asked)).fail(106);
            assert!(message.contains(reason), "{message}");
        }
        for garbage in ["x", "10.244.1.7,10.244.1.8", "10.244.1.7 10.244.1.8"] {
            let message = Call::of("ADD", "b", &path).config(&annotated(garbage)).fail(7);
            assert!(message.contains("the pod's annotation towpath.dev/ip-addresses is"), "{message}");
        }
        assert!(Call::of("ADD", "b", &path).with("CNI_ARGS", "IP=x").fail(4).contains("CNI_ARGS has IP=x"));
        assert_eq!(traces(), before);
    });
}

#[test]
fn c34_a_pod_gets_the_ethernet_address_that_it_asks_for() {
    isolated("capabilities::c34_a_pod_gets_the_ethernet_address_that_it_asks_for", || {
        node(&DUAL);
        let config = asking(&json!({"mac": "02:42:00:00:00:07"}));
        for (arguments, expected) in [("", "02:42:00:00:00:07"), ("MAC=02:42:00:00:00:09", "02:42:00:00:00:09")] {
            let call = Call::of("ADD", "a", &netns("a")).config(&config).with("CNI_ARGS", arguments);
            let result = call.succeed().document;
            assert_eq!(result["interfaces"][1]["mac"], expected);
            assert!(sh("ip -n a link show eth0").contains(expected));
            ping("", result["ips"][0]["address"].as_str().unwrap().trim_end_matches("/24"));
            Call::of("CHECK", "a", "/run/netns/a").config(&config_after(&result)).succeed();
            del("a");
            sh("ip netns del a");
        }
        for wrong in ["01:00:5e:00:00:01", "x", "00:00:00:00:00:00"] {
            let message = Call::of("ADD", "a", "/x").config(&asking(&json!({"mac": wrong}))).fail(7);
            assert!(message.contains("runtimeConfig.mac is"), "{message}");
        }
        add("b");
    });
}
