//! CHECK: C26. It finds every alteration, and nothing where there is none.

use crate::DUAL;
use crate::support::{Call, add, config, config_after, config_with_ports, del, netns, node, sh, table};
use serde_json::json;
use towpath_kernel::testing::isolated;
use towpath_net::lease::host_interface;

#[test]
fn c26_a_pod_just_attached_passes_and_every_alteration_is_found() {
    isolated("check::c26_a_pod_just_attached_passes_and_every_alteration_is_found", || {
        node(&DUAL);
        let veth = host_interface("a", "eth0");
        let alterations = [
            (
                "ip neigh replace ADDRESS lladdr 02:00:00:00:00:01 dev VETH",
                "on the node: neighbour ADDRESS is believed",
            ),
            ("ip neigh replace SIXTH lladdr 02:00:00:00:00:01 dev VETH", "on the node: neighbour SIXTH is believed"),
            (
                "ip -n POD neigh replace 10.244.1.1 lladdr 02:00:00:00:00:01 dev eth0",
                "in the pod: neighbour 10.244.1.1 is",
            ),
            ("rm /run/towpath/leases/addresses/ADDRESS", "the lease has lost its address ADDRESS (nobody has it now)"),
            (
                "cd /run/towpath/leases && sed 's/\"a\"/\"b\"/' attachments/a:eth0 >x && mv x addresses/ADDRESS",
                "the lease has lost its address ADDRESS (it is now that of b/eth0)",
            ),
            ("sed -i s/Ready/Joining/ /run/towpath/leases/attachments/a:eth0", "the lease is Joining, not complete"),
            ("ip link set VETH down", "on the node: link VETH is down"),
            ("ip link set VETH mtu 1400", "on the node: link VETH has MTU 1400, not 1450"),
            ("ip link set VETH address 02:00:00:00:00:01", "on the node: link VETH has not the Ethernet address"),
            ("ip addr del 10.244.1.1/32 dev VETH", "on the node: address 10.244.1.1/32 is missing"),
            ("ip addr del fe80::1/128 dev VETH", "on the node: address fe80::1/128 is missing"),
            ("ip route del ADDRESS", "on the node: route ADDRESS/32 dev"),
            ("ip -6 route del SIXTH", "on the node: route SIXTH/128 dev"),
            ("ip link del VETH", "on the node: link VETH is missing"),
            ("ip link set VETH name other", "on the node: link VETH is missing"),
            ("ip -n POD link set eth0 down", "in the pod: link eth0 is down"),
            ("ip -n POD link set eth0 mtu 1400", "in the pod: link eth0 has MTU 1400"),
            ("ip -n POD link set eth0 address 02:00:00:00:00:01", "in the pod: link eth0 has not the Ethernet"),
            ("ip -n POD addr del ADDRESS/24 dev eth0", "in the pod: address ADDRESS/24 is missing"),
            ("ip -n POD addr del SIXTH/64 dev eth0", "in the pod: address SIXTH/64 is missing"),
            ("ip -n POD route del default", "in the pod: route 0.0.0.0/0 via 10.244.1.1"),
            ("ip -n POD -6 route del default", "in the pod: route ::/0 via fd00:10:244:1::1"),
            ("ip -n POD route del 10.244.1.0/24", "in the pod: route 10.244.1.0/24 via 10.244.1.1"),
            ("ip -n POD route replace default dev eth0", "in the pod: route 0.0.0.0/0 via 10.244.1.1"),
        ];
        for (alteration, found) in alterations {
            let result = add("a");
            let address = result["ips"][0]["address"].as_str().unwrap().trim_end_matches("/24");
            let sixth = result["ips"][1]["address"].as_str().unwrap().trim_end_matches("/64");
            let fill = |text: &str| {
                let text = text.replace("VETH", &veth).replace("ADDRESS", address);
                text.replace("SIXTH", sixth).replace("POD", "a")
            };
            let check = Call::of("CHECK", "a", "/run/netns/a").config(&config_after(&result));
            assert_eq!(check.succeed().stdout, "");
            sh(&fill(alteration));
            let message = check.fail(105);
            assert!(message.contains(&fill(found)), "{alteration}: {message}");
            del("a");
            sh("ip netns del a");
            sh("ip link del other 2>/dev/null; true");
        }
    });
}

#[test]
fn c26_a_check_without_what_add_returned_or_of_somebody_else_fails() {
    isolated("check::c26_a_check_without_what_add_returned_or_of_somebody_else_fails", || {
        node(&DUAL);
        let result = add("a");
        let after = config_after(&result);
        let message = Call::of("CHECK", "a", "/run/netns/a").fail(7);
        assert!(message.contains("prevResult is missing"), "{message}");
        Call::of("CHECK", "b", "/run/netns/a").config(&after).fail(3);
        let message = Call::of("CHECK", "a", &netns("b")).config(&after).fail(105);
        assert!(message.contains("the lease is of another network namespace"), "{message}");
        let mut old = config();
        old["cniVersion"] = json!("0.3.1");
        Call::of("CHECK", "a", "/run/netns/a").config(&old).fail(1);
        // Another plugin of the chain gave the interface another Ethernet address, and said so.
        sh("ip -n a link set eth0 address 02:00:00:00:00:01");
        let mut after = after;
        after["prevResult"]["interfaces"][1]["mac"] = json!("02:00:00:00:00:01");
        Call::of("CHECK", "a", "/run/netns/a").config(&after).succeed();
    });
}

#[test]
fn c26_a_pod_whose_packets_do_not_pass_is_found() {
    isolated("check::c26_a_pod_whose_packets_do_not_pass_is_found", || {
        node(&DUAL);
        table();
        let result = add("a");
        let check = Call::of("CHECK", "a", "/run/netns/a").config(&config_after(&result));
        for set in ["senders-v4", "senders-v6"] {
            check.succeed();
            let elements = sh(&format!("nft list set inet towpath {set}"));
            let elements = elements.split_once("elements = ").unwrap().1.split_once('}').unwrap().0;
            sh(&format!("nft flush set inet towpath {set}"));
            let message = check.fail(105);
            assert!(message.contains(&format!("an element of set {set} is missing")), "{message}");
            sh(&format!("nft add element inet towpath {set} '{elements}}}'"));
        }
        // An agent of before lets all packets pass, and has no such sets.
        sh("nft delete table inet towpath; nft add table inet towpath");
        check.succeed();
    });
}

#[test]
fn c26_a_host_port_that_is_closed_is_found() {
    isolated("check::c26_a_host_port_that_is_closed_is_found", || {
        node(&DUAL);
        table();
        let ports =
            config_with_ports(&json!([{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}]));
        let result = Call::of("ADD", "a", &netns("a")).config(&ports).succeed().document;
        let check = Call::of("CHECK", "a", "/run/netns/a").config(&config_after(&result));
        check.succeed();
        sh("nft flush map inet towpath hostports-v4");
        let message = check.fail(105);
        assert!(message.contains("an element of set hostports-v4 is missing"), "{message}");
    });
}
