//! `config/samples/flannel.yaml`.

use towpath_e2e::Wire;
use towpath_e2e::address::Family;
use towpath_e2e::rows::Expected;

use super::{
    Place, Sheet, Stage, dual_stack, exactly, has, inet, mtu_row, next_address_rows, option, profile, residue_rows,
    sample, ttl_rows, two_subnets, vxlan_rows,
};

#[test]
fn flannel_is_as_profiles_have_it() {
    profile("flannel", two_subnets(Wire::Ipv4), &sample("flannel"), |stage| compare(stage, 1450));
}

#[test]
fn flannel_with_dual_stack_is_as_profiles_have_it() {
    profile("flannel-dual", two_subnets(Wire::Dual), &dual_stack(&sample("flannel")), |stage| compare(stage, 1430));
}

fn compare(stage: &mut Stage, mtu: u32) {
    let mut sheet = Sheet::new(&stage.cluster, "flannel");
    let given = "get nodenetworks -o jsonpath={range.items[*]}{.spec.podCIDRs[0]}{\"\\n\"}{end}";
    let blocks = exactly(["10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24"]);
    sheet.row("one /24 for each node", Place::Api, given, &blocks);
    ports(&mut sheet, stage, mtu);
    for family in stage.families() {
        bridge(&mut sheet, stage, family);
        pod_side(&mut sheet, stage, family);
    }
    vxlan_rows(&mut sheet, stage, 1, 8472);
    mtu_row(&mut sheet, mtu);
    ttl_rows(&mut sheet, stage, 62, 64);
    next_address_rows(&mut sheet, stage, 2);
    residue_rows(&mut sheet, stage);
    sheet.finish();
}

/// The pods' links as ports of the bridge, which knows their addresses before they say anything.
fn ports(sheet: &mut Sheet<'_>, stage: &Stage, mtu: u32) {
    let node = Place::Node("n1");
    sheet.row(
        "a bridge without spanning tree",
        node,
        "ip -d -o link show dev towbr0",
        &has("bridge stp_state 0 mcast_snooping 0 nf_call_iptables 1 nf_call_ip6tables 1"),
    );
    for pod in ["a", "b"] {
        let veth = stage.veth(pod);
        let link = format!("ip -o link show dev {veth}");
        sheet.row("each pod's veth is a port", node, &link, &has(format!("mtu {mtu} master towbr0")));
        let held = format!("ip -o address show dev {veth} scope global");
        sheet.row("no address on the veth", node, &held, &exactly([""; 0]));
        let port = format!("bridge -d -o link show dev {veth}");
        sheet.row(
            "hairpin, nothing learned or flooded",
            node,
            &port,
            &has("hairpin on learning off flood off locked on"),
        );
        let mac = stage.cluster.in_pod(pod, "cat /sys/class/net/eth0/address");
        let known = format!("bridge fdb show br towbr0 brport {veth}");
        sheet.row("the bridge knows the pod", node, &known, &has(format!("{} master towbr0", mac.trim())));
    }
}

fn bridge(sheet: &mut Sheet<'_>, stage: &Stage, family: Family) {
    let (node, ip) = (Place::Node("n1"), option(family));
    let (own, gateway) = (stage.block("n1", family), stage.of_block("n1", family, 1));
    let held = exactly([format!("{} {gateway}/{}", inet(family), own.prefix_len())]);
    sheet.row("the gateway on the bridge", node, &format!("ip {ip} -o address show dev towbr0 scope global"), &held);
    let route = exactly([format!("{own} dev towbr0")]);
    sheet.row("own pods by the bridge", node, &format!("ip {ip} route show {own}"), &route);
}

fn pod_side(sheet: &mut Sheet<'_>, stage: &Stage, family: Family) {
    let (pod, ip) = (Place::Pod("a"), option(family));
    let (own, gateway, address) =
        (stage.block("n1", family), stage.of_block("n1", family, 1), stage.address("a", family));
    let addresses = format!("ip {ip} -o address show dev eth0 scope global");
    sheet.row("pod's address", pod, &addresses, &exactly([format!("{} {address}/{}", inet(family), own.prefix_len())]));
    let routes = vec![format!("default via {gateway} dev eth0"), format!("{own} dev eth0")];
    let routes = match family {
        Family::V4 => Expected::Exactly(routes),
        // The kernel adds that of the link's own addresses.
        Family::V6 => Expected::Has(routes),
    };
    sheet.row("pod's routes", pod, &format!("ip {ip} route show"), &routes);
}
