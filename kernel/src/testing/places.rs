//! Nodes, pods and others of tests, each in a network namespace of its own, which has a name.

use std::net::IpAddr;
use std::process::Command;

use crate::netns::Namespace;

/// Runs a program with words that have no blanks in them; what it printed.
///
/// # Panics
///
/// Where it fails, or cannot be started.
#[expect(clippy::panic, reason = "this is how a test fails")]
pub fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    match Command::new(words.next().unwrap_or_default()).args(words).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(output) => panic!("{line}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("{line}: {error}"),
    }
}

/// Calls a function in the namespace of a name.
///
/// # Panics
///
/// Where there is none.
#[expect(clippy::panic, reason = "this is how a test fails")]
pub fn inside<T: Send>(place: &str, function: impl FnOnce() -> T + Send) -> T {
    match Namespace::open(format!("/run/netns/{place}")).and_then(|namespace| namespace.run(function)) {
        Ok(result) => result,
        Err(error) => panic!("{place}: {error}"),
    }
}

/// Makes a namespace with these addresses behind a link of a node, as pods are attached: the node answers at its own address
/// of the link, and knows the way. The node is a namespace, or that of the caller.
///
/// # Panics
///
/// Where something of it is there, or cannot be made.
pub fn attach(node: Option<&str>, link: &str, place: &str, addresses: &[IpAddr]) {
    let node = node.map(|name| format!("-n {name} ")).unwrap_or_default();
    run(&format!("ip netns add {place}"));
    run(&format!("ip {node}link add {link} type veth peer name eth0 netns {place}"));
    run(&format!("ip {node}link set {link} up"));
    run(&format!("ip -n {place} link set lo up"));
    run(&format!("ip -n {place} link set eth0 up"));
    for own in addresses {
        let (gateway, length, nodad) = if own.is_ipv4() { ("169.254.1.1", 32, "") } else { ("fe80::1", 128, "nodad") };
        run(&format!("ip {node}address add {gateway}/{length} dev {link} {nodad}"));
        run(&format!("ip -n {place} address add {own}/{length} dev eth0 {nodad}"));
        run(&format!("ip -n {place} route add default via {gateway} dev eth0 onlink"));
        run(&format!("ip {node}route add {own} dev {link}"));
    }
}
