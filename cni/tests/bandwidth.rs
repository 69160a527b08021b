//! Limits on what passes between a pod and the rest.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[macro_use]
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde_json::{Value, json};
use support::{Call, STATE, config, config_after, leases, netns, node, node_of, sh, traces, wait_until};
use towpath_kernel::host::HostKernel;
use towpath_kernel::leases::Store;
use towpath_kernel::netns::Namespace;
use towpath_kernel::sysctl::{ROOT, Sysctls};
use towpath_kernel::testing::isolated;
use towpath_net::lease::{AttachmentId, host_interface};
use towpath_net::state::Attachment;

const DUAL: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];
/// One megabyte per second, in bits.
const RATE: u64 = 8_000_000;
/// What containerd asks for where nobody asked for a burst.
const ANY_BURST: u64 = 0xffff_ffff;
/// What passes in any case, in bytes per second.
const LEAST: f64 = 100_000.0;
/// What passes where there is no limit, in bytes per second: more than any limit here lets through.
const FREE: f64 = 4_000_000.0;
/// How long bytes are counted.
const WINDOW: Duration = Duration::from_millis(1500);

fn limited(bandwidth: &Value) -> Value {
    let mut config = config();
    config["runtimeConfig"] = json!({"bandwidth": bandwidth});
    config
}

fn add(name: &str, bandwidth: &Value) -> Value {
    Call::of("ADD", name, &netns(name)).config(&limited(bandwidth)).succeed().document
}

fn shaper(name: &str) -> String {
    AttachmentId { container: name.to_owned(), interface: "eth0".to_owned() }.shaper()
}

/// Sends as much as it can from one namespace to a server in another one; returns how many bytes per second arrived,
/// less what may pass at once. On a busy machine a flow may stand still for a while: where no more than `least` passed,
/// another one is tried.
fn rate(from: &Namespace, to: &Namespace, address: &str, least: f64) -> f64 {
    let mut best = 0.0_f64;
    for _ in 0..5 {
        best = best.max(rate_of_one(from, to, address));
        if best > least {
            break;
        }
    }
    best
}

fn rate_of_one(from: &Namespace, to: &Namespace, address: &str) -> f64 {
    let listener = to.run(|| TcpListener::bind(address).unwrap()).unwrap();
    let mut sender = from.run(|| TcpStream::connect(listener.local_addr().unwrap()).unwrap()).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    let block = vec![0; 65536];
    std::thread::spawn(move || while sender.write_all(&block).is_ok() {});
    let begin = Instant::now();
    let (mut bytes, mut buffer) = (0_u32, vec![0; 65536]);
    while begin.elapsed() < WINDOW {
        bytes += u32::try_from(receiver.read(&mut buffer).unwrap()).unwrap();
    }
    f64::from(bytes.saturating_sub(65536)) / begin.elapsed().as_secs_f64()
}

#[track_caller]
fn assert_limited(rate: f64, what: &str) {
    assert!(rate < 2_000_000.0, "{what}: {rate} bytes per second passed a limit of 1000000");
    assert!(rate > LEAST, "{what}: only {rate} bytes per second passed a limit of 1000000");
}

fn limit_holds(mode: Attachment) {
    node_of(mode, &DUAL);
    sh("ip addr add 192.0.2.1/32 dev lo; ip addr add 2001:db8::1/128 dev lo");
    let first = add("a", &json!({"IngressRate": RATE, "IngressBurst": ANY_BURST}));
    let second = add("b", &json!({"egressRate": RATE, "egressBurst": ANY_BURST}));
    let address = |result: &Value, at: usize, port: u16| {
        let net: IpNet = result["ips"][at]["address"].as_str().unwrap().parse().unwrap();
        SocketAddr::new(net.addr(), port).to_string()
    };
    let here = Namespace::current().unwrap();
    let [a, b] = ["a", "b"].map(|name| Namespace::open(format!("/run/netns/{name}")).unwrap());
    assert_limited(rate(&here, &a, &address(&first, 0, 80), LEAST), "to a pod");
    assert_limited(rate(&here, &a, &address(&first, 1, 80), LEAST), "to a pod, IPv6");
    assert_limited(rate(&b, &here, "192.0.2.1:81", LEAST), "from a pod");
    assert_limited(rate(&b, &here, "[2001:db8::1]:81", LEAST), "from a pod, IPv6");
    assert_limited(rate(&b, &a, &address(&first, 0, 82), LEAST), "from pod to pod");
    for (from, to, address) in [(&a, &here, "192.0.2.1:83"), (&here, &b, &address(&second, 0, 83))] {
        let free = rate(from, to, address, FREE);
        assert!(free > FREE, "{address}: {free} bytes per second without a limit");
    }
}
in_every_mode!(c33_a_limit_holds_in_its_direction_and_no_burst_defeats_it, "", limit_holds);

#[test]
fn c33_check_finds_every_altered_limit_the_agent_mends_it_and_nothing_outlives_the_pod() {
    isolated("c33_check_finds_every_altered_limit_the_agent_mends_it_and_nothing_outlives_the_pod", || {
        node(&DUAL);
        let (veth, shaper) = (host_interface("a", "eth0"), shaper("a"));
        netns("a");
        let mut kernel = HostKernel::open(Sysctls::below(ROOT)).unwrap();
        let before = traces();
        for alteration in [
            format!("tc qdisc delete dev {veth} root"),
            format!("tc qdisc replace dev {veth} root tbf rate 9mbit burst 64kb latency 25ms"),
            format!("tc qdisc replace dev {veth} root tbf rate 8mbit burst 1mb latency 25ms"),
            format!("tc qdisc delete dev {shaper} root"),
            format!("tc qdisc delete dev {veth} clsact"),
            format!("tc filter delete dev {veth} ingress"),
            format!("ip link set {shaper} down"),
            format!("ip link delete {shaper}"),
        ] {
            let both = json!({"ingressRate": RATE, "egressRate": RATE, "ingressBurst": ANY_BURST});
            let result = Call::of("ADD", "a", "/run/netns/a").config(&limited(&both)).succeed().document;
            let check = Call::of("CHECK", "a", "/run/netns/a").config(&config_after(&result));
            check.succeed();
            sh(&alteration);
            let message = check.fail(105);
            assert!(message.contains("the limit of what"), "{alteration}: {message}");
            // What the agent does from time to time.
            let mended = kernel.mend_limits(&Store::below(Path::new(STATE)), &leases()[0]).unwrap();
            assert_eq!(mended.len(), 1, "{alteration}");
            check.succeed();
            // The second call of a runtime names neither limits nor namespace.
            Call::of("DEL", "a", "").succeed();
            assert_eq!(traces(), before, "{alteration}");
        }
    });
}

#[test]
fn c33_the_lowest_and_the_highest_rate_can_be_had_and_others_are_refused() {
    isolated("c33_the_lowest_and_the_highest_rate_can_be_had_and_others_are_refused", || {
        node(&DUAL);
        for (name, rate) in
            [("low", 1_000_u64), ("odd", 12_345_678), ("large", 40_000_000_000), ("high", 1_000_000_000_000_000)]
        {
            let result = add(name, &json!({"ingressRate": rate, "egressRate": rate, "egressBurst": 1}));
            Call::of("CHECK", name, &format!("/run/netns/{name}")).config(&config_after(&result)).succeed();
        }
        let path = netns("refused");
        let before = traces();
        for rate in [json!(999), json!(1_000_000_000_000_001_u64), json!("10M"), json!(-1)] {
            let message = Call::of("ADD", "refused", &path).config(&limited(&json!({"egressRate": rate}))).fail(7);
            assert!(message.contains("runtimeConfig.bandwidth.egressRate is"), "{message}");
        }
        assert_eq!(traces(), before);
    });
}

#[test]
fn c33_what_limits_a_pod_goes_with_it_even_where_its_lease_is_lost() {
    isolated("c33_what_limits_a_pod_goes_with_it_even_where_its_lease_is_lost", || {
        node(&DUAL);
        netns("a");
        let links = || sh("ip -o link | grep -c tow; true").trim().to_owned();
        Call::of("ADD", "a", "/run/netns/a").config(&limited(&json!({"egressRate": RATE}))).succeed();
        assert_eq!(links(), "2");
        sh("rm -r /run/towpath/leases");
        Call::of("DEL", "a", "/run/netns/a").succeed();
        wait_until("no link is left", || links() == "0");
    });
}

#[test]
fn c33_annotations_limit_a_pod_where_the_runtime_only_hands_them_over() {
    isolated("c33_annotations_limit_a_pod_where_the_runtime_only_hands_them_over", || {
        node(&DUAL);
        let mut config = config();
        config["runtimeConfig"] =
            json!({"io.kubernetes.cri.pod-annotations": {"kubernetes.io/egress-bandwidth": "8M"}});
        let path = netns("a");
        Call::of("ADD", "a", &path).config(&config).succeed();
        let queue = sh(&format!("tc qdisc show dev {}", shaper("a")));
        assert!(queue.contains("rate 8Mbit burst 64Kb"), "{queue}");
        config["runtimeConfig"] =
            json!({"io.kubernetes.cri.pod-annotations": {"kubernetes.io/egress-bandwidth": "8 M"}});
        let message = Call::of("ADD", "b", &netns("b")).config(&config).fail(7);
        assert!(message.contains("annotation kubernetes.io/egress-bandwidth is \"8 M\""), "{message}");
    });
}
