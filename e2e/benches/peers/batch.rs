//! The same objects by the tools that everybody has.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use towpath_net::device::VXLAN;

use crate::{
    cluster::Node,
    support::figures::{Sample, measure},
};

/// The number of nexthop object 1.
const FIRST: u32 = 1 << 31;

/// How routes lead to their gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// By nexthop objects.
    Nexthops,
    /// Each names its gateway.
    Gateways,
}

/// Makes this node's tunnel, and then all of the peers' objects in two calls, which are measured.
pub fn program(folder: &Path, peers: u32, shape: Shape) -> Sample {
    let link = VXLAN.v4;
    let tunnel = Node(0);
    run(Command::new("ip").args(["link", "add", link, "address", &tunnel.mac().to_string(), "type", "vxlan"]).args([
        "id",
        "4096",
        "dstport",
        "4789",
        "local",
        &tunnel.address().to_string(),
        "nolearning",
    ]));
    run(Command::new("ip").args(["address", "add", &format!("{}/32", tunnel.tunnel()), "dev", link]));
    run(Command::new("ip").args(["link", "set", link, "up"]));
    let (mut ip, mut bridge) = (String::new(), String::new());
    for node in (1..=peers).map(Node) {
        let (gateway, mac, id) = (node.tunnel(), node.mac(), FIRST + node.0);
        writeln!(ip, "neighbour replace {gateway} lladdr {mac} dev {link} nud permanent").unwrap();
        match shape {
            Shape::Nexthops => {
                writeln!(ip, "nexthop replace id {id} via {gateway} dev {link} onlink proto 117").unwrap();
                writeln!(ip, "route replace {gateway}/24 nhid {id} proto 117").unwrap();
            }
            Shape::Gateways => {
                writeln!(ip, "route replace {gateway}/24 via {gateway} dev {link} onlink proto 117").unwrap();
            }
        }
        writeln!(bridge, "fdb replace {mac} dev {link} dst {} self permanent", node.address()).unwrap();
    }
    let [ip_file, bridge_file] = ["ip", "bridge"].map(|name| folder.join(name));
    fs::write(&ip_file, ip).unwrap();
    fs::write(&bridge_file, bridge).unwrap();
    let ((), sample) = measure(|| {
        run(Command::new("bridge").arg("-batch").arg(&bridge_file));
        run(Command::new("ip").arg("-batch").arg(&ip_file));
    });
    sample
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
