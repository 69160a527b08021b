//! WireGuard devices against the real kernel, where it has them: `TOWPATH_KINDS` names the kinds of links that it has. A
//! kernel without them is to say so.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use towpath_kernel::host::HostKernel;
use towpath_kernel::kernel::{Kernel as _, KernelError, converge};
use towpath_kernel::netns::Namespace;
use towpath_kernel::sysctl::Sysctls;
use towpath_kernel::testing::isolated;
use towpath_kernel::wireguard::{Error, KeyRing, PrivateKey, WireGuard};
use towpath_net::device::{Device, DeviceKind, WIREGUARD};
use towpath_net::observed::{Cipher, CipherPeer, Desired, Observed};
use towpath_net::ops::Op;
use towpath_net::transport::PublicKey;

const DEADLINE: Duration = Duration::from_secs(60);

fn has_wireguard() -> bool {
    std::env::var("TOWPATH_KINDS").is_ok_and(|kinds| kinds.split(',').any(|kind| kind == "wireguard"))
}

fn sh(line: &str) {
    let output = Command::new("sh").args(["-ec", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

fn peer(endpoint: &str, allowed: &[&str]) -> CipherPeer {
    let allowed = allowed.iter().map(|net| net.parse().unwrap()).collect();
    CipherPeer { endpoint: Some(endpoint.parse().unwrap()), allowed }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::yield_now();
    }
}

/// What every test here says of a kernel without WireGuard; it is none of them that then has anything left to do.
fn is_told_where_it_is_missing() -> bool {
    if has_wireguard() {
        return false;
    }
    let mut wireguard = WireGuard::open().unwrap();
    let error = wireguard.device("towwg0").unwrap_err();
    assert!(matches!(error, Error::Unsupported), "{error}");
    let mut kernel = HostKernel::open(Sysctls::below("/proc/sys")).unwrap();
    let key = PrivateKey::generate().unwrap();
    let public = key.public();
    kernel.hold_keys([key].into_iter().collect());
    let set = Op::SetCipher { link: "towwg0".to_owned(), key: public, port: 51820 };
    let error = kernel.apply_all(&[set]).remove(0).unwrap_err();
    assert!(matches!(error, KernelError::Unsupported { feature: "WireGuard", .. }), "{error}");
    assert_eq!(error.to_string(), "this kernel has no WireGuard (module wireguard)");
    assert!(!error.is_race());
    true
}

#[test]
fn a_device_reads_back_as_it_was_written_and_a_kernel_without_says_so() {
    isolated("a_device_reads_back_as_it_was_written_and_a_kernel_without_says_so", || {
        if is_told_where_it_is_missing() {
            return;
        }
        sh("ip link add towwg0 type wireguard");
        let mut wireguard = WireGuard::open().unwrap();
        let key = PrivateKey::generate().unwrap();
        let fresh = wireguard.device("towwg0").unwrap();
        assert_eq!((fresh.public_key, fresh.peers.len()), (None, 0));
        wireguard.set_key("towwg0", &key, 51820).unwrap();
        let others: Vec<_> = (0..3).map(|_| PrivateKey::generate().unwrap().public()).collect();
        let many: Vec<String> = (0..=255).map(|n| format!("10.9.{n}.0/24")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let peers = [
            peer("172.16.0.2:51820", &["10.42.2.0/24", "fd00:42:2::/64"]),
            peer("[fd00::3]:51820", &["10.42.3.0/24"]),
            peer("172.16.0.4:51820", &many),
        ];
        let written: BTreeMap<_, _> = others.iter().copied().zip(peers).collect();
        wireguard.set_peers("towwg0", written.iter().map(|(key, peer)| (*key, peer))).unwrap();
        let cipher = |wireguard: &mut WireGuard| Cipher::from(wireguard.device("towwg0").unwrap());
        let expected = Cipher { public_key: Some(key.public()), port: 51820, peers: written.clone() };
        assert_eq!(cipher(&mut wireguard), expected);

        let moved = peer("[fd00::9]:51820", &["10.42.2.0/24"]);
        wireguard.set_peers("towwg0", [(others[1], &moved)]).unwrap();
        let read = cipher(&mut wireguard);
        assert_eq!(read.peers[&others[1]], moved, "what it is not to have any more is gone");
        assert_eq!(read.peers[&others[0]].allowed, peer("[::]:1", &["fd00:42:2::/64"]).allowed, "a range moves");
        wireguard.remove_peer("towwg0", others[0]).unwrap();
        wireguard.remove_peer("towwg0", others[0]).unwrap();
        assert_eq!(cipher(&mut wireguard).peers.len(), 2);
        wireguard.greet("towwg0", &others).unwrap();
        assert!(!wireguard.device("towwg0").unwrap().peers.contains_key(&others[0]), "who is gone is not greeted");
        assert!(wireguard.device("towwg1").unwrap_err().is_missing());
        assert!(!format!("{:?}", wireguard.device("towwg0").unwrap()).contains(key.reveal().as_str()));
    });
}

#[test]
fn thousands_of_peers_are_written_and_read_whole() {
    isolated("thousands_of_peers_are_written_and_read_whole", || {
        if is_told_where_it_is_missing() {
            return;
        }
        sh("ip link add towwg0 type wireguard");
        let mut wireguard = WireGuard::open().unwrap();
        let of = |n: u16| {
            let [high, low] = n.to_be_bytes();
            let mut key = [low; 32];
            (key[0], key[1]) = (high | 1, low);
            let v6 = format!("fd00:42:{n:x}::/64");
            (PublicKey(key), peer(&format!("172.16.{high}.{low}:51820"), &[&format!("10.{high}.{low}.0/24"), &v6]))
        };
        // Keys differ in their first bytes: only every other high byte is used.
        let written: BTreeMap<_, _> = (0..3_000u16).map(|n| of((n / 256) * 512 + n % 256)).collect();
        wireguard.set_peers("towwg0", written.iter().map(|(key, peer)| (*key, peer))).unwrap();
        let read = Cipher::from(wireguard.device("towwg0").unwrap());
        assert_eq!(read.peers.len(), 3_000);
        assert!(read.peers == written);
        assert!(wireguard.writes() < 100, "{}", wireguard.writes());
    });
}

#[test]
fn a_plan_brings_devices_about_and_a_key_that_is_not_here_is_told() {
    isolated("a_plan_brings_devices_about_and_a_key_that_is_not_here_is_told", || {
        if is_told_where_it_is_missing() {
            return;
        }
        let mut kernel = HostKernel::open(Sysctls::below("/proc/sys")).unwrap();
        let keys: Vec<_> = (0..2).map(|_| PrivateKey::generate().unwrap()).collect();
        let publics: Vec<_> = keys.iter().map(PrivateKey::public).collect();
        let other = PrivateKey::generate().unwrap().public();
        let mut desired = Desired::default();
        for ((link, key), port) in WIREGUARD.iter().zip(&publics).zip([51820, 51821]) {
            let device = Device { kind: DeviceKind::WireGuard, mac: None, mtu: 1420, up: true };
            desired.devices.insert((*link).to_owned(), device);
            let peers = [(other, peer("172.16.0.2:51820", &["10.42.2.0/24"]))].into();
            desired.ciphers.insert((*link).to_owned(), Cipher { public_key: Some(*key), port, peers });
        }
        let observe = |kernel: &mut HostKernel| kernel.observe(&BTreeSet::new()).unwrap();
        let report = converge(&mut kernel, &desired, &Observed::default());
        assert_eq!(report.failed.len(), 2, "{report:?}");
        let words = report.failed[0].error.to_string();
        assert_eq!(words, format!("wireguard towwg0: the private key of {} is not on this node", publics[0]));
        kernel.hold_keys(keys.iter().cloned().collect::<KeyRing>());
        let seen = observe(&mut kernel);
        let report = converge(&mut kernel, &desired, &seen);
        assert!(report.failed.is_empty(), "{report:?}");
        let seen = observe(&mut kernel);
        assert_eq!(seen.ciphers, desired.ciphers);
        assert_eq!(seen.devices, desired.devices);
        let again = converge(&mut kernel, &desired, &seen);
        assert!(again.done.is_empty() && again.failed.is_empty(), "{again:?}");
        for secret in keys.iter().map(PrivateKey::reveal) {
            assert!(!format!("{seen:?} {desired:?} {report:?}").contains(secret.as_str()));
        }
        // Whatever somebody does to a device is put right.
        for line in ["ip link delete towwg0", "ip link set towwg1 down", "ip link set towwg1 mtu 1300"] {
            sh(line);
            let seen = observe(&mut kernel);
            assert!(converge(&mut kernel, &desired, &seen).failed.is_empty());
            let seen = observe(&mut kernel);
            assert_eq!((seen.ciphers, seen.devices), (desired.ciphers.clone(), desired.devices.clone()), "{line}");
        }
    });
}

/// Two nodes on a wire, with a device each that knows the other.
const NODES: &str = "ip netns add a; ip netns add b
ip link add wire netns a type veth peer name wire netns b
ip -n a addr add 172.16.0.1/24 dev wire; ip -n b addr add 172.16.0.2/24 dev wire
for n in a b; do ip -n $n link set wire up; ip -n $n link set lo up; ip -n $n link add towwg0 type wireguard; done
ip -n a addr add 10.42.1.0/32 dev towwg0; ip -n b addr add 10.42.2.0/32 dev towwg0
for n in a b; do ip -n $n link set towwg0 up; ip -n $n route add 10.42.0.0/16 dev towwg0; done";

#[test]
fn who_is_greeted_agrees_to_a_session_and_a_key_made_anew_loses_nothing() {
    isolated("who_is_greeted_agrees_to_a_session_and_a_key_made_anew_loses_nothing", || {
        if is_told_where_it_is_missing() {
            return;
        }
        sh(NODES);
        let open = |name: &str| Namespace::open(format!("/run/netns/{name}")).unwrap();
        let (a, b) = (open("a"), open("b"));
        let mut wireguards = [&a, &b].map(|node| node.run(|| WireGuard::open().unwrap()).unwrap());
        let [at_a, at_b] = &mut wireguards;
        let (key_a, key_b) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let (is_a, is_b) = (peer("172.16.0.1:51820", &["10.42.1.0/24"]), peer("172.16.0.2:51820", &["10.42.2.0/24"]));
        at_a.set_key("towwg0", &key_a, 51820).unwrap();
        at_b.set_key("towwg0", &key_b, 51820).unwrap();
        at_a.set_peers("towwg0", [(key_b.public(), &is_b)]).unwrap();
        at_b.set_peers("towwg0", [(key_a.public(), &is_a)]).unwrap();
        let handshake = |at: &mut WireGuard, key: &PublicKey| at.device("towwg0").unwrap().peers[key].handshake;
        assert_eq!(handshake(at_a, &key_b.public()), None);
        at_a.greet("towwg0", &[key_b.public()]).unwrap();
        wait_until("a handshake", || handshake(at_a, &key_b.public()).is_some());
        let device = at_a.device("towwg0").unwrap();
        assert_eq!(device.peers[&key_b.public()].keepalive, 0, "it is not written to without need");

        let from = a.run(|| UdpSocket::bind("10.42.1.0:9").unwrap()).unwrap();
        let to = b.run(|| UdpSocket::bind("10.42.2.0:9").unwrap()).unwrap();
        to.set_read_timeout(Some(DEADLINE)).unwrap();
        let target: SocketAddr = "10.42.2.0:9".parse().unwrap();
        let arrives = |what: &str| {
            from.send_to(what.as_bytes(), target).unwrap();
            let mut buffer = [0; 64];
            let length = to.recv(&mut buffer).unwrap();
            assert_eq!(String::from_utf8_lossy(&buffer[..length]), what);
        };
        arrives("by the first key");
        // The receiver has a new key that the sender does not know yet.
        let new_b = PrivateKey::generate().unwrap();
        at_b.set_key("towwg0", &new_b, 51820).unwrap();
        for n in 0..100 {
            arrives(&format!("by the session with the key before, {n}"));
        }
        // The sender learns it: what it sends waits for a session.
        at_a.set_peers("towwg0", [(new_b.public(), &is_b)]).unwrap();
        at_a.remove_peer("towwg0", key_b.public()).unwrap();
        for n in 0..100 {
            arrives(&format!("by the new key, {n}"));
        }
        assert!(handshake(at_b, &key_a.public()).is_some());
    });
}
