//! GC: C29 and C30.

use std::fs;

use serde_json::{Value, json};
use towpath_kernel::leases::Store;
use towpath_kernel::testing::isolated;
use towpath_net::lease::host_interface;

use crate::DUAL;
use crate::support::{Call, STATE, add, collect, config, leases, netns, node, sh, traces, wait_until};

fn containers() -> Vec<String> {
    leases().into_iter().map(|lease| lease.container_id).collect()
}

/// Upstream's tool takes no list for an empty one, and has every pod detached.
#[test]
fn c29_without_a_list_nothing_is_collected() {
    isolated("gc::c29_without_a_list_nothing_is_collected", || {
        node(&DUAL);
        add("alive");
        add("dead");
        sh("ip netns del dead");
        wait_until("the kernel removed the link", || !sh("ip -o link").contains(&host_interface("dead", "eth0")));
        let before = traces();
        assert_eq!(collect(None).succeed().stdout, "");
        let mut config = config();
        config["cni.dev/valid-attachments"] = json!("alive");
        Call::new("GC").config(&config).fail(7);
        assert_eq!(traces(), before);
        assert_eq!(containers(), ["alive", "dead"]);
        // An empty list, as CRI-O's library writes it.
        config["cni.dev/valid-attachments"] = Value::Null;
        Call::new("GC").config(&config).succeed();
        assert_eq!(containers(), ["alive"]);
    });
}

#[test]
fn c29_a_runtime_collects_what_it_does_not_list_and_nothing_else() {
    isolated("gc::c29_a_runtime_collects_what_it_does_not_list_and_nothing_else", || {
        node(&DUAL);
        for name in ["listed", "dead", "alive"] {
            add(name);
        }
        let mut other = config();
        other["name"] = json!("another");
        Call::of("ADD", "foreign", &netns("foreign")).config(&other).succeed();
        sh("ip netns del dead; ip netns del foreign");
        assert_eq!(collect(Some(&["listed"])).succeed().stdout, "");
        assert_eq!(containers(), ["alive", "foreign", "listed"], "a pod that lives may be another runtime's");
        collect(Some(&[])).succeed();
        assert_eq!(containers(), ["alive", "foreign", "listed"]);
        sh("ip netns del alive");
        // Some runtimes name the list otherwise.
        let mut named = config();
        named["cni.dev/attachments"] = json!([{"containerID": "listed", "ifname": "eth0"}]);
        Call::new("GC").config(&named).succeed();
        assert_eq!(containers(), ["foreign", "listed"]);
    });
}

#[test]
fn c29_what_cannot_be_collected_keeps_nothing_else_from_it_and_is_told() {
    isolated("gc::c29_what_cannot_be_collected_keeps_nothing_else_from_it_and_is_told", || {
        node(&DUAL);
        for name in ["a", "b", "c", "d"] {
            add(name);
        }
        sh("ip netns del a; ip netns del b; ip netns del d");
        // The records of a pod that lives and of one that does not are damaged, and one cannot be removed.
        fs::write("/run/towpath/leases/attachments/c:eth0", "{").unwrap();
        fs::write("/run/towpath/leases/attachments/d:eth0", "{").unwrap();
        sh("mount --bind /run/towpath/leases/attachments/a:eth0 /run/towpath/leases/attachments/a:eth0");
        let answer = collect(Some(&[])).run();
        assert_eq!(answer.status, 1);
        let told = answer.document["details"].as_str().unwrap_or_else(|| panic!("{answer:?}"));
        assert!(told.contains("a/eth0: ") && told.contains("attachments/c:eth0: EOF"), "{told}");
        assert!(!told.contains("d:eth0"), "{told}");
        assert!(fs::exists("/run/towpath/leases/attachments/c:eth0").unwrap());
        let names = sh("ls /run/towpath/leases/attachments");
        assert_eq!(names, "a:eth0\nc:eth0\n");
    });
}

#[test]
fn c30_what_somebody_works_on_is_not_collected() {
    isolated("gc::c30_what_somebody_works_on_is_not_collected", || {
        node(&DUAL);
        add("a");
        let store = Store::below(STATE.as_ref());
        let held = store.hold(&leases()[0].attachment()).unwrap().unwrap();
        sh("ip netns del a");
        collect(Some(&[])).succeed();
        assert_eq!(leases().len(), 1);
        drop(held);
        collect(Some(&[])).succeed();
        assert!(leases().is_empty());
    });
}
