//! Files of the node's state.

use towpath_net::lease::Lease;
use towpath_net::node_file::NodeFile;
use towpath_net::render::hostport_elements;
use towpath_net::usage::usage;
use towpath_net::{Family, pick};

/// A lease as ADD makes it.
pub fn a_lease() -> Lease {
    let text = include_bytes!("../corpus/lease/dual-stack.json");
    serde_json::from_slice(text).expect("the corpus has a good lease")
}

/// A lease is what was written, and what it names is found by its names.
pub fn lease(data: &[u8]) {
    let Ok(lease) = serde_json::from_slice::<Lease>(data) else { return };
    let printed = serde_json::to_vec(&lease).expect("a lease can be written");
    let again: Lease = serde_json::from_slice(&printed).expect("what was written can be read");
    assert_eq!(again, lease);
    assert!(lease.node_addresses().len() <= lease.addresses.len() + 2);
    assert_eq!(lease.host_ports.is_empty() && lease.loopback_ports.is_empty(), lease.opened_ports().next().is_none());
    for one in &lease.host_ports {
        assert!(one.overlaps(one), "{one}");
        for other in &lease.host_ports {
            assert_eq!(one.overlaps(other), other.overlaps(one), "{one}, {other}");
        }
    }
    let _ = (hostport_elements(&lease), lease.macs(), lease.attachment().host_interface());
}

/// Whatever blocks there are, an address that is picked is one that pods may have.
pub fn node_file(data: &[u8]) {
    let node = match NodeFile::parse(data) {
        Ok(node) => node,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let printed = serde_json::to_vec(&node).expect("it can be written");
    assert_eq!(NodeFile::parse(&printed).as_ref(), Ok(&node));
    for family in Family::ALL {
        let offered: Vec<_> = node.blocks(family).filter(|block| node.offers(block)).copied().collect();
        let mut last = None;
        for _ in 0..4 {
            let Some(address) = pick::next(&offered, node.attachment, &node.addressing.reserved, last, |_| false)
            else {
                break;
            };
            let mut blocks = offered.iter().filter(|block| block.contains(&address));
            assert!(blocks.any(|block| pick::role(block, node.attachment, address).is_none()), "{address} is no pod's");
            assert!(!node.addressing.reserved.iter().any(|reserved| reserved.contains(&address)), "{address}");
            last = Some(address);
        }
    }
    let usages = usage(&node.pod_cidrs, node.attachment, &node.addressing, &[], &[]);
    assert_eq!(usages.len(), node.pod_cidrs.len());
    assert!(usages.iter().all(|usage| usage.free <= usage.capacity && usage.used == 0), "{usages:?}");
}
