//! State that is full, read-only, damaged or wrong: clear errors, no wrong address, and nothing left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use std::fs;

use serde_json::json;
use support::{Call, add, collect, config, config_with_ports, del, leases, netns, node, sh, table, traces};
use towpath_kernel::testing::isolated;

const DUAL: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];

/// Puts the node's state on a file system of so many pages and files.
fn small_state(pages: u32, files: u32) {
    sh("mkdir -p /run/towpath");
    sh(&format!("mount -t tmpfs -o nr_blocks={pages},nr_inodes={files} tmpfs /run/towpath"));
}

#[test]
fn wherever_room_ends_an_attachment_is_whole_or_nothing_and_can_be_ended() {
    isolated("wherever_room_ends_an_attachment_is_whole_or_nothing_and_can_be_ended", || {
        let path = netns("a");
        let ports = config_with_ports(&json!([{"hostPort": 8080, "containerPort": 80}]));
        let (mut whole, mut refused) = (0, 0);
        for (pages, files) in (1..14).map(|pages| (pages, 100)).chain((3..30).map(|files| (100, files))) {
            small_state(pages, files);
            table();
            if fs::write("/run/towpath/node.json", support::node_json(&DUAL).to_string()).is_ok() {
                let before = traces();
                let answer = Call::of("ADD", "a", &path).config(&ports).run();
                if answer.status == 0 {
                    whole += 1;
                    Call::of("DEL", "a", &path).succeed();
                } else {
                    refused += 1;
                    let message = answer.document["msg"].as_str().unwrap();
                    // A node file that was cut off is unusable; everything else names the file and the reason.
                    let is_clear = message.contains("No space left on device") || message.contains("is unusable");
                    assert!(is_clear && !message.contains("undoing it failed"), "{pages}, {files}: {message}");
                }
                let _after = Call::of("DEL", "a", &path).succeed();
                assert_eq!(traces(), before, "{pages} pages, {files} files");
                assert!(leases().is_empty());
            }
            sh("umount /run/towpath");
        }
        assert!(whole > 5 && refused > 5, "{whole} {refused}");
    });
}

#[test]
fn on_a_full_disk_a_pod_is_detached_and_its_address_rests() {
    isolated("on_a_full_disk_a_pod_is_detached_and_its_address_rests", || {
        small_state(40, 100);
        node(&DUAL);
        let before = traces();
        add("a");
        sh("dd if=/dev/zero of=/run/towpath/ballast bs=4k 2>/dev/null; true");
        del("a");
        fs::remove_file("/run/towpath/ballast").unwrap();
        assert_eq!(traces(), before);
        assert!(fs::exists("/run/towpath/leases/freed/10.244.1.2").unwrap());
    });
}

#[test]
fn a_read_only_state_is_named_and_changes_nothing() {
    isolated("a_read_only_state_is_named_and_changes_nothing", || {
        small_state(100, 100);
        node(&DUAL);
        table();
        add("a");
        let path = netns("b");
        let before = traces();
        sh("mount -o remount,ro /run/towpath");
        let message = Call::of("ADD", "b", &path).fail(5);
        assert!(message.contains("/run/towpath/leases/") && message.contains("Read-only file system"), "{message}");
        assert_eq!(traces(), before);
        // The address stays taken until its lease can be removed.
        let message = Call::of("DEL", "a", "/run/netns/a").run().document["msg"].to_string();
        assert!(message.contains("Read-only file system"), "{message}");
        assert_eq!(leases().len(), 1);
        sh("mount -o remount,rw /run/towpath");
        del("a");
        assert!(leases().is_empty());
    });
}

#[test]
fn a_damaged_lease_keeps_its_address_while_its_pod_lives_and_no_longer() {
    isolated("a_damaged_lease_keeps_its_address_while_its_pod_lives_and_no_longer", || {
        node(&["10.244.1.0/29"]);
        add("a");
        fs::write("/run/towpath/leases/attachments/a:eth0", "\0{").unwrap();
        let given: Vec<String> =
            (0..4).map(|number| add(&format!("p{number}"))["ips"][0]["address"].as_str().unwrap().to_owned()).collect();
        assert_eq!(given, ["10.244.1.3/29", "10.244.1.4/29", "10.244.1.5/29", "10.244.1.6/29"]);
        Call::of("ADD", "z", &netns("z")).fail(11);
        assert!(collect(Some(&["p0", "p1", "p2", "p3"])).fail(104).contains("a:eth0"));
        let message = Call::of("ADD", "a", "/run/netns/a").fail(102);
        assert!(message.contains("a/eth0 is attached already (network towpath, namespace /run/netns/a)"), "{message}");
        sh("ip netns del a");
        collect(Some(&["p0", "p1", "p2", "p3"])).succeed();
        assert_eq!(add("y")["ips"][0]["address"], "10.244.1.2/29");
    });
}

#[test]
fn a_claim_that_is_damaged_still_keeps_its_address() {
    isolated("a_claim_that_is_damaged_still_keeps_its_address", || {
        node(&["10.244.1.0/29"]);
        add("a");
        fs::write("/run/towpath/leases/addresses/10.244.1.2", "{").unwrap();
        let asking = Call::of("ADD", "b", &netns("b")).with("CNI_ARGS", "IP=10.244.1.2");
        assert!(asking.fail(106).contains("it is taken by an attachment whose lease is damaged"));
        del("a");
        asking.succeed();
    });
}

#[test]
fn a_lease_of_another_network_is_nobody_elses_to_take_or_to_collect() {
    isolated("a_lease_of_another_network_is_nobody_elses_to_take_or_to_collect", || {
        node(&DUAL);
        let mut other = config();
        other["name"] = json!("another");
        Call::of("ADD", "a", &netns("a")).config(&other).succeed();
        let message = Call::of("ADD", "a", "/run/netns/a").fail(102);
        assert!(message.contains("network another"), "{message}");
        sh("ip netns del a");
        collect(Some(&[])).succeed();
        assert_eq!(leases().len(), 1);
        Call::new("GC").config(&{
            other["cni.dev/valid-attachments"] = json!([]);
            other
        });
        Call::of("DEL", "a", "").succeed();
        assert!(leases().is_empty());
    });
}

#[test]
fn a_clock_that_jumps_gives_no_address_too_early_and_keeps_none_for_ever() {
    isolated("a_clock_that_jumps_gives_no_address_too_early_and_keeps_none_for_ever", || {
        let mut content = support::node_json(&["10.244.1.0/30"]);
        content["quarantine"] = json!(3600);
        support::write_node_json(&content);
        let path = netns("b");
        for stamp in ["2030-01-01", "1960-01-01"] {
            add("a");
            del("a");
            // What a wall clock would have written.
            sh(&format!("touch -d {stamp} /run/towpath/leases/freed/10.244.1.2"));
            Call::of("ADD", "b", &path).fail(11);
            let stamped = fs::metadata("/run/towpath/leases/freed/10.244.1.2").unwrap().modified().unwrap();
            let since_start = stamped.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            let uptime: u64 = fs::read_to_string("/proc/uptime").unwrap().split('.').next().unwrap().parse().unwrap();
            assert!(uptime - since_start < 60, "{stamp}: {since_start} of {uptime}");
            sh("rm /run/towpath/leases/freed/10.244.1.2; ip netns del a");
        }
    });
}
