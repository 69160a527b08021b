//! `config/samples/kindnet.yaml`.

use towpath_e2e::Wire;
use towpath_e2e::address::Family;
use towpath_e2e::rows::Expected;

use super::{
    Place, Sheet, Stage, exactly, has, inet, length, mtu_row, next_address_rows, option, profile, residue_rows, sample,
    ttl_rows,
};

#[test]
fn kindnet_is_as_profiles_have_it() {
    let network = sample("kindnet");
    profile("kindnet", |config| config.wire = Wire::Dual, &network, compare);
}

#[test]
fn kindnet_of_one_family_is_as_profiles_have_it() {
    let both = sample("kindnet");
    let network = both.replacen(", \"fd00:10:244::/56\"]", "]", 1).replacen(", ipv6: 64}", "}", 1);
    assert!(!network.contains("fd00:") && !network.contains("ipv6:"), "{network}");
    profile("kindnet-ipv4", |config| config.wire = Wire::Ipv4, &network, compare);
}

fn compare(stage: &mut Stage) {
    let mut sheet = Sheet::new(&stage.cluster, "kindnet");
    allocation(&mut sheet);
    for family in stage.families() {
        node_side(&mut sheet, stage, family);
        pod_side(&mut sheet, stage, family);
        between_nodes(&mut sheet, stage, family);
    }
    mtu_row(&mut sheet, 1500);
    ttl_rows(&mut sheet, stage, 62, 63);
    next_address_rows(&mut sheet, stage, 2);
    residue_rows(&mut sheet, stage);
    sheet.finish();
}

fn allocation(sheet: &mut Sheet<'_>) {
    let given = "get nodenetworks -o jsonpath={range.items[*]}{.spec.podCIDRs[0]}{\"\\n\"}{end}";
    let blocks = exactly(["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"]);
    sheet.row("one /24 for each node", Place::Api, given, &blocks);
    let chain = "grep -c portMappings /etc/cni/net.d/05-towpath.conflist";
    sheet.row("CNI with port mappings", Place::Node("n1"), chain, &exactly(["1"]));
}

fn node_side(sheet: &mut Sheet<'_>, stage: &Stage, family: Family) {
    let (node, ip) = (Place::Node("n1"), option(family));
    let gateway = stage.of_block("n1", family, 1);
    for pod in ["a", "b"] {
        let veth = stage.veth(pod);
        let link = format!("ip -o link show dev {veth}");
        let other_end = stage.cluster.in_pod(pod, "cat /sys/class/net/eth0/ifindex");
        sheet.row("one veth for each pod", node, &link, &has(format!("{veth}@if{}: mtu 1500", other_end.trim())));
        sheet.row("no bridge", node, &link, &Expected::Lacks(" master "));
        let held = format!("ip {ip} -o address show dev {veth} scope global");
        let own = format!("{} {gateway}/{}", inet(family), length(family));
        sheet.row("the gateway on the veth", node, &held, &exactly([own]));
        let address = stage.address(pod, family);
        let route = format!("ip {ip} route show {address}");
        sheet.row("a host route to the pod", node, &route, &exactly([format!("{address} dev {veth}")]));
    }
}

fn pod_side(sheet: &mut Sheet<'_>, stage: &Stage, family: Family) {
    let (pod, ip) = (Place::Pod("a"), option(family));
    let (own, gateway, address) =
        (stage.block("n1", family), stage.of_block("n1", family, 1), stage.address("a", family));
    let addresses = format!("ip {ip} -o address show dev eth0 scope global");
    sheet.row("pod's address", pod, &addresses, &exactly([format!("{} {address}/{}", inet(family), own.prefix_len())]));
    let routes = vec![
        format!("default via {gateway} dev eth0"),
        format!("{own} via {gateway} dev eth0 src {address}"),
        format!("{gateway} dev eth0"),
    ];
    let routes = match family {
        Family::V4 => Expected::Exactly(routes),
        // The kernel adds that of the link's own addresses.
        Family::V6 => Expected::Has(routes),
    };
    sheet.row("pod's routes", pod, &format!("ip {ip} route show"), &routes);
}

fn between_nodes(sheet: &mut Sheet<'_>, stage: &Stage, family: Family) {
    let (node, ip) = (Place::Node("n1"), option(family));
    let mut routes = vec![format!("blackhole {}", stage.block("n1", family))];
    for peer in ["n2", "n3"] {
        let (block, address) = (stage.block(peer, family), stage.node_address(peer, family));
        routes.push(format!("{block} via {address} dev eth0"));
    }
    for pod in ["a", "b"] {
        routes.push(format!("{} dev {}", stage.address(pod, family), stage.veth(pod)));
    }
    sheet.row(
        "plain routes, and nothing else of ours",
        node,
        &format!("ip {ip} route show proto 117"),
        &exactly(routes),
    );
    sheet.row("no tunnel", node, "ip -d link show", &Expected::Lacks("vxlan"));
}
