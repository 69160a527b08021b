//! Which address packets of the node itself would leave with, on the real kernel.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use towpath_kernel::netlink::{Protocol, Socket};
use towpath_kernel::testing::{isolated, run};
use towpath_kernel::toward::source;

#[test]
fn the_source_is_that_of_the_route() {
    isolated("the_source_is_that_of_the_route", || {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let mut toward = |address: &str| source(&mut socket, address.parse().unwrap()).unwrap();
        assert_eq!(toward("192.0.2.1"), None);
        assert_eq!(toward("2001:db8::1"), None);
        for line in [
            "ip link add eth0 type veth peer name wire",
            "ip address add 172.16.30.3/24 dev eth0",
            "ip address add 172.16.30.7/24 dev eth0",
            "ip address add fd00:30::3/64 dev eth0 nodad",
            "ip link set eth0 up",
            "ip link set wire up",
            "ip route add 192.0.2.0/24 via 172.16.30.1 src 172.16.30.7",
            "ip route add 2001:db8::/64 via fd00:30::1",
        ] {
            run(line);
        }
        assert_eq!(toward("172.16.30.9"), Some([172, 16, 30, 3].into()));
        assert_eq!(toward("192.0.2.1"), Some([172, 16, 30, 7].into()));
        assert_eq!(toward("2001:db8::1"), "fd00:30::3".parse().ok());
    });
}
