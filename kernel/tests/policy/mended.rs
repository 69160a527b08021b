//! What somebody did to the table is undone, and meanwhile nothing is missing that denies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use towpath_kernel::netlink::{Content, Protocol, Socket, Wait, messages};
use towpath_kernel::policy::{Meanwhile, PolicyTable, Repair, Written};
use towpath_kernel::testing::isolated;
use towpath_net::policy::bundle::{Direction, Isolation, Members, Ports, SetId};
use towpath_net::policy::input::Action;
use towpath_net::policy::objects::set_key;
use towpath_net::ranges::Range;

use crate::bundles::{Case, from_sets, ordered, representative};
use crate::golden::listed;
use crate::node::run;

const T: &str = "inet towpath-policy";
/// How many blocks, or addresses, each set has: one set is more than a short transaction takes.
const BLOCKS: u32 = 700;
const SETS: u64 = 3;
/// The last of so many pods that leading each way of them elsewhere is more than a short transaction takes.
const PODS: u32 = 700;

fn load(case: &Case) -> PolicyTable {
    let mut table = PolicyTable::open().unwrap();
    table.load(&case.bundle, &case.leases, Meanwhile::Closed).unwrap();
    table
}

/// `NFNLGRP_NFTABLES`, messages of it (`enum nf_tables_msg_types` behind `NFNL_SUBSYS_NFTABLES`), and the length of
/// `struct nfgenmsg`.
const GROUP: u32 = 7;
const NEW_RULE: u16 = 0xa06;
const DELETE_RULE: u16 = 0xa08;
const DELETE_SET: u16 = 0xa0b;
const NEW_ELEMENT: u16 = 0xa0c;
const DELETE_ELEMENT: u16 = 0xa0e;
const NEW_GENERATION: u16 = 0xa0f;
const HEADER: usize = 4;

/// What the kernel told of.
#[derive(Clone, Default)]
struct Told {
    /// The elements of sets: keys, and whether they end ranges.
    sets: BTreeMap<String, BTreeSet<(Vec<u8>, bool)>>,
    /// How many rules chains have.
    rules: BTreeMap<String, usize>,
    /// Where elements of maps lead.
    leads: BTreeMap<(String, Vec<u8>), String>,
}

impl Told {
    fn note(&mut self, kind: u16, content: Content<'_>) {
        let name = content.text(2).unwrap_or_default();
        match kind {
            NEW_RULE => *self.rules.entry(name).or_default() += 1,
            DELETE_RULE => *self.rules.entry(name).or_default() -= 1,
            DELETE_SET => _ = self.sets.remove(&name),
            NEW_ELEMENT | DELETE_ELEMENT => {
                let set = self.sets.entry(name.clone()).or_default();
                for element in content.nested(3).unwrap().iter() {
                    let element = element.content();
                    let key = element.nested(1).unwrap().get(1).unwrap().value.to_vec();
                    let chain = element.nested(2).and_then(|data| data.nested(2)).and_then(|verdict| verdict.text(2));
                    let place = (name.clone(), key.clone());
                    _ = match chain {
                        Some(chain) if kind == NEW_ELEMENT => self.leads.insert(place, chain),
                        _ => self.leads.remove(&place),
                    };
                    let border = (key, element.number_be(3).unwrap_or_default() & 1 != 0);
                    _ = if kind == NEW_ELEMENT { set.insert(border) } else { set.remove(&border) };
                }
            }
            _ => {}
        }
    }

    /// How many elements of another state this one lacks, of blocks.
    fn lacks(&self, other: &Self) -> usize {
        let all = other.sets.iter().filter(|(name, _)| name.starts_with("blocks-"));
        let lacking = |(name, borders): (&String, &BTreeSet<_>)| match self.sets.get(name) {
            Some(there) => borders.difference(there).count(),
            None => borders.len(),
        };
        all.map(lacking).sum()
    }
}

/// Follows a table, one transaction after the other.
struct Follower {
    socket: Socket,
    told: Told,
}

impl Follower {
    fn new() -> Self {
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        socket.join(GROUP).unwrap();
        Self { socket, told: Told::default() }
    }

    /// What there was behind each transaction that ended since.
    fn generations(&mut self) -> Vec<Told> {
        let mut all = Vec::new();
        while let Some(datagram) = self.socket.receive(Wait::Poll).unwrap() {
            for message in messages(datagram) {
                if message.kind == NEW_GENERATION {
                    all.push(self.told.clone());
                } else {
                    self.told.note(message.kind, message.content(HEADER));
                }
            }
        }
        all
    }
}

fn name(set: u64) -> String {
    format!("blocks-v4-{set:016x}")
}

/// The first address of a set's blocks: every other network of 24 bits from there on.
fn start(set: u64) -> Ipv4Addr {
    Ipv4Addr::new(u8::try_from(set).unwrap() * 11, 0, 0, 0)
}

/// A pod that may not go to these sets.
fn denying(profile: u64, sets: impl Iterator<Item = u64>) -> Case {
    let deny = |set| ordered("not-there", Action::Deny, &[Ports::Any], from_sets(&[set]));
    let egress = Direction { admin: sets.map(deny).collect(), ..Direction::default() };
    Case::enforced().pod("a", Some(profile), &["10.0.0.2"]).profile(profile, Direction::default(), egress)
}

/// A pod that may not go to many networks.
fn denied_blocks() -> Case {
    let mut case = denying(1, 1..=SETS);
    for set in 1..=SETS {
        let range = |block| {
            let first = start(set).to_bits() + block * 512;
            Range { first: Ipv4Addr::from_bits(first).into(), last: Ipv4Addr::from_bits(first + 255).into() }
        };
        case.bundle.sets.insert(SetId(set), Members::Ranges((0..BLOCKS).map(range).collect()));
    }
    case
}

/// What a pod may not reach, always the same, by a profile and sets whose numbers are so much higher.
struct Denied {
    by: u64,
}

impl Denied {
    fn addresses() -> impl Iterator<Item = (u64, Ipv4Addr)> {
        (1..=SETS).flat_map(|set| (0..BLOCKS).map(move |at| (set, Ipv4Addr::from_bits(start(set).to_bits() + at))))
    }

    fn case(&self) -> Case {
        let mut case = denying(self.by, (1..=SETS).map(|set| set + self.by));
        for set in 1..=SETS {
            let members = Self::addresses().filter(|(of, _)| *of == set).map(|(_, address)| address.into()).collect();
            case.bundle.sets.insert(SetId(set + self.by), Members::Addresses(members));
        }
        case
    }

    fn chain(&self) -> String {
        format!("egress-v4-{:016x}", self.by)
    }

    /// How many of the addresses a packet passes to that comes to the chain.
    fn lets_through(&self, told: &Told) -> usize {
        if told.rules[&self.chain()] != usize::try_from(SETS).unwrap() {
            return Self::addresses().count();
        }
        let key = |set, address: Ipv4Addr| [&set_key(SetId(set + self.by))[..], &address.octets()].concat();
        let is_there = |(set, address)| told.sets["peers-v4"].contains(&(key(set, address), false));
        Self::addresses().filter(|member| !is_there(*member)).count()
    }
}

fn mend(case: &Case) -> Written {
    match PolicyTable::open().unwrap().repair(&case.bundle, &case.leases).unwrap() {
        Repair::Mended(written) => written,
        other => panic!("{other:?}"),
    }
}

#[test]
fn blocks_that_are_denied_are_never_missing_while_they_are_put_right() {
    isolated("mended::blocks_that_are_denied_are_never_missing_while_they_are_put_right", || {
        let mut follower = Follower::new();
        let case = denied_blocks();
        load(&case);
        let whole = follower.generations().pop().unwrap();
        assert_eq!(Told::default().lacks(&whole), usize::try_from(SETS).unwrap() * 2 * BLOCKS as usize);
        for set in 1..=SETS {
            let free = Ipv4Addr::from_bits(start(set).to_bits() + 256);
            run(&format!("nft add element {T} {} {{ {free}/24 }}", name(set)));
        }
        follower.generations();
        let written = mend(&case);
        let generations = follower.generations();
        // The latch was taken over as well.
        assert!(generations.len() > written.transactions && written.transactions > 1, "{written:?}");
        let lacking: Vec<usize> = generations.iter().map(|generation| generation.lacks(&whole)).collect();
        assert!(lacking.iter().all(|count| *count == 0), "missing behind each of {written:?}: {lacking:?}");
        assert_eq!(whole.lacks(generations.last().unwrap()), 0);
    });
}

#[test]
fn sets_are_filled_before_rules_look_into_them() {
    isolated("mended::sets_are_filled_before_rules_look_into_them", || {
        let mut follower = Follower::new();
        let case = denied_blocks();
        load(&case);
        let whole = follower.generations().pop().unwrap();
        let chain = "egress-v4-0000000000000001";
        run(&format!("nft flush chain {T} {chain}"));
        for set in 1..=SETS {
            run(&format!("nft delete set {T} {}", name(set)));
        }
        assert!(follower.generations().pop().unwrap().lacks(&whole) > 0);
        let written = mend(&case);
        let generations = follower.generations();
        // The latch was taken over as well.
        assert!(generations.len() > written.transactions && written.transactions > 1, "{written:?}");
        let looking = generations.iter().filter(|generation| generation.rules[chain] > 0);
        let lacking: Vec<usize> = looking.map(|generation| generation.lacks(&whole)).collect();
        assert!(!lacking.is_empty() && lacking.iter().all(|count| *count == 0), "{lacking:?}");
        assert_eq!(PolicyTable::open().unwrap().repair(&case.bundle, &case.leases).unwrap(), Repair::Nothing);
    });
}

#[test]
fn what_both_old_and_new_sets_deny_never_passes_between() {
    isolated("mended::what_both_old_and_new_sets_deny_never_passes_between", || {
        let mut follower = Follower::new();
        let both = [Denied { by: 0x10 }, Denied { by: 0x20 }];
        let [before, after] = both.each_ref().map(Denied::case);
        load(&before);
        follower.generations();
        let written = mend(&after);
        let generations = follower.generations();
        // The latch was taken over as well.
        assert!(generations.len() > written.transactions && written.transactions > 2, "{written:?}");
        let pod = ("egress-v4".to_owned(), Ipv4Addr::new(10, 0, 0, 2).octets().to_vec());
        let passing = |told: &Told| {
            let denied = both.iter().find(|denied| denied.chain() == told.leads[&pod]).unwrap();
            denied.lets_through(told)
        };
        let passing: Vec<usize> = generations.iter().map(passing).collect();
        assert!(passing.iter().all(|count| *count == 0), "pass behind each of {written:?}: {passing:?}");
        let [old, new] = both.map(|denied| denied.chain());
        let leads = |chain: &String| generations.iter().any(|told| told.leads[&pod] == *chain);
        assert!(leads(&old) && leads(&new));
        assert_eq!(PolicyTable::open().unwrap().repair(&after.bundle, &after.leases).unwrap(), Repair::Nothing);
    });
}

#[test]
fn what_old_receivers_and_new_senders_deny_never_passes_between() {
    isolated("mended::what_old_receivers_and_new_senders_deny_never_passes_between", || {
        let mut follower = Follower::new();
        let nothing = || Direction { isolated: Some(Isolation::default()), ..Direction::default() };
        let pods = |case: Case, profile| {
            (2..=PODS).fold(case, |case, at| {
                case.pod(&at.to_string(), Some(profile), &[&Ipv4Addr::from_bits(0x0a00_0000 + at).to_string()])
            })
        };
        let before = pods(Case::enforced().profile(1, nothing(), Direction::default()), 1);
        let after = pods(Case::enforced().profile(2, Direction::default(), nothing()), 2);
        load(&before);
        follower.generations();
        mend(&after);
        let denied = |told: &Told| {
            ["ingress-v4", "egress-v4"].map(|map| told.leads.keys().filter(|(name, _)| name == map).count())
        };
        let all = usize::try_from(PODS).unwrap() - 1;
        let found: Vec<[usize; 2]> = follower.generations().iter().map(denied).collect();
        assert!(found.iter().all(|denied| [[all, 0], [0, all]].contains(denied)), "{found:?}");
        assert_eq!(found.last(), Some(&[0, all]));
        assert_eq!(PolicyTable::open().unwrap().repair(&after.bundle, &after.leases).unwrap(), Repair::Nothing);
    });
}

#[test]
fn what_nft_makes_without_a_name_and_what_matches_everything_is_undone() {
    isolated("mended::what_nft_makes_without_a_name_and_what_matches_everything_is_undone", || {
        let cases = representative();
        for name in ["two-pods-of-one-profile", "blocks-and-ranges", "named-ports"] {
            let case = &cases[name];
            let mut table = load(case);
            let before = listed();
            let tampering = [
                format!("nft add rule {T} from-pod ip saddr {{ 10.9.9.9, 10.9.9.10 }} accept"),
                format!("nft add rule {T} from-pod ip saddr vmap {{ 10.9.9.9 : accept, 10.9.9.10 : drop }}"),
                format!(
                    "nft add chain {T} strange {{ type filter hook forward priority -10 ; ip saddr {{ 10.9.9.9, 10.9.9.10 }} accept ; }}"
                ),
                format!("nft add element {T} peers-v4 {{ * }}"),
                format!("nft add element {T} ports-v6 {{ * }}"),
                format!("nft add element {T} self-v4 {{ * }}"),
                format!("nft add element {T} ingress-v4 {{ * : return }}"),
                format!("nft add element {T} egress-v6 {{ * : goto cut }}"),
                format!("nft add table {T} {{ flags dormant ; }}"),
                format!("nft add chain {T} forward {{ policy drop ; }}"),
            ];
            for line in tampering {
                run(&line);
                let mended = table.repair(&case.bundle, &case.leases);
                let mended = mended.unwrap_or_else(|error| panic!("{name}: {line}: {error}"));
                assert_ne!(mended, Repair::Nothing, "{name}: {line}");
                assert_eq!(listed(), before, "{name}: {line}");
                let again = PolicyTable::open().unwrap().repair(&case.bundle, &case.leases).unwrap();
                assert_eq!(again, Repair::Nothing, "{name}: {line}");
            }
        }
    });
}
