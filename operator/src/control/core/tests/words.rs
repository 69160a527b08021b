//! What agents say of pods, and what their status says.

use super::*;

#[test]
fn an_agents_word_on_a_pod_counts_before_and_after_the_pod_is_known() {
    let mut core = core();
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    assert_eq!(members(&mut core, "n2"), addresses(&[1]));
    core.attached(&"n2".into(), attached("c", "uid-c", 2, false));
    assert_eq!(members(&mut core, "n2"), addresses(&[1]));
    core.change(pod("c", "uid-c", "n2"));
    assert_eq!(members(&mut core, "n2"), addresses(&[1, 2]));
    // The status of the pod does not name the address yet.
    core.change(pod("a", "uid-a", "n1"));
    assert_eq!(members(&mut core, "n2"), addresses(&[1, 2]));
}

#[test]
fn no_agent_speaks_for_pods_or_addresses_of_another_node() {
    let mut core = core();
    core.attached(&"n3".into(), attached("a", "uid-a", 3, false));
    core.attached(&"n1".into(), attached("a", "uid-a", 2, false));
    assert_eq!(members(&mut core, "n2"), addresses(&[]));
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    core.attached(&"n3".into(), attached("a", "uid-a", 3, false));
    core.detached(&"n3".into(), "uid-a");
    core.change(pod("a", "uid-a", "n1"));
    assert_eq!(members(&mut core, "n2"), addresses(&[1]));
}

#[test]
fn addresses_count_once_the_range_of_their_node_is_known() {
    let mut core = core();
    core.peer(&"n1".into(), None);
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    assert_eq!(members(&mut core, "n2"), addresses(&[]));
    core.peer(&"n1".into(), Some(peer(1)));
    assert_eq!(members(&mut core, "n2"), addresses(&[1]));
}

#[test]
fn a_pod_of_the_same_name_does_not_inherit_the_word_on_its_predecessor() {
    let mut core = core();
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    core.change(pod("a", "uid-next", "n2"));
    assert_eq!(members(&mut core, "n2"), addresses(&[]));
    core.attached(&"n2".into(), attached("a", "uid-next", 2, false));
    assert_eq!(members(&mut core, "n2"), addresses(&[2]));
    // What comes late of the one before changes nothing.
    core.detached(&"n1".into(), "uid-a");
    assert_eq!(members(&mut core, "n2"), addresses(&[2]));
    core.change(Change::PodGone(key("a")));
    assert_eq!(members(&mut core, "n2"), addresses(&[]));
}

#[test]
fn a_pod_that_is_detached_has_no_addresses_whatever_its_status_says() {
    let mut core = core();
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    core.detached(&"n1".into(), "uid-a");
    assert_eq!(members(&mut core, "n2"), addresses(&[]));
    let Change::Pod(mut late) = pod("a", "uid-a", "n1") else { return };
    late.addresses = vec![[10, 0, 1, 1].into()];
    core.change(Change::Pod(late));
    assert_eq!(members(&mut core, "n2"), addresses(&[]));
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    core.attachments(&"n1".into(), Vec::new());
    assert_eq!(members(&mut core, "n2"), addresses(&[]), "the agent that came anew does not name it");
}

#[test]
fn a_status_that_names_what_the_agent_never_named_is_later_than_its_word() {
    let mut core = core();
    let is = |core: &mut Core, last: &[u8]| {
        let expected: BTreeSet<IpAddr> = last.iter().map(|last| IpAddr::from([10, 0, 1, *last])).collect();
        assert_eq!(members(core, "n2"), expected);
    };
    core.change(named("a", "uid-a", "n1", [10, 0, 1, 7]));
    is(&mut core, &[7]);
    // Its sandbox was made anew; the status follows later.
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    core.change(named("a", "uid-a", "n1", [10, 0, 1, 7]));
    is(&mut core, &[1]);
    core.change(named("a", "uid-a", "n1", [10, 0, 1, 1]));
    is(&mut core, &[1]);
    // And again, while the agent is away.
    core.change(named("a", "uid-a", "n1", [10, 0, 1, 7]));
    is(&mut core, &[7]);
    core.change(named("a", "uid-a", "n1", [10, 0, 1, 8]));
    is(&mut core, &[8]);
    // The agent comes back, and the node's pods are others after it has gone again.
    core.attachments(
        &"n1".into(),
        vec![Attached { addresses: vec![[10, 0, 1, 8].into()], ..attached("a", "uid-a", 1, false) }],
    );
    is(&mut core, &[8]);
    core.change(named("a", "uid-a", "n1", [10, 0, 1, 9]));
    is(&mut core, &[9]);
    core.change(named("a", "uid-next", "n1", [10, 0, 1, 10]));
    is(&mut core, &[10]);
}

#[test]
fn a_pod_that_was_detached_has_the_addresses_that_its_status_names_newly() {
    let mut core = core();
    core.attached(&"n1".into(), attached("a", "uid-a", 1, false));
    core.detached(&"n1".into(), "uid-a");
    core.change(named("a", "uid-a", "n1", [10, 0, 1, 1]));
    assert_eq!(members(&mut core, "n2"), addresses(&[]));
    core.change(named("a", "uid-a", "n1", [10, 0, 1, 2]));
    assert_eq!(members(&mut core, "n2"), BTreeSet::from([[10, 0, 1, 2].into()]));
}
