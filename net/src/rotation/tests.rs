use proptest::prelude::*;

use super::*;

const SECOND: Moment = 1_000;
const PERIOD: u32 = 600;

fn ages(active: Moment, idle: Moment) -> Ages {
    Ages { active: active * SECOND, idle: idle * SECOND, taken_back: None }
}

fn peer(active: u64, idle: u64) -> Handshakes {
    let at = |seconds: u64| (seconds > 0).then_some(seconds * SECOND);
    Handshakes { active: at(active), idle: at(idle) }
}

#[test]
fn the_idle_key_is_made_anew_when_the_active_one_has_lived_for_half_a_period() {
    let keys = ages(1_000, 1_000);
    assert_eq!(keys.step(1_299 * SECOND, PERIOD, []), Step::Wait(1_300 * SECOND));
    assert_eq!(keys.step(1_300 * SECOND, PERIOD, []), Step::Make);
    assert_eq!(keys.step(1_000 * SECOND, 0, []), Step::Make);
    let tried = Ages { taken_back: Some(1_345 * SECOND), ..keys };
    assert_eq!(tried.step(1_346 * SECOND, PERIOD, []), Step::Wait(1_420 * SECOND));
}

#[test]
fn the_change_waits_for_all_that_agree_and_for_the_silent_only_a_while() {
    let keys = ages(1_000, 1_300);
    let step = |now: u64, peers: &[Handshakes]| keys.step(now * SECOND, PERIOD, peers.iter().copied());
    assert_eq!(step(1_301, &[]), Step::ChangeOver, "a node that is alone");
    assert_eq!(step(1_302, &[peer(0, 1_301), peer(1_200, 1_302)]), Step::ChangeOver);
    assert_eq!(step(1_319, &[peer(0, 1_301), peer(0, 0)]), Step::Invite);
    assert_eq!(step(1_320, &[peer(0, 1_301), peer(0, 0)]), Step::ChangeOver);
    assert_eq!(step(1_344, &[peer(0, 1_301), peer(1_250, 0)]), Step::Invite);
    assert_eq!(step(1_345, &[peer(0, 1_301), peer(1_250, 0)]), Step::TakeBack);
    assert_eq!(step(1_345, &[peer(0, 1_301), peer(0, 1_300)]), Step::TakeBack, "one that knows the key before alone");
    assert_eq!(step(2_200, &[peer(0, 1_301), peer(2_150, 0)]), Step::ChangeOver, "overdue");
    assert_eq!(step(9_999, &[peer(0, 0), peer(0, 0)]), Step::TakeBack, "nobody knows it");
}

#[test]
fn a_clock_that_was_set_back_delays_nothing_for_longer_than_half_a_period() {
    let keys = Ages { active: 9_000 * SECOND, idle: 9_300 * SECOND, taken_back: Some(9_100 * SECOND) };
    let now = 1_000 * SECOND;
    let sane = keys.as_of(now);
    assert!(!sane.is_inviting());
    assert_eq!(sane.step(now, PERIOD, []), Step::Wait(1_300 * SECOND));
    assert_eq!(sane.as_of(now), sane);
}

/// How long a session lasts, and from when on the two try to agree on the next.
const REJECT_AFTER: Moment = 180 * SECOND;
const REKEY_AFTER: Moment = 120 * SECOND;

type Id = u64;

/// A session of two nodes on one slot, as the one that sends has it.
#[derive(Clone, Copy, Debug)]
struct Session {
    made: Moment,
    own: Id,
    theirs: Id,
}

#[derive(Clone, Debug)]
struct Node {
    active: usize,
    ids: [Id; 2],
    made: [Moment; 2],
    before: Option<(Id, Moment)>,
    taken_back: Option<Moment>,
    /// What it knows of each node's keys.
    known: Vec<[Id; 2]>,
    /// Its sessions with each node on each slot.
    sessions: Vec<[Option<Session>; 2]>,
    /// From when on its agent is down, and for how long.
    absent: (Moment, Moment),
}

/// Several nodes that turn their keys, told of each other by an API server that is not always there.
#[derive(Debug)]
struct World {
    now: Moment,
    nodes: Vec<Node>,
    /// When each node's keys were last changed: others know of it this much later.
    delay: Moment,
    changed: Vec<Moment>,
    outage: (Moment, Moment),
    next: Id,
    oldest: Moment,
}

fn within((from, length): (Moment, Moment), now: Moment) -> bool {
    now >= from && now < from + length
}

impl World {
    fn new(starts: &[Moment], absences: &[(Moment, Moment)], delay: Moment, outage: (Moment, Moment)) -> Self {
        let count = starts.len();
        let first = |n: usize| [2 * n as Id, 2 * n as Id + 1];
        let nodes = starts.iter().zip(absences).map(|(start, absent)| Node {
            active: 0,
            ids: [0; 2],
            made: [*start; 2],
            before: None,
            taken_back: None,
            known: (0..count).map(first).collect(),
            sessions: vec![[None; 2]; count],
            absent: *absent,
        });
        let mut nodes: Vec<Node> = nodes.collect();
        (0..count).for_each(|n| nodes[n].ids = first(n));
        let now = 1_000 * SECOND;
        Self { now, nodes, delay, changed: vec![0; count], outage, next: 1_000, oldest: 0 }
    }

    /// What each learns of the others, where the API server is there.
    fn learn(&mut self) {
        let told: Vec<_> = self.nodes.iter().map(|node| node.ids).collect();
        for reader in 0..self.nodes.len() {
            if within(self.outage, self.now) || within(self.nodes[reader].absent, self.now) {
                continue;
            }
            for (node, ids) in told.iter().enumerate() {
                let known = self.nodes[reader].known[node];
                if node == reader || self.now < self.changed[node] + self.delay || known == *ids {
                    continue;
                }
                self.nodes[reader].known[node] = *ids;
                // Who is new on a device is greeted there.
                (0..2).filter(|slot| known[*slot] != ids[*slot]).for_each(|slot| _ = self.shake(reader, node, slot));
            }
        }
    }

    /// Whether two can agree on a session now; where they can, they have.
    fn shake(&mut self, a: usize, b: usize, slot: usize) -> bool {
        let (own, theirs) = (self.nodes[a].ids[slot], self.nodes[b].ids[slot]);
        let possible = self.nodes[a].known[b][slot] == theirs && self.nodes[b].known[a][slot] == own;
        if possible {
            let made = self.now;
            self.nodes[a].sessions[b][slot] = Some(Session { made, own, theirs });
            self.nodes[b].sessions[a][slot] = Some(Session { made, own: theirs, theirs: own });
        }
        possible
    }

    /// Whether a packet arrives. A session outlives the receiver's key, but neither the sender's nor what either side
    /// knows of the other.
    fn send(&mut self, a: usize, b: usize) -> bool {
        let slot = self.nodes[a].active;
        let usable = self.nodes[a].sessions[b][slot].filter(|session| {
            session.made + REJECT_AFTER > self.now
                && session.own == self.nodes[a].ids[slot]
                && session.theirs == self.nodes[a].known[b][slot]
                && session.own == self.nodes[b].known[a][slot]
        });
        match usable {
            Some(session) if session.made + REKEY_AFTER > self.now => true,
            Some(_) => {
                self.shake(a, b, slot);
                true
            }
            None => self.shake(a, b, slot),
        }
    }

    fn turn(&mut self, n: usize) {
        let node = &self.nodes[n];
        let (active, idle) = (node.active, 1 - node.active);
        let ages = Ages { active: node.made[active], idle: node.made[idle], taken_back: node.taken_back };
        let last = |at: usize, slot: usize| node.sessions[at][slot].map(|session| session.made);
        let others = (0..self.nodes.len()).filter(|other| *other != n);
        let peers: Vec<_> =
            others.clone().map(|at| Handshakes { active: last(at, active), idle: last(at, idle) }).collect();
        let step = ages.step(self.now, PERIOD, peers);
        let node = &mut self.nodes[n];
        match step {
            Step::Wait(_) => {}
            Step::Invite => others.for_each(|other| _ = self.shake(n, other, idle)),
            Step::ChangeOver => node.active = idle,
            Step::Make => {
                node.before = Some((node.ids[idle], node.made[idle]));
                (node.ids[idle], node.made[idle]) = (self.next, self.now);
                self.next += 1;
                self.changed[n] = self.now;
            }
            Step::TakeBack => {
                (node.ids[idle], node.made[idle]) = node.before.take().unwrap();
                node.taken_back = Some(self.now);
                self.changed[n] = self.now;
            }
        }
    }

    /// Runs for some seconds; tells the first packet that was lost.
    fn run(&mut self, seconds: u64, talks: impl Fn(usize, usize) -> bool) -> Option<String> {
        for _ in 0..seconds {
            self.now += SECOND;
            self.learn();
            for n in 0..self.nodes.len() {
                if !within(self.nodes[n].absent, self.now) {
                    self.turn(n);
                }
                let oldest = self.nodes[n].made.iter().map(|made| self.now - made).max().unwrap_or_default();
                self.oldest = self.oldest.max(oldest);
            }
            for a in 0..self.nodes.len() {
                for b in (0..self.nodes.len()).filter(|b| *b != a) {
                    if talks(a, b) && !self.send(a, b) {
                        return Some(format!("from {a} to {b} at {}", self.now / SECOND));
                    }
                }
            }
        }
        None
    }
}

prop_compose! {
    /// Either agents are absent for a while, or the API server is, and for as long as it likes: where it goes while some
    /// have heard of a key and others have not, and stays away, nobody can help the ones or the others.
    fn worlds()(
        starts in prop::collection::vec(400..1_000u64, 4),
        absences in prop_oneof![Just(vec![(0, 0); 4]), prop::collection::vec((1_000..6_000u64, 0..15u64), 4)],
        delay in 0..15u64,
        from in 1_000..6_000u64,
        length in 0..3_000u64,
    ) -> World {
        let starts: Vec<_> = starts.into_iter().map(|at| at * SECOND).collect();
        let absences: Vec<_> = absences.into_iter().map(|(at, long)| (at * SECOND, long * SECOND)).collect();
        let all_there = absences.iter().all(|(_, long)| *long == 0);
        let (delay, length) = if all_there { (0, length) } else { (delay, 0) };
        World::new(&starts, &absences, delay * SECOND, (from * SECOND, length * SECOND))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_packet_between_nodes_that_turn_their_keys_each_on_its_own_is_lost(
        mut world in worlds(),
        pairs in prop::collection::vec(any::<bool>(), 16),
    ) {
        let lost = world.run(6_000, |a, b| pairs[4 * a + b]);
        prop_assert_eq!(lost, None);
        prop_assert!(world.next > 1_000, "nothing was ever made anew");
    }

    #[test]
    fn no_key_becomes_older_than_a_period_while_nodes_hear_of_each_other(
        starts in prop::collection::vec(700..1_000u64, 4),
        delay in 0..15u64,
    ) {
        let starts: Vec<_> = starts.into_iter().map(|at| at * SECOND).collect();
        let mut world = World::new(&starts, &[(0, 0); 4], delay * SECOND, (0, 0));
        prop_assert_eq!(world.run(6_000, |_, _| true), None);
        prop_assert!(world.oldest <= (u64::from(PERIOD) + 60) * SECOND, "{}", world.oldest);
    }

    #[test]
    fn nothing_is_changed_before_the_lively_agree_or_it_is_overdue(
        idle in 1_000..2_000u64,
        now in 1_000..4_000u64,
        peers in prop::collection::vec((0..4_000u64, 0..4_000u64), 0..8),
    ) {
        let keys = ages(999, idle);
        let peers: Vec<_> = peers.into_iter().map(|(active, idle)| peer(active, idle)).collect();
        let step = keys.step(now * SECOND, PERIOD, peers.iter().copied());
        let agrees = |p: &Handshakes| p.idle.is_some_and(|at| at > keys.idle);
        let lively = |p: &Handshakes| p.active.max(p.idle).is_some_and(|at| at + LIVELY >= now * SECOND);
        if step == Step::ChangeOver && !peers.is_empty() {
            prop_assert!(peers.iter().any(agrees));
            let is_overdue = now >= 999 + 2 * u64::from(PERIOD);
            prop_assert!(is_overdue || peers.iter().all(|p| agrees(p) || !lively(p)));
        }
    }
}
