//! What the guest's kernel has.

use std::{fs, net::Ipv4Addr, process::Command};

use rustix::net::{AddressFamily, SocketAddrV4, SocketType, bind, ipproto, listen, socket};

use crate::ground::Named;

/// A table with a flowtable on the loopback.
const FLOWTABLE: &str = "add table inet t
add flowtable inet t f { hook ingress priority 0; devices = { lo }; }
add chain inet t c { type filter hook forward priority 0; }
add rule inet t c ip protocol tcp flow add @f";

/// Kinds of links, packet loss, offloaded flows and SCTP.
pub fn all_there() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    println!("kernel {}", release.trim());
    let ground = Named::make("features");
    for kind in [
        "ipip local 10.0.0.1",
        "ip6tnl local fd00::1",
        "vxlan id 1 dstport 4789",
        "geneve external",
        "wireguard",
        "bridge",
        "dummy",
    ] {
        ground.ip(&format!("link add x type {kind}\nlink delete x\n"));
    }
    ground.ip("link set lo up\n");
    assert_eq!(ground.sh("tc qdisc add dev lo root netem loss 1%"), "");
    let nft = || Command::new("nft").arg(FLOWTABLE).output().unwrap();
    let output = ground.namespace.run(nft).unwrap();
    assert!(output.status.success(), "flowtable: {}", String::from_utf8_lossy(&output.stderr));
    ground
        .namespace
        .run(|| {
            let sctp = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::SCTP)).unwrap();
            bind(&sctp, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7000)).unwrap();
            listen(&sctp, 1).unwrap();
        })
        .unwrap();
}
