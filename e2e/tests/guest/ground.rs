//! Network namespaces, and the wire between three nodes.
//!
//! ```text
//!   n1 eth0 ---- w1 \
//!                    bridge 172.16.1.1/24, fd00:16:1::1/64   (router)   w3 172.16.2.1/24, fd00:16:2::1/64 ---- eth0 n3
//!   n2 eth0 ---- w2 /
//! ```

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

/// Where a node is on the wire.
pub struct Spot {
    pub name: &'static str,
    pub port: &'static str,
    pub addresses: [IpNet; 2],
    pub gateways: [IpAddr; 2],
    pub pod_cidrs: [IpNet; 2],
}

/// The first two share subnets; the third is behind a router.
pub fn spots() -> [Spot; 3] {
    let spot = |name, port, subnet: u8, last: u8| Spot {
        name,
        port,
        addresses: [format!("172.16.{subnet}.{last}/24"), format!("fd00:16:{subnet}::{last}/64")]
            .map(|address| address.parse().unwrap()),
        gateways: [format!("172.16.{subnet}.1"), format!("fd00:16:{subnet}::1")]
            .map(|address| address.parse().unwrap()),
        pod_cidrs: [format!("10.42.{last}.0/24"), format!("fd00:42:0:{last}::/64")].map(|cidr| cidr.parse().unwrap()),
    };
    [spot("n1", "w1", 1, 11), spot("n2", "w2", 1, 12), spot("n3", "w3", 2, 13)]
}

/// Out of which all pods have their addresses.
pub fn pod_ranges() -> [IpNet; 2] {
    ["10.42.0.0/16", "fd00:42::/32"].map(|range| range.parse().unwrap())
}

/// The wire: a bridge with two ports, and a router to a third.
pub fn wire() -> Named {
    let wire = Named::make("wire");
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        wire.set(setting, "1");
    }
    wire.set("ipv6/conf/default/accept_dad", "0");
    wire.ip("link add br0 type bridge\nlink set lo up\nlink set br0 up\n\
         address add 172.16.1.1/24 dev br0\naddress add fd00:16:1::1/64 dev br0 nodad\n");
    wire
}

/// A node's namespace, connected to the wire.
pub fn connect(wire: &Named, spot: &Spot) -> Named {
    let node = Named::make(spot.name);
    for setting in ["accept_dad", "accept_ra"] {
        node.set(&format!("ipv6/conf/default/{setting}"), "0");
    }
    let mut lines = format!("link add {} type veth peer name eth0 netns {}\n", spot.port, spot.name);
    if spot.port == "w3" {
        for (gateway, address) in spot.gateways.iter().zip(spot.addresses) {
            writeln!(lines, "address add {gateway}/{} dev w3 nodad", address.prefix_len()).unwrap();
        }
    } else {
        writeln!(lines, "link set {} master br0", spot.port).unwrap();
    }
    writeln!(lines, "link set {} up", spot.port).unwrap();
    wire.ip(&lines);
    let mut lines = "link set lo up\n".to_owned();
    for address in spot.addresses {
        writeln!(lines, "address add {address} dev eth0 nodad").unwrap();
    }
    lines += "link set eth0 up\n";
    for gateway in spot.gateways {
        writeln!(lines, "route add default via {gateway} dev eth0").unwrap();
    }
    node.ip(&lines);
    node
}
