//! What was altered by others, and how it is told.

use std::fs;

use towpath_kernel::testing::isolated;
use towpath_node_agent::snapshot::Update;
use towpath_node_agent::worker::{End, Worker};

use super::leaving::assignment;
use super::node::{Node, run, wait_for};
use super::pair::SOON;

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

#[test]
fn what_cannot_be_put_right_at_once_is_told_as_drift_when_it_can() {
    isolated("healing::what_cannot_be_put_right_at_once_is_told_as_drift_when_it_can", || {
        let node = Node::make();
        let worker = Worker::start(node.paths()).unwrap();
        worker.inbox.put(Update::State(Box::new(assignment())));
        worker.inbox.put(Update::Enforced(false));
        wait_for("all of it", SOON, || worker.snapshots.borrow().programmed);
        let told = || worker.snapshots.borrow().drift.last().map(|drift| drift.object.clone()).collect::<Vec<_>>();
        // What is read of a setting is wrong, and nobody can write it.
        fs::write("/run/off", "0").unwrap();
        run(&format!("mount --bind -o ro /run/off {FORWARDING}"));
        run("ip route delete 10.244.4.0/24");
        wait_for("the route", SOON, || told().iter().any(|object| object.contains("10.244.4.0/24")));
        wait_for("a failure", SOON, || !worker.snapshots.borrow().failures.is_empty());
        let before = told().len();
        run(&format!("umount {FORWARDING}"));
        fs::write(FORWARDING, "0").unwrap();
        wait_for("the setting", SOON, || fs::read_to_string(FORWARDING).unwrap() == "1\n");
        wait_for("what is told of it", SOON, || told().len() == before + 1 && told()[0].contains("ip_forward"));
        worker.inbox.end(End::Stop);
        worker.join().unwrap();
    });
}
