//! DEL: C22 to C25.

use std::fs;

use serde_json::json;
use towpath_kernel::testing::isolated;
use towpath_net::lease::host_interface;

use crate::DUAL;
use crate::support::{Call, add, config_with_ports, leases, netns, node, sh, table, traces};

#[test]
fn c22_detaching_succeeds_whatever_is_left() {
    isolated("del::c22_detaching_succeeds_whatever_is_left", || {
        node(&DUAL);
        let before = traces();
        let path = "/run/netns/a";
        for undo in [
            Call::of("DEL", "a", path),
            Call::of("DEL", "a", ""),
            Call::of("DEL", "a", "/run/netns/none"),
            Call::of("DEL", "a", "/run/towpath/node.json"),
            Call::of("DEL", "a", path)
                .config(&json!({"cniVersion": "0.3.1", "name": "other", "stateDir": "/run/towpath"})),
        ] {
            add("a");
            assert_eq!(undo.succeed().stdout, "");
            assert_eq!(traces(), before);
            assert_eq!(undo.succeed().stdout, "");
            sh("ip netns del a");
        }
        // The namespace went first, as after a reboot of the runtime.
        add("a");
        sh("ip netns del a");
        Call::of("DEL", "a", path).succeed();
        assert_eq!(traces(), before);
        Call::of("DEL", "unknown", "").succeed();
    });
}

#[test]
fn c22_detaching_succeeds_where_the_lease_is_lost_or_damaged() {
    isolated("del::c22_detaching_succeeds_where_the_lease_is_lost_or_damaged", || {
        node(&DUAL);
        let before = traces();
        // The link is found by its name.
        add("a");
        fs::remove_dir_all("/run/towpath/leases").unwrap();
        Call::of("DEL", "a", "/run/netns/a").succeed();
        assert_eq!(traces(), before);
        // What the lease was born as is in its claims.
        sh("ip netns del a");
        add("a");
        fs::write("/run/towpath/leases/attachments/a:eth0", "{").unwrap();
        Call::of("DEL", "a", "/run/netns/a").succeed();
        assert_eq!(traces(), before);
    });
}

/// Upstream frees the address and leaves the link up: the next pod may get an address that is still in use.
#[test]
fn c23_without_a_namespace_the_link_goes_before_the_address() {
    isolated("del::c23_without_a_namespace_the_link_goes_before_the_address", || {
        node(&DUAL);
        add("a");
        Call::of("DEL", "a", "").succeed();
        assert!(!sh("ip -o link").contains(&host_interface("a", "eth0")));
        assert!(!sh("ip -n a -o link").contains("eth0"));
        assert!(leases().is_empty());
    });
}

#[test]
fn c24_detaching_needs_neither_agent_nor_its_file_nor_its_table() {
    isolated("del::c24_detaching_needs_neither_agent_nor_its_file_nor_its_table", || {
        node(&DUAL);
        let before = traces();
        table();
        let ports = config_with_ports(&json!([{"hostPort": 8080, "containerPort": 80}]));
        Call::of("ADD", "a", &netns("a")).config(&ports).succeed();
        sh("nft delete table inet towpath");
        fs::remove_file("/run/towpath/node.json").unwrap();
        Call::of("DEL", "a", "/run/netns/a").succeed();
        assert_eq!(traces(), before);
    });
}

#[test]
fn c25_detaching_prints_nothing() {
    isolated("del::c25_detaching_prints_nothing", || {
        node(&DUAL);
        add("a");
        for _ in 0..2 {
            let answer = Call::of("DEL", "a", "/run/netns/a").succeed();
            assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("", ""));
        }
    });
}
