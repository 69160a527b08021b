use super::*;
use crate::effect::Effect;
use crate::state::NodeSpec;
use crate::transport::{Transport, Transports};

fn around() -> Surroundings {
    let subnet = |address: &str| crate::observed::Subnet {
        link: "eth0".to_owned(),
        address: address.parse().unwrap(),
        mtu: 1500,
    };
    Surroundings { subnets: ["172.16.0.1/16", "fd00:30::1/64"].map(subnet).into() }
}

fn peer(transport: Transport, n: u8) -> Peer {
    let text = |text: String| text.parse().unwrap();
    Peer {
        addresses: vec![format!("172.16.{n}.4").parse().unwrap(), format!("fd00:30::{n:x}:4").parse().unwrap()],
        pod_cidrs: vec![text(format!("10.244.{n}.0/24")), text(format!("fd00:244:0:{n:x}::/64"))],
        accepts: vec![transport],
        keys: None,
    }
}

fn state(transport: Transport, peers: &[u8]) -> NodeState {
    let mut spec = NodeSpec::plain(
        vec!["172.16.0.1".parse().unwrap(), "fd00:30::1".parse().unwrap()],
        vec!["10.244.0.0/24".parse().unwrap(), "fd00:244::/64".parse().unwrap()],
    );
    spec.transport = Transports::only(transport);
    let peers = peers.iter().map(|n| (NodeName(format!("n{n}")), peer(transport, *n))).collect();
    NodeState { node: "n0".into(), spec, peers }
}

/// What the whole of it comes to: the elements of each set count too.
fn whole(state: &NodeState) -> Desired {
    render(state, &[], &around(), None).desired
}

/// Does to a desired state what operations would do to a kernel that has it.
fn done(mut desired: Desired, ops: &[Op]) -> Desired {
    for op in ops {
        match op.clone() {
            Op::AddRoute(route) | Op::ReplaceRoute(route) => {
                desired.routes.insert(route.destination, route.target);
            }
            Op::DeleteRoute(route) => assert_eq!(desired.routes.remove(&route.destination), Some(route.target)),
            Op::SetNeighbour { neighbour, mac } => _ = desired.neighbours.insert(neighbour, mac),
            Op::DeleteNeighbour(neighbour) => assert!(desired.neighbours.remove(&neighbour).is_some()),
            Op::SetStation { station, to } => _ = desired.stations.insert(station, to),
            Op::DeleteStation { station, .. } => assert!(desired.stations.remove(&station).is_some()),
            Op::ChangeSet { set, add, remove } => {
                let elements = &mut desired.table.as_mut().unwrap().sets.get_mut(&set).unwrap().elements;
                assert!(remove.iter().all(|element| elements.remove(element)), "{set}: not there: {remove:?}");
                assert!(add.into_iter().all(|element| elements.insert(element)), "{set}: there already");
            }
            Op::SetNexthop(_) | Op::DeleteNexthop(_) => {}
            other => panic!("{other}"),
        }
    }
    desired
}

/// From one state to the next by the change alone; nothing where that cannot be.
fn alone(from: &NodeState, to: &NodeState) -> Option<Vec<Op>> {
    let rendered = render(from, &[], &around(), None);
    let mut others = Others::of(from, &around(), None, &rendered)?;
    let names: BTreeSet<&NodeName> = from.peers.keys().chain(to.peers.keys()).collect();
    let differing = names.into_iter().filter(|name| from.peers.get(*name) != to.peers.get(*name));
    let before = differing.map(|name| (name.clone(), from.peers.get(name).cloned())).collect();
    let around = around();
    let changes = Changes { state: to, before: &before, around: &around, keys: None };
    let change = others.change(&changes)?;
    let done = done(whole(from), &change.ops);
    let left = plan(&whole(to), &Observed { table: done.table.clone(), ..as_observed(done) }).ops;
    assert_eq!(left, [], "{:?}", change.ops);
    assert_eq!(Some(others), Others::of(to, &around, None, &render(to, &[], &around, None)));
    let observed = |state: &NodeState| as_observed(whole(state));
    let mut effect = Effect::of(from, &observed(from));
    effect.change(changes.peers(), &change.before, &change.after);
    assert_eq!(effect, Effect::of(to, &observed(to)));
    Some(change.ops)
}

#[test]
fn a_node_that_comes_goes_or_moves_alone_comes_to_the_same_as_a_look_at_all() {
    for transport in [Transport::Direct, Transport::Ipip, Transport::Vxlan, Transport::Geneve] {
        let few = state(transport, &[1, 2, 7, 9]);
        for more in [&[1, 2, 3, 7, 9][..], &[1, 2, 7, 8, 9], &[1, 2, 4, 7, 9, 12]] {
            let more = state(transport, more);
            assert!(alone(&few, &more).is_some(), "{transport}");
            assert!(alone(&more, &few).is_some(), "{transport}");
        }
        let mut moved = few.clone();
        moved.peers.get_mut("n7").unwrap().addresses[0] = "172.16.77.77".parse().unwrap();
        assert!(alone(&few, &moved).is_some(), "{transport}");
        assert_eq!(alone(&few, &few), Some(Vec::new()));
    }
}

#[test]
fn what_takes_a_look_at_all_nodes_is_told() {
    let few = state(Transport::Vxlan, &[1, 2]);
    let mut contended = few.clone();
    contended.peers.insert("n3".into(), peer(Transport::Vxlan, 2));
    let rendered = render(&contended, &[], &around(), None);
    assert_eq!(Others::of(&contended, &around(), None, &rendered), None);
    let mut strange = few.clone();
    strange.peers.insert("n3".into(), Peer { accepts: Vec::new(), ..peer(Transport::Vxlan, 3) });
    assert_eq!(alone(&few, &strange), None);
}

#[test]
fn a_node_behind_a_lesser_uplink_takes_a_look_at_all_nodes() {
    let lesser =
        crate::observed::Subnet { link: "eth1".to_owned(), address: "10.9.0.1/24".parse().unwrap(), mtu: 1400 };
    let mut around = around();
    around.subnets.insert(lesser);
    for transport in [Transport::Direct, Transport::Vxlan] {
        let from = state(transport, &[1]);
        let mut to = state(transport, &[1, 2]);
        to.peers.get_mut("n2").unwrap().addresses[0] = "10.9.0.2".parse().unwrap();
        let mut others = Others::of(&from, &around, None, &render(&from, &[], &around, None)).unwrap();
        let before = [("n2".into(), None)].into();
        let changes = Changes { state: &to, before: &before, around: &around, keys: None };
        assert_eq!(others.change(&changes), None, "{transport}");
    }
}
