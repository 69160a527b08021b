//! nftables as data: one table, as it should be or as the kernel has it.
//!
//! Rules are lists of the kernel's own expressions (`linux/netfilter/nf_tables.h`), so that what is sent and what
//! is read back are the same type and can be compared. [`build`] makes them from what a person would say.

pub mod build;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

use crate::family::Family;
use crate::lease::Protocol;
use crate::link_name::LinkName;
use crate::mac::Mac;
use crate::ranges::Range;

/// How the names of sets and chains begin that are in the table of family `bridge`.
pub const BRIDGED: &str = "bridged-";

/// The table of family `inet`, and where it has anything in it, the one of the same name of family `bridge`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Table {
    /// `NFTA_TABLE_FLAGS` of both: none that Towpath sets; a dormant table has some.
    pub flags: u32,
    /// Sets and maps by name.
    pub sets: BTreeMap<String, Set>,
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
}

/// Which table something is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// That of packets of both families.
    Inet,
    /// That of frames that arrive at ports of bridges.
    Bridge,
}

impl Home {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Inet, Self::Bridge];

    /// Where the set or chain of this name is.
    pub fn of(name: &str) -> Self {
        if name.starts_with(BRIDGED) { Self::Bridge } else { Self::Inet }
    }
}

/// A set, or a map where it has data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Set {
    /// The fields of a key; more than one is a concatenation.
    pub key: Vec<FieldType>,
    /// The fields of what a key maps to; empty for a set.
    pub data: Vec<FieldType>,
    /// Whether it holds ranges instead of single keys.
    pub interval: bool,
    /// What it holds.
    pub elements: BTreeSet<Element>,
}

/// The type of one field of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum FieldType {
    /// An address of this family.
    Address(Family),
    /// The protocol's number.
    Protocol,
    /// A port.
    Port,
    /// A number of 4 bytes in the order of the host.
    Mark,
    /// The name of a link.
    Link,
    /// An Ethernet address.
    Mac,
}

/// The value of one field of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Value {
    /// An address.
    Address(IpAddr),
    /// A protocol.
    Protocol(Protocol),
    /// A port.
    Port(u16),
    /// The name of a link.
    Link(LinkName),
    /// An Ethernet address.
    Mac(Mac),
}

/// What a set holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Element {
    /// Every address of a range; only in interval sets.
    Range(Range),
    /// One key, and what it maps to (empty in a set).
    Key {
        /// The fields of the key.
        key: Vec<Value>,
        /// The fields of the data.
        data: Vec<Value>,
    },
}

/// A chain with its rules in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// Where the kernel enters it; nothing for a chain that others only jump to.
    pub base: Option<Base>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// Where the kernel enters a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Base {
    /// The chain's type.
    pub kind: ChainKind,
    /// The hook.
    pub hook: Hook,
    /// The order among chains of one hook; lower comes first (`NF_IP_PRI_*`).
    pub priority: i32,
    /// Whether a packet goes on that no rule decides on.
    pub accepts: bool,
}

/// The type of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ChainKind {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of each connection.
    Nat,
}

/// A hook of the `inet` family, with the kernel's number (`NF_INET_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Hook {
    /// Packets that arrive.
    Prerouting = 0,
    /// Packets that arrived for the node itself.
    Input = 1,
    /// Packets that the node passes on.
    Forward = 2,
    /// Packets that a process of the node sends.
    Output = 3,
    /// Packets that leave.
    Postrouting = 4,
}

/// A rule: a comment, and the expressions that the kernel evaluates.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Rule {
    /// What the rule is for; kept by the kernel with the rule.
    pub comment: String,
    /// The expressions.
    pub exprs: Vec<Expr>,
}

/// A register of 4 bytes, `NFT_REG32_00` to `NFT_REG32_15`; wide values take several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Register(pub u8);

/// A metadatum of a packet (`enum nft_meta_keys`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Meta {
    /// `NFT_META_NFPROTO`: the address family.
    NfProto,
    /// `NFT_META_L4PROTO`: the protocol above IP.
    L4Proto,
    /// `NFT_META_IIFNAME`: the name of the link that the packet came by.
    InputName,
    /// `NFT_META_OIFNAME`: the name of the link that the packet leaves by.
    OutputName,
    /// `NFT_META_MARK`: the packet's mark, in host byte order.
    Mark,
}

/// A header (`enum nft_payload_bases`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Header {
    /// Ethernet.
    Link,
    /// IPv4, IPv6 or ARP.
    Network,
    /// What follows the IP header: TCP, UDP, SCTP, or the IP header of a packet in a tunnel.
    Transport,
}

/// A comparison (`enum nft_cmp_ops`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Comparison {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
}

/// Source or destination NAT (`enum nft_nat_types`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Nat {
    /// Changes the source.
    Source,
    /// Changes the destination.
    Destination,
}

/// One expression of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Expr {
    /// Loads a metadatum.
    Meta {
        /// Which.
        key: Meta,
        /// Into this register.
        to: Register,
    },
    /// Writes a metadatum (`NFTA_META_SREG`).
    SetMeta {
        /// Which.
        key: Meta,
        /// From this register.
        from: Register,
    },
    /// Loads bytes of a header.
    Payload {
        /// Which header.
        header: Header,
        /// From this byte.
        offset: u32,
        /// So many bytes.
        len: u32,
        /// Into this register.
        to: Register,
    },
    /// Goes on if the comparison holds.
    Compare {
        /// What is compared.
        from: Register,
        /// How.
        op: Comparison,
        /// With what, in network byte order.
        value: Vec<u8>,
    },
    /// Masks a register: `to = from & mask` (`NFT_BITWISE_MASK_XOR` with a zero xor).
    Mask {
        /// What is masked.
        from: Register,
        /// Where the result goes.
        to: Register,
        /// The mask.
        mask: Vec<u8>,
    },
    /// Sets bits of a register: `to = from | bits` (`NFT_BITWISE_MASK_XOR` with the bits as xor and all others as mask).
    SetBits {
        /// What they are set in.
        from: Register,
        /// Where the result goes.
        to: Register,
        /// The bits.
        bits: Vec<u8>,
    },
    /// Goes on if the key is in the set (or is not, where inverted); a map also loads its data.
    Lookup {
        /// The set or map.
        set: String,
        /// The key.
        from: Register,
        /// Where a map's data goes.
        to: Option<Register>,
        /// Whether the key must not be there.
        inverted: bool,
    },
    /// Puts numbers of two bytes into network byte order (`NFT_BYTEORDER_HTON`).
    NetworkOrder {
        /// The number.
        from: Register,
        /// Where the result goes.
        to: Register,
    },
    /// Loads the largest TCP segment that the packet's route carries, in host byte order (`NFT_RT_TCPMSS`).
    RouteSegment {
        /// Into this register.
        to: Register,
    },
    /// Lowers the maximum segment size that a SYN tells to that of a register; never raises it (`NFT_EXTHDR_OP_TCPOPT`,
    /// RFC 9293 section 3.7.1).
    LowerSegment {
        /// The most that there is to be, in network byte order.
        from: Register,
    },
    /// Loads the type of the destination address, seen from this node (`NFT_FIB_RESULT_ADDRTYPE`).
    DestinationType {
        /// Into this register.
        to: Register,
    },
    /// Loads the connection's status bits (`NFT_CT_STATUS`).
    ConnectionStatus {
        /// Into this register.
        to: Register,
    },
    /// Loads the bit of the state that the packet has in its connection (`NFT_CT_STATE`, `NF_CT_STATE_BIT`).
    ConnectionState {
        /// Into this register.
        to: Register,
    },
    /// Loads bytes that are always the same (`NFTA_IMMEDIATE_DATA` with a value).
    Constant {
        /// The bytes.
        value: Vec<u8>,
        /// Into this register.
        to: Register,
    },
    /// Goes on if the register is between two values, both included (`NFT_RANGE_EQ`).
    Between {
        /// What is compared.
        from: Register,
        /// The least, in network byte order.
        low: Vec<u8>,
        /// The greatest, of the same length.
        high: Vec<u8>,
    },
    /// Does what a map of verdicts says of the key; goes on behind this rule where it says nothing.
    VerdictOf {
        /// The map.
        map: String,
        /// The key.
        from: Register,
    },
    /// Counts packets and bytes; what was counted is no part of the rule.
    Count,
    /// Goes on if there were no more packets than that (`NFT_LIMIT_PKTS`).
    Limit {
        /// How many in a second, on average.
        per_second: u32,
        /// How many at once on top of that.
        burst: u32,
    },
    /// Gives a copy of the packet to whoever listens to a group of `nfnetlink_log`, and goes on.
    Log {
        /// The group.
        group: u16,
        /// What is told with it.
        prefix: String,
        /// How many bytes of the packet are copied, from the IP header on.
        length: u32,
    },
    /// Rewrites addresses and ports.
    Nat {
        /// Which side.
        kind: Nat,
        /// Of which family the address is.
        family: Family,
        /// The register of the address.
        address: Register,
        /// The register of the port.
        port: Register,
    },
    /// Gives the packet the address of the link that it leaves by.
    Masquerade {
        /// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`.
        fully_random: bool,
    },
    /// Keeps the packet out of connection tracking (`nft_notrack`), which has not seen it yet.
    Untracked,
    /// Ends the packet in silence (`NF_DROP`).
    Drop,
    /// Ends the chain, and lets the packet go on (`NF_ACCEPT`).
    Accept,
    /// Goes through another chain, and on behind this rule where that has come to no verdict (`NFT_JUMP`).
    Jump {
        /// The chain.
        chain: String,
    },
    /// Goes through another chain, and does not come back to this one (`NFT_GOTO`).
    Goto {
        /// The chain.
        chain: String,
    },
    /// Goes on behind the rule that jumped last (`NFT_RETURN`).
    Return,
    /// An expression that Towpath does not make: somebody else put it there.
    Foreign {
        /// The kernel's name of it.
        name: String,
    },
}
