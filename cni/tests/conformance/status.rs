//! STATUS: C27 and C28.

use std::fs;

use serde_json::json;
use towpath_kernel::testing::isolated;

use crate::DUAL;
use crate::support::{Call, add, del, netns, node, node_json, sh, table, write_node_json};

#[test]
fn c27_the_status_is_50_where_no_pod_can_be_attached() {
    isolated("status::c27_the_status_is_50_where_no_pod_can_be_attached", || {
        let message = Call::new("STATUS").fail(50);
        assert!(message.contains("/run/towpath/node.json is missing"), "{message}");
        node(&["10.244.1.0/30", "fd00:10:244:1::/64"]);
        assert!(Call::new("STATUS").fail(50).contains("the table inet towpath is missing"));
        table();
        assert_eq!(Call::new("STATUS").succeed().stdout, "");
    });
}

/// Upstream answers 0 where no address is free, whatever the reason. Here that is so where pods have them: with 50, a
/// kubelet says that its node has no network, and the pods that have the addresses are evicted five minutes later.
#[test]
fn c27_the_status_of_a_node_without_a_free_address_is_good_only_where_pods_have_them() {
    isolated("status::c27_the_status_of_a_node_without_a_free_address_is_good_only_where_pods_have_them", || {
        table();
        let mut content = node_json(&["10.244.1.0/30", "fd00:10:244:1::/64"]);
        write_node_json(&content);
        add("a");
        Call::new("STATUS").succeed();
        let answer = Call::of("ADD", "b", &netns("b")).fail(11);
        assert!(answer.contains("all addresses of 10.244.1.0/30 are taken"), "{answer}");
        del("a");
        content["addressing"] = json!({"reserved": ["10.244.1.0/30"]});
        write_node_json(&content);
        let message = Call::new("STATUS").fail(50);
        assert!(message.contains("all addresses of 10.244.1.0/30 are taken"), "{message}");
    });
}

#[test]
fn c27_the_status_is_good_where_an_address_will_be_free_before_long() {
    isolated("status::c27_the_status_is_good_where_an_address_will_be_free_before_long", || {
        table();
        let mut content = node_json(&["10.244.1.0/30"]);
        content["quarantine"] = json!(15);
        write_node_json(&content);
        add("a");
        del("a");
        Call::new("STATUS").succeed();
        content["addressing"] = json!({"growing": true});
        content["quarantine"] = json!(0);
        write_node_json(&content);
        add("b");
        Call::new("STATUS").succeed();
    });
}

#[test]
fn c27_the_status_is_51_where_pods_that_run_suffer_too() {
    isolated("status::c27_the_status_is_51_where_pods_that_run_suffer_too", || {
        node(&DUAL);
        table();
        add("a");
        Call::new("STATUS").succeed();
        sh("nft delete table inet towpath");
        let message = Call::new("STATUS").fail(51);
        assert!(message.contains("and pods that run may be cut off: the table inet towpath is missing"), "{message}");
        table();
        fs::remove_dir_all("/run/towpath").unwrap();
        assert!(Call::new("STATUS").fail(51).contains("node.json is missing"));
        del("a");
        Call::new("STATUS").fail(50);
    });
}

#[test]
fn c28_a_bad_status_stops_neither_add_nor_del() {
    isolated("status::c28_a_bad_status_stops_neither_add_nor_del", || {
        node(&DUAL);
        Call::new("STATUS").fail(50);
        Call::of("ADD", "a", &netns("a")).succeed();
        Call::new("STATUS").fail(51);
        del("a");
    });
}
