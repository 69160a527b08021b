//! Network namespaces, and the wire between three nodes.
//!
//! ```text
//!   n1 eth0 ---- w1 \
//!                    br1 172.16.1.1/24, fd00:16:1::1/64   (router)   br2 172.16.2.1/24, fd00:16:2::1/64 -- w3 ---- eth0 n3
//!   n2 eth0 ---- w2 /
//! ```
//!
//! With two uplinks, `n1` has an `eth1` in the second subnet and `n3` one in the first.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    net::IpAddr,
    process::{Command, Stdio},
    thread,
};

use ipnet::IpNet;
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use towpath_kernel::netns::Namespace;

/// A network namespace with a name, as `ip netns` knows them; gone with this.
pub struct Named {
    name: String,
    pub namespace: Namespace,
}

impl Named {
    pub fn make(name: &str) -> Self {
        let path = format!("/run/netns/{name}");
        fs::write(&path, "").unwrap();
        let to = path.clone();
        // A namespace belongs to a thread.
        let make = move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            mount_bind("/proc/thread-self/ns/net", to).unwrap();
        };
        thread::spawn(make).join().unwrap();
        Self { name: name.to_owned(), namespace: Namespace::open(path).unwrap() }
    }

    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Runs lines of `ip`, in one process.
    pub fn ip(&self, lines: &str) {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.name, "-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ip.spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}: {}", self.name, String::from_utf8_lossy(&output.stderr));
    }

    /// Runs a command line inside; returns what it printed, whether it succeeded or not.
    pub fn sh(&self, line: &str) -> String {
        let run = || Command::new("sh").args(["-c", line]).output().unwrap();
        let output = self.namespace.run(run).unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Writes a setting of the namespace.
    pub fn set(&self, name: &str, value: &str) {
        self.namespace.run(|| fs::write(format!("/proc/sys/net/{name}"), value).unwrap()).unwrap();
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let path = self.path();
        _ = unmount(&path, UnmountFlags::DETACH);
        _ = fs::remove_file(path);
    }
}

/// A link of a node to the wire.
pub struct Uplink {
    pub link: &'static str,
    /// Its other end.
    pub port: &'static str,
    /// Which of the two it is in.
    pub subnet: u8,
    pub addresses: [IpNet; 2],
}

impl Uplink {
    fn new(link: &'static str, port: &'static str, subnet: u8, last: u8) -> Self {
        let addresses = [format!("172.16.{subnet}.{last}/24"), format!("fd00:16:{subnet}::{last}/64")];
        Self { link, port, subnet, addresses: addresses.map(|address| address.parse().unwrap()) }
    }

    /// The router in its subnet.
    pub fn gateways(&self) -> [IpAddr; 2] {
        gateways(self.subnet).map(|gateway| gateway.addr())
    }
}

fn gateways(subnet: u8) -> [IpNet; 2] {
    [format!("172.16.{subnet}.1/24"), format!("fd00:16:{subnet}::1/64")].map(|gateway| gateway.parse().unwrap())
}

/// Where a node is on the wire.
pub struct Spot {
    pub name: &'static str,
    /// The first has the addresses by which others reach the node, and the way to everywhere else.
    pub uplinks: Vec<Uplink>,
    pub pod_cidrs: [IpNet; 2],
}

impl Spot {
    fn new(name: &'static str, last: u8, uplinks: Vec<Uplink>) -> Self {
        let pod_cidrs = [format!("10.42.{last}.0/24"), format!("fd00:42:0:{last}::/64")];
        Self { name, uplinks, pod_cidrs: pod_cidrs.map(|cidr| cidr.parse().unwrap()) }
    }

    /// By which others reach the node.
    pub fn addresses(&self) -> [IpNet; 2] {
        self.uplinks[0].addresses
    }
}

/// The first two share a subnet; the third is behind a router.
pub fn spots() -> [Spot; 3] {
    let spot = |name, port, subnet, last| Spot::new(name, last, vec![Uplink::new("eth0", port, subnet, last)]);
    [spot("n1", "w1", 1, 11), spot("n2", "w2", 1, 12), spot("n3", "w3", 2, 13)]
}

/// The same, but that the first and the third are in both subnets.
pub fn spots_with_two_uplinks() -> [Spot; 3] {
    let [mut first, second, mut third] = spots();
    first.uplinks.push(Uplink::new("eth1", "x1", 2, 11));
    third.uplinks.push(Uplink::new("eth1", "x3", 1, 13));
    [first, second, third]
}

/// Out of which all pods have their addresses.
pub fn pod_ranges() -> [IpNet; 2] {
    ["10.42.0.0/16", "fd00:42::/32"].map(|range| range.parse().unwrap())
}

/// The wire: two bridges, and a router between them.
pub fn wire() -> Named {
    let wire = Named::make("wire");
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        wire.set(setting, "1");
    }
    wire.set("ipv6/conf/default/accept_dad", "0");
    let mut lines = "link set lo up\n".to_owned();
    for subnet in [1, 2] {
        writeln!(lines, "link add br{subnet} type bridge\nlink set br{subnet} up").unwrap();
        for gateway in gateways(subnet) {
            writeln!(lines, "address add {gateway} dev br{subnet} nodad").unwrap();
        }
    }
    wire.ip(&lines);
    wire
}

/// A node's namespace, connected to the wire.
pub fn connect(wire: &Named, spot: &Spot) -> Named {
    let node = Named::make(spot.name);
    for setting in ["accept_dad", "accept_ra"] {
        node.set(&format!("ipv6/conf/default/{setting}"), "0");
    }
    let mut lines = "link set lo up\n".to_owned();
    for Uplink { link, port, subnet, addresses } in &spot.uplinks {
        wire.ip(&format!(
            "link add {port} type veth peer name {link} netns {}\nlink set {port} master br{subnet} up\n",
            spot.name
        ));
        for address in addresses {
            writeln!(lines, "address add {address} dev {link} nodad").unwrap();
        }
        writeln!(lines, "link set {link} up").unwrap();
    }
    for gateway in spot.uplinks[0].gateways() {
        writeln!(lines, "route add default via {gateway} dev {}", spot.uplinks[0].link).unwrap();
    }
    node.ip(&lines);
    node
}
