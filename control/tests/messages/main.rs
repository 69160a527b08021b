//! What is said, written and read again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod samples;

use proptest::prelude::*;
use towpath_control::assembly::{Assembly, FromOperator};
use towpath_control::malformed::Fault;
use towpath_control::message::{FromAgent, Nonce, read_from_agent, write_from_agent};
use towpath_control::parts;
use towpath_control::peers::PeerTable;
use towpath_control::snapshot::{self, Damage, Journal, Pace};
use towpath_control::update::{Holdings, State, Update};
use towpath_net::policy::bundle::{Bundle, Delta};

use samples::{a_peer, a_state, an_agent_says, an_update};

/// What comes of the messages of an update.
fn read(messages: &[Vec<u8>]) -> Option<FromOperator> {
    let mut assembly = Assembly::default();
    let mut whole = messages.iter().filter_map(|message| assembly.take(message).unwrap());
    let read = whole.next();
    assert!(whole.next().is_none());
    read
}

proptest! {
    // Each waits for the disk several times.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn changes_are_part_of_a_snapshot_one_by_one_as_far_as_they_are_whole(
        states in prop::collection::vec(a_state(), 2..5), at: prop::sample::Index, by in 1_u8..,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let policies: Vec<_> = states.into_iter().map(|state| state.policy).collect();
        let whole = |policy: &Bundle| State { policy: policy.clone(), ..State::default() };
        let known = || snapshot::load(&path).unwrap().state.policy;
        let mut journal = Journal::beside(&path);
        journal.begin(snapshot::save(&path, &[], &whole(&policies[0])).unwrap()).unwrap();
        for step in policies.windows(2) {
            journal.note(&Delta::between(&step[0], &step[1])).unwrap();
            prop_assert_eq!(&known(), &step[1]);
        }
        // Whoever writes dies at some point, or a disk forgets.
        let changes = path.with_file_name("state-changes");
        let bytes = std::fs::read(&changes).unwrap_or_default();
        if !bytes.is_empty() {
            let place = at.index(bytes.len());
            std::fs::write(&changes, &bytes[..place]).unwrap();
            prop_assert!(policies.contains(&known()));
            let mut altered = bytes.clone();
            altered[place] ^= by;
            std::fs::write(&changes, &altered).unwrap();
            prop_assert!(policies.contains(&known()));
            std::fs::write(&changes, &bytes).unwrap();
        }
        // What was noted and refused is nothing to the same snapshot when it is written anew.
        journal.begin(snapshot::save(&path, &[], &whole(&policies[0])).unwrap()).unwrap();
        prop_assert_eq!(&known(), &policies[0]);
        journal.note(&Delta::between(&policies[0], &policies[1])).unwrap();
        journal.begin(snapshot::save(&path, &[], &whole(&policies[0])).unwrap()).unwrap();
        prop_assert_eq!(&known(), &policies[0]);
        // They are nothing to a later snapshot.
        let last = policies.last().unwrap();
        snapshot::save(&path, b"later", &whole(last)).unwrap();
        prop_assert_eq!(&known(), last);
    }
}

proptest! {
    #[test]
    fn an_update_survives_its_way(update in an_update(), nonce: u64) {
        let messages = parts::write(Nonce(nonce), &update);
        prop_assert_eq!(read(&messages), Some(FromOperator::Update(Nonce(nonce), Box::new(update))));
    }

    #[test]
    fn what_an_agent_says_survives_its_way(said in an_agent_says()) {
        prop_assert_eq!(read_from_agent(&write_from_agent(&said)), Ok(said));
    }

    #[test]
    fn bytes_that_were_altered_are_read_as_something_or_refused_by_name(
        update in an_update(), said in an_agent_says(), at: prop::sample::Index, to: u8,
    ) {
        for mut message in parts::write(Nonce(1), &update) {
            let place = at.index(message.len());
            message[place] = to;
            if let Err(error) = Assembly::default().take(&message) {
                prop_assert!(!error.field.is_empty());
            }
            _ = Assembly::default().take(&message[..place]);
        }
        let mut message = write_from_agent(&said);
        let place = at.index(message.len());
        message[place] = to;
        _ = read_from_agent(&message);
        _ = read_from_agent(&message[..place]);
    }

    #[test]
    fn a_snapshot_survives_its_way_and_nothing_that_was_altered_is_taken_for_one(
        state in a_state(), own: Vec<u8>, at: prop::sample::Index, by in 1_u8..,
    ) {
        let mut bytes = snapshot::write(&own, &state);
        let read = snapshot::read(&bytes).unwrap();
        prop_assert_eq!((read.own, read.state), (own, state));
        let place = at.index(bytes.len());
        prop_assert!(snapshot::read(&bytes[..place]).is_err());
        bytes[place] ^= by;
        prop_assert!(snapshot::read(&bytes).is_err());
    }

    #[test]
    fn an_effect_is_what_became_different_and_nothing_else(mut state in a_state(), to in a_state()) {
        let update = Update {
            buckets: (0..=u8::MAX).collect(),
            peers: to.peers.iter().map(|(name, peer)| (name.clone(), Some(peer.clone()))).collect(),
            policy: Holdings::of(&state).policy.delta_to(&to.policy),
        };
        let before = state.clone();
        let effect = state.apply(update.clone()).unwrap();
        prop_assert_eq!(&state, &to);
        prop_assert_eq!(effect.is_empty(), before == to);
        for (name, peer) in &effect.peers {
            prop_assert_ne!(before.peers.get(name), peer.as_ref());
        }
        prop_assert!(state.apply(update).unwrap().is_empty(), "twice is as once");
    }

    #[test]
    fn digests_are_equal_where_content_is(state in a_state(), other in a_state()) {
        prop_assert_eq!(Holdings::of(&state) == Holdings::of(&other), state == other);
    }
}

#[test]
fn a_table_of_peers_tells_each_agent_what_it_lacks_and_never_of_its_own_node() {
    let mut table = PeerTable::default();
    let mut state = State::default();
    for number in 0..600 {
        let name = format!("n{number}").as_str().into();
        assert!(table.set(name, Some(a_peer(number))).is_some());
        if number > 0 {
            state.peers.insert(format!("n{number}").as_str().into(), a_peer(number));
        }
    }
    assert!(table.set("n5".into(), Some(a_peer(5))).is_none(), "nothing is new");
    let own = "n0".into();
    assert!(table.difference(&Holdings::of(&state).peers, &own).is_empty());
    assert!(table.set("n0".into(), None).is_some());
    assert!(table.difference(&Holdings::of(&state).peers, &own).is_empty());
    assert!(table.set("n1".into(), None).is_some());
    assert!(!table.difference(&Holdings::of(&state).peers, &own).is_empty());
    state.peers.remove("n1");
    assert!(table.difference(&Holdings::of(&state).peers, &own).is_empty());
    assert_eq!(table.get(&"n2".into()), Some(&a_peer(2)));
}

#[test]
fn parts_must_begin_end_and_belong_together() {
    let large = Update {
        peers: (0..20_000).map(|number| (format!("n{number}").as_str().into(), Some(a_peer(number)))).collect(),
        ..Update::default()
    };
    let messages = parts::write(Nonce(7), &large);
    assert!(messages.len() > 3, "{}", messages.len());
    assert_eq!(read(&messages), Some(FromOperator::Update(Nonce(7), Box::new(large.clone()))));

    let mut assembly = Assembly::default();
    assert_eq!(assembly.take(&messages[1]).unwrap_err().reason, Fault::Contradiction, "not the first");
    assert_eq!(assembly.take(&messages[0]), Ok(None));
    assert_eq!(assembly.take(&messages[0]).unwrap_err().field, "part.isFirst");
    let others = parts::write(Nonce(8), &large);
    assert_eq!(assembly.take(&others[1]).unwrap_err().field, "part.nonce");
}

#[test]
fn a_snapshot_of_another_version_or_that_is_damaged_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    assert_eq!(snapshot::load(&path), None);
    let mut state = State::default();
    state.peers.insert("n2".into(), a_peer(2));
    snapshot::save(&path, b"own", &state).unwrap();
    assert_eq!(snapshot::load(&path).map(|saved| (saved.own, saved.state)), Some((b"own".to_vec(), state)));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[14] = b'2';
    assert!(matches!(snapshot::read(&bytes), Err(Damage::Version)));
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(snapshot::load(&path), None);
    std::fs::write(&path, b"").unwrap();
    assert_eq!(snapshot::load(&path), None);
}

#[test]
fn a_snapshot_is_written_at_once_and_then_at_most_every_second() {
    use std::time::{Duration, Instant};
    let now = Instant::now();
    let mut pace = Pace::default();
    assert_eq!(pace.due(now), None);
    pace.change();
    assert_eq!(pace.due(now), Some(Duration::ZERO));
    pace.written(now);
    assert_eq!(pace.due(now), None);
    pace.change();
    assert_eq!(pace.due(now + Duration::from_millis(400)), Some(Duration::from_millis(600)));
    assert_eq!(pace.due(now + Duration::from_secs(9)), Some(Duration::ZERO));
}

#[test]
fn a_refusal_always_has_a_reason_and_never_a_long_one() {
    for (reason, length) in [(String::new(), 19), ("ä".repeat(9000), 1024)] {
        let read = read_from_agent(&write_from_agent(&FromAgent::Nack(Nonce(1), reason))).unwrap();
        let FromAgent::Nack(_, reason) = read else { panic!("{read:?}") };
        assert_eq!(reason.len(), length);
    }
}
