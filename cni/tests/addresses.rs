//! Which addresses pods get where there are few: several blocks, addresses that rest, another block that comes while
//! pods wait, and leases that were lost.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{
    Call, STATE, add, collect, config_after, del, leases, netns, node, node_json, ping, sh, sweep, table, wait_until,
    write_node_json,
};
use towpath_kernel::leases::Store;
use towpath_kernel::testing::isolated;
use towpath_net::PerFamily;
use towpath_net::lease::{Phase, host_interface};

const DUAL: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];

fn given(result: &Value) -> &str {
    result["ips"][0]["address"].as_str().unwrap()
}

#[test]
fn pods_of_several_blocks_reach_each_other_and_pass_a_check() {
    isolated("pods_of_several_blocks_reach_each_other_and_pass_a_check", || {
        node(&["10.244.1.0/30", "10.244.7.0/29", "fd00::/126", "fd00:7::/64"]);
        let results = ["a", "b", "c"].map(add);
        let addresses = results.each_ref().map(|result| given(result).to_owned());
        assert_eq!(addresses, ["10.244.1.2/30", "10.244.7.2/29", "10.244.7.3/29"]);
        assert_eq!(results[2]["ips"][1]["address"], "fd00:7::2/64");
        ping("ip netns exec a", "10.244.7.2");
        ping("ip netns exec c", "10.244.1.2");
        ping("ip netns exec c", "fd00::2");
        for (name, result) in ["a", "b", "c"].iter().zip(&results) {
            let check = Call::of("CHECK", name, &format!("/run/netns/{name}")).config(&config_after(result));
            check.succeed();
        }
    });
}

#[test]
fn pods_that_wait_for_a_block_get_addresses_as_soon_as_it_is_there() {
    isolated("pods_that_wait_for_a_block_get_addresses_as_soon_as_it_is_there", || {
        let mut content = node_json(&["10.244.1.0/30", "fd00::/64"]);
        content["addressing"] = json!({"growing": true});
        write_node_json(&content);
        add("first");
        let paths: Vec<String> = (0..5).map(|i| netns(&format!("p{i}"))).collect();
        let start = |(i, path): (usize, &String)| Call::of("ADD", &format!("p{i}"), path).start();
        let waiting: Vec<_> = paths.iter().enumerate().map(start).collect();
        let store = Store::below(Path::new(STATE));
        wait_until("all pods wait", || store.waiting().unwrap() == PerFamily { v4: 5, v6: 0 });
        // One of them is killed: it does not count any more.
        let mut waiting = waiting.into_iter();
        let mut killed = waiting.next().unwrap();
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert_eq!(store.waiting().unwrap(), PerFamily { v4: 4, v6: 0 });
        content["podCIDRs"].as_array_mut().unwrap().push(json!("10.244.9.0/29"));
        fs::write("/run/towpath/.node.json", content.to_string()).unwrap();
        fs::rename("/run/towpath/.node.json", "/run/towpath/node.json").unwrap();
        let mut addresses = BTreeSet::new();
        for child in waiting {
            let output = child.wait_with_output().unwrap();
            let result: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(output.status.success(), "{result}");
            addresses.insert(given(&result).to_owned());
        }
        assert_eq!(
            addresses,
            ["10.244.9.2/29", "10.244.9.3/29", "10.244.9.4/29", "10.244.9.5/29"].map(str::to_owned).into()
        );
        assert!(sweep().untidy.is_none());
        assert_eq!(fs::read_dir("/run/towpath/leases/waiting").unwrap().count(), 0);
    });
}

#[test]
fn an_address_just_freed_goes_to_nobody_else_until_it_has_rested() {
    isolated("an_address_just_freed_goes_to_nobody_else_until_it_has_rested", || {
        let mut content = node_json(&["10.244.1.0/30"]);
        content["quarantine"] = json!(3600);
        write_node_json(&content);
        add("a");
        del("a");
        let path = netns("b");
        let message = Call::of("ADD", "b", &path).fail(11);
        assert!(message.contains("were freed just now"), "{message}");
        content["quarantine"] = json!(0);
        write_node_json(&content);
        Call::of("ADD", "b", &path).succeed();
    });
}

#[test]
fn an_address_that_a_route_leads_to_is_passed_over() {
    isolated("an_address_that_a_route_leads_to_is_passed_over", || {
        node(&DUAL);
        sh("ip route add blackhole 10.244.1.2/32; ip -6 route add blackhole fd00:10:244:1::3/128");
        let result = add("a");
        assert_eq!(given(&result), "10.244.1.3/24");
        assert_eq!(result["ips"][1]["address"], "fd00:10:244:1::4/64");
        let asked = Call::of("ADD", "b", &netns("b")).with("CNI_ARGS", "IP=10.244.1.2");
        assert!(asked.fail(106).contains("a route of this node leads to it already"));
        assert_eq!(leases().len(), 1);
    });
}

#[test]
fn lost_leases_are_made_anew_and_no_pod_gets_an_address_of_theirs() {
    isolated("lost_leases_are_made_anew_and_no_pod_gets_an_address_of_theirs", || {
        node(&DUAL);
        table();
        for name in ["a", "b", "c"] {
            add(name);
        }
        let before = leases();
        fs::remove_dir_all("/run/towpath/leases").unwrap();
        // Nobody has noticed yet.
        assert_eq!(given(&add("d")), "10.244.1.5/24");
        let swept = sweep();
        assert_eq!(swept.adopted.len(), 3);
        assert!(swept.released.is_empty() && swept.failed.is_empty() && swept.untidy.is_none(), "{swept:?}");
        let after = leases();
        assert_eq!(after.len(), 4);
        for (old, new) in before.iter().zip(&after) {
            assert_eq!((&old.addresses, &old.host_interface, old.mtu), (&new.addresses, &new.host_interface, new.mtu));
            assert_eq!(new.phase, Phase::Ready);
        }
        assert!(sweep().adopted.is_empty());
        collect(Some(&[])).succeed();
        assert_eq!(leases().len(), 4);
        assert_eq!(given(&add("e")), "10.244.1.6/24");
        for name in ["a", "b", "c", "d", "e"] {
            ping(&format!("ip netns exec {name}"), "10.244.1.1");
            del(name);
        }
        assert!(leases().is_empty());
    });
}

#[test]
fn a_lost_lease_of_a_pod_that_dies_is_freed_again() {
    isolated("a_lost_lease_of_a_pod_that_dies_is_freed_again", || {
        node(&DUAL);
        add("a");
        fs::remove_dir_all("/run/towpath/leases").unwrap();
        assert_eq!(sweep().adopted.len(), 1);
        sh("ip netns del a");
        wait_until("the kernel removed the link", || !sh("ip -o link").contains(&host_interface("a", "eth0")));
        assert_eq!(sweep().released.len(), 1);
        assert!(leases().is_empty());
    });
}
