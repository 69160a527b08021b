//! `config/samples/calico.yaml`, with VXLAN in place of IP in IP, which the kernel of a lab need not have: IP in IP is
//! compared in the guest kernel (`e2e/tests/guest`).

use std::time::Duration;

use towpath_e2e::Wire;
use towpath_e2e::address::Family;
use towpath_e2e::rows::Expected;

use super::{
    Place, Sheet, Stage, dual_stack, exactly, has, inet, length, mtu_row, next_address_rows, option, profile,
    residue_rows, sample, ttl_rows, two_subnets, vxlan_rows,
};
use crate::crowd::Crowd;

/// The variant that `docs/profiles.md` names.
fn with_vxlan(sample: &str) -> String {
    let changed = sample.replacen("mode: IPIP ", "mode: VXLAN", 1);
    assert_ne!(changed, sample, "the sample has no IPIP");
    changed
}

#[test]
fn calico_is_as_profiles_have_it() {
    profile("calico", two_subnets(Wire::Ipv4), &with_vxlan(&sample("calico")), |stage| {
        compare(stage, 1450);
        more_pods_more_blocks(stage);
        only_across_subnets(stage);
    });
}

#[test]
fn calico_with_dual_stack_is_as_profiles_have_it() {
    let network = dual_stack(&with_vxlan(&sample("calico")));
    profile("calico-dual", two_subnets(Wire::Dual), &network, |stage| compare(stage, 1430));
}

fn compare(stage: &mut Stage, mtu: u32) {
    let mut sheet = Sheet::new(&stage.cluster, "calico");
    sheet.row(
        "independent of Node.spec.podCIDRs",
        Place::Api,
        "get nodes -o jsonpath={.items[*].spec.podCIDRs}",
        &exactly([""; 0]),
    );
    for family in stage.families() {
        node_side(&mut sheet, stage, family);
        pod_side(&mut sheet, stage, family);
    }
    vxlan_rows(&mut sheet, stage, 4096, 4789);
    mtu_row(&mut sheet, mtu);
    ttl_rows(&mut sheet, stage, 62, 63);
    next_address_rows(&mut sheet, stage, 1);
    residue_rows(&mut sheet, stage);
    the_node_answers_for_the_gateway(&mut sheet, stage);
    sheet.finish();
}

fn node_side(sheet: &mut Sheet<'_>, stage: &Stage, family: Family) {
    let (node, ip) = (Place::Node("n1"), option(family));
    let blocks = stage.block("n1", family);
    let expected = if family == Family::V4 { 26 } else { 122 };
    let is_one = if blocks.prefix_len() == expected { Ok(()) } else { Err(blocks.to_string()) };
    sheet.note("blocks of the pool", "kubectl get nodenetwork n1", is_one);
    for pod in ["a", "b"] {
        let veth = stage.veth(pod);
        let mac = has("link/ether ee:ee:ee:ee:ee:ee");
        sheet.row("the veth's fixed address", node, &format!("ip -o link show dev {veth}"), &mac);
        let held = format!("ip {ip} -o address show dev {veth} scope global");
        sheet.row("no address on the veth", node, &held, &exactly([""; 0]));
        let address = stage.address(pod, family);
        let route = exactly([format!("{address} dev {veth}")]);
        sheet.row("a host route to the pod", node, &format!("ip {ip} route show {address}"), &route);
    }
    sheet.row(
        "own block ends here",
        node,
        &format!("ip {ip} route show proto 117 type blackhole"),
        &exactly([format!("blackhole {}", stage.block("n1", family))]),
    );
}

fn pod_side(sheet: &mut Sheet<'_>, stage: &Stage, family: Family) {
    let (pod, ip) = (Place::Pod("a"), option(family));
    let own = format!("{} {}/{}", inet(family), stage.address("a", family), length(family));
    sheet.row("pod's address", pod, &format!("ip {ip} -o address show dev eth0 scope global"), &exactly([own]));
    let routes = match family {
        Family::V4 => exactly(["default via 169.254.1.1 dev eth0", "169.254.1.1 dev eth0 scope link"]),
        Family::V6 => has("default via fe80::1 dev eth0"),
    };
    sheet.row("pod's routes", pod, &format!("ip {ip} route show"), &routes);
}

/// What a pod knows of its gateway is set for good; without it the node still answers.
fn the_node_answers_for_the_gateway(sheet: &mut Sheet<'_>, stage: &Stage) {
    let cluster = &stage.cluster;
    let veth = stage.veth("a");
    let namespace = stage.word_after("n1", &format!("ip link show dev {veth}"), "link-netns");
    for (family, gateway) in stage.families().into_iter().zip(["169.254.1.1", "fe80::1"]) {
        let ip = option(family);
        let known = format!("ip -n {namespace} {ip} neighbour show dev eth0");
        let forgotten = format!("ip -n {namespace} {ip} neighbour delete {gateway} dev eth0");
        sheet.row(
            "the pod knows its gateway",
            Place::Node("n1"),
            &known,
            &has(format!("{gateway} lladdr ee:ee:ee:ee:ee:ee")),
        );
        cluster.on("n1", &forgotten);
        cluster.in_pod("a", &format!("ping -c 1 -W 2 {}", stage.address("c", family)));
        sheet.row(
            "the node answers for the gateway",
            Place::Node("n1"),
            &known,
            &has(format!("{gateway} lladdr ee:ee:ee:ee:ee:ee")),
        );
    }
}

/// A block has 62 addresses for pods where the first is the tunnel's and the last the block's broadcast address.
fn more_pods_more_blocks(stage: &Stage) {
    let cluster = &stage.cluster;
    let blocks = || {
        let all = cluster.field("nodenetwork/n1", ".spec.podCIDRs[*]");
        all.split_whitespace().filter(|block| block.ends_with("/26")).map(str::to_owned).collect::<Vec<_>>()
    };
    let (crowd, _) = Crowd::start(cluster, "crowd", 64, &["n1"]);
    let given = blocks();
    assert!(given.len() >= 2, "64 pods in {given:?}");
    let mut sheet = Sheet::new(cluster, "calico, several blocks");
    let blackholes = exactly(given.iter().map(|block| format!("blackhole {block}")));
    sheet.row("every own block ends here", Place::Node("n1"), "ip route show proto 117 type blackhole", &blackholes);
    let routes = Expected::Has(given.iter().map(|block| format!("{block} dev towvxlan4 onlink")).collect());
    sheet.row("the peer has a route to each", Place::Node("n2"), "ip route show proto 117", &routes);
    sheet.finish();
    crowd.all_answer("n2");
    crowd.end();
}

/// `crossSubnetOnly` (Calico's `CrossSubnet`) takes the tunnel away between nodes of one subnet, while pods talk.
fn only_across_subnets(stage: &Stage) {
    let cluster = &stage.cluster;
    cluster.kubectl(r#"patch clusternetwork default --type=merge -p {"spec":{"transport":{"crossSubnetOnly":true}}}"#);
    let (near, far) = (stage.block("n3", Family::V4), stage.block("n2", Family::V4));
    let by = stage.node_address("n3", Family::V4);
    cluster.wait_for("the plain route", Duration::from_secs(120), || {
        let route = cluster.on("n1", &format!("ip route show {near}"));
        if route.contains(&format!("via {by} dev eth0")) { Ok(()) } else { Err(route) }
    });
    let mut sheet = Sheet::new(cluster, "calico, CrossSubnet");
    let node = Place::Node("n1");
    sheet.row("near: plain", node, &format!("ip route show {near}"), &exactly([format!("{near} via {by} dev eth0")]));
    sheet.row(
        "far: by tunnel",
        node,
        &format!("ip route show {far}"),
        &exactly([format!("{far} dev towvxlan4 onlink")]),
    );
    ttl_rows(&mut sheet, stage, 62, 63);
    sheet.finish();
}
