//! Every decoder of what the kernel says, given any message: none may panic.

use towpath_net::Family;
use towpath_net::nft::{Set, Table};

use crate::netlink::{Content, Message};
use crate::nft::decode as nft;
use crate::{address, fdb, link, neighbour, nexthop, route};

/// `RT_TABLE_MAIN`, `RT_TABLE_LOCAL` (`linux/rtnetlink.h`).
const TABLES: [u8; 2] = [254, 255];
/// `struct nfgenmsg`.
const NFTABLES_HEADER: usize = 4;

/// Decodes a message of `NETLINK_ROUTE` as all that it may be.
pub fn route(message: &Message) {
    link::decode(message);
    address::decode(message);
    neighbour::decode(message);
    fdb::decode(message);
    nexthop::decode(message);
    for family in Family::ALL {
        for table in TABLES {
            route::decode(family, table, message);
        }
    }
}

/// Decodes messages of `NETLINK_NETFILTER` as all that they may be; the elements are those of every set among them.
pub fn nftables(messages: &[Message]) -> Table {
    let contents: Vec<Content<'_>> = messages.iter().map(|message| message.content(NFTABLES_HEADER)).collect();
    let mut table = Table::default();
    table.chains.extend(contents.iter().filter_map(|content| nft::chain(*content)));
    for (name, rule) in contents.iter().filter_map(|content| nft::rule(*content)) {
        if let Some(chain) = table.chains.get_mut(&name) {
            chain.rules.push(rule);
        }
    }
    for (name, set) in contents.iter().filter_map(|content| nft::set(*content)) {
        let parts = contents.iter().map(|content| nft::part(&set, *content)).collect();
        let elements = nft::elements(&set, parts);
        table.sets.insert(name, Set { elements, ..set });
    }
    table
}
