//! The end of Towpath on a node.

use std::collections::BTreeMap;

use towpath_kernel::testing::isolated;
use towpath_net::state::{Attachment, NodeSpec, NodeState, Peer};
use towpath_net::transport::{Transport, Transports};
use towpath_node_agent::snapshot::{Assignment, Update};
use towpath_node_agent::worker::{End, Worker};

use super::node::{Node, everything, run, wait_for};
use super::pair::SOON;

pub fn assignment() -> Assignment {
    let addresses = |last: u8| vec![[172, 16, 30, last].into(), format!("fd00:30::{last}").parse().unwrap()];
    let cidrs =
        |n: u8| vec![format!("10.244.{n}.0/24").parse().unwrap(), format!("fd00:244:0:{n}::/64").parse().unwrap()];
    let mut spec = NodeSpec::plain(addresses(3), cidrs(3));
    spec.transport = Transports::only(Transport::Vxlan);
    spec.attachment = Attachment::Bridge;
    let peer = Peer { addresses: addresses(4), pod_cidrs: cidrs(4), accepts: vec![Transport::Vxlan], keys: None };
    let state = NodeState { node: "n3".into(), spec, peers: BTreeMap::from([("n4".into(), peer)]) };
    Assignment { object: String::new(), generation: 1, state }
}

fn devices() -> String {
    run("ip nexthop show") + &run("ip -o link show") + &run("ip neighbour show nud permanent")
}

#[test]
fn a_node_that_is_left_has_no_device_nexthop_or_bridge_of_ours() {
    isolated("leaving::a_node_that_is_left_has_no_device_nexthop_or_bridge_of_ours", || {
        let node = Node::make();
        let before = (everything(), devices());
        let worker = Worker::start(node.paths()).unwrap();
        worker.inbox.put(Update::State(Box::new(assignment())));
        worker.inbox.put(Update::Enforced(false));
        wait_for("all of it", SOON, || worker.snapshots.borrow().programmed);
        assert!(devices().contains("towvxlan4") && devices().contains("towbr0"), "{}", devices());
        worker.inbox.end(End::Leave);
        worker.join().unwrap();
        assert_eq!((everything(), devices()), before);
    });
}
