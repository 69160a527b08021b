//! The latch: a table of its own that keeps pods closed where the table of policies is missing.
//!
//! What begins goes through it only with the mark that the table of policies gave it: that nobody said no is not enough. So
//! whoever takes that table away lets nothing through by it. It stands right behind that table, and takes the mark back.
//!
//! It has no elements, and is the same on every node: it comes when policies come into force, behind them, and goes before them.

use crate::family::Family;
use crate::lease::POD_LINKS;
use crate::nft::build::{RuleBuilder, filter_chain};
use crate::nft::{Chain, Hook};

/// The name of the table; its family is `inet`.
pub const TABLE: &str = "towpath-latch";
/// Where the table of policies stands among those that see the same packets: before those of others
/// (`NF_IP_PRI_FILTER`, `linux/netfilter_ipv4.h`, is 0), with nobody between it and the latch.
pub const PRIORITY: i32 = -2;
/// The bit of a packet's mark that says that policies have been looked at: of those that no component of Kubernetes takes.
pub const JUDGED: u32 = 0x1000;

/// Its chains.
pub fn chains() -> [(&'static str, Chain); 2] {
    let (low, high) = POD_LINKS;
    let known = RuleBuilder::either("connections that were let through").of_known_connection().accept().done();
    let judged = RuleBuilder::either("policies were looked at").marked(JUDGED).clear_mark(JUDGED).accept().done();
    let discovery = RuleBuilder::new(Family::V6, "who has which address on the link").neighbour_discovery();
    let discovery = discovery.accept().done();
    let from = RuleBuilder::either("pods, without policies").from_links_between(low, high).count().drop().done();
    let to = RuleBuilder::either("pods, without policies").to_links_between(low, high).count().drop().done();
    let input = vec![known, judged, discovery, from];
    let forward = input.iter().cloned().chain([to]).collect();
    [
        ("forward", filter_chain(Hook::Forward, PRIORITY + 1, forward)),
        ("input", filter_chain(Hook::Input, PRIORITY + 1, input)),
    ]
}
