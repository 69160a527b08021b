//! Numbers of the kernel's interface that the encoder and the decoder share (`linux/netfilter/nf_tables.h`).

use towpath_net::Family;
use towpath_net::nft::{ChainKind, Comparison, FieldType, Header, Home, Hook, Meta, Nat};

/// `NFPROTO_INET`: tables for both families.
pub const INET: u8 = 1;
/// `NFNL_SUBSYS_NFTABLES`.
pub const NFTABLES: u8 = 10;
/// The same, as it goes before each message type.
pub const SUBSYSTEM: u16 = 10 << 8;
/// `NFPROTO_BRIDGE`: tables for frames.
const BRIDGE: u8 = 7;
/// `struct nfgenmsg` of everything in a table of family `inet`.
pub const FAMILY_HEADER: [u8; 4] = [INET, 0, 0, 0];

/// The family of a table.
pub const fn family_of(home: Home) -> u8 {
    match home {
        Home::Inet => INET,
        Home::Bridge => BRIDGE,
    }
}

/// Message types (`enum nf_tables_msg_types`).
pub mod message {

    pub const NEW_TABLE: u16 = 0;
    pub const GET_TABLE: u16 = 1;
    pub const DELETE_TABLE: u16 = 2;
    pub const NEW_CHAIN: u16 = 3;
    pub const GET_CHAIN: u16 = 4;
    pub const DELETE_CHAIN: u16 = 5;
    pub const NEW_RULE: u16 = 6;
    pub const GET_RULE: u16 = 7;
    pub const DELETE_RULE: u16 = 8;
    pub const NEW_SET: u16 = 9;
    pub const GET_SET: u16 = 10;
    pub const DELETE_SET: u16 = 11;
    pub const NEW_ELEMENT: u16 = 12;
    pub const GET_ELEMENT: u16 = 13;
    pub const DELETE_ELEMENT: u16 = 14;
    pub const NEW_GENERATION: u16 = 15;
    pub const GET_GENERATION: u16 = 16;
}

/// `NFT_SET_ANONYMOUS`.
pub const SET_NAMELESS: u32 = 1;
/// `NFT_SET_INTERVAL`.
pub const SET_INTERVAL: u32 = 4;
/// `NFT_SET_MAP`.
pub const SET_MAP: u32 = 8;
/// `NFT_SET_ELEM_INTERVAL_END`.
pub const INTERVAL_END: u32 = 1;
/// `NFT_SET_ELEM_CATCHALL`: the element has no key.
pub const REST: u32 = 2;
/// `NF_DROP`.
pub const DROP: u32 = 0;
/// `NF_ACCEPT`.
pub const ACCEPT: u32 = 1;
/// `NFT_JUMP`, a negative number.
pub const JUMP: u32 = 3_u32.wrapping_neg();
/// `NFT_GOTO`.
pub const GOTO: u32 = 4_u32.wrapping_neg();
/// `NFT_RETURN`.
pub const RETURN: u32 = 5_u32.wrapping_neg();
/// `NFT_DATA_VERDICT`: the type of what a map of verdicts has.
pub const VERDICTS: u32 = 0xffff_ff00;
/// `NFT_RANGE_EQ`.
pub const WITHIN: u32 = 0;
/// What `NFTA_LIMIT_UNIT` is of, in seconds.
pub const SECOND: u64 = 1;
/// `NFT_LIMIT_PKTS`.
pub const LIMIT_PACKETS: u32 = 0;
/// `NFT_CT_STATE`.
pub const CT_STATE: u32 = 0;
/// `NFT_BYTEORDER_HTON`.
pub const TO_NETWORK_ORDER: u32 = 1;
/// `NFT_RT_TCPMSS`.
pub const ROUTE_SEGMENT: u32 = 3;
/// `NFT_EXTHDR_OP_TCPOPT`.
pub const TCP_OPTION: u32 = 1;
/// `TCPOPT_MSS`, with where its value stands in it, and how long that is (RFC 9293, section 3.2).
pub const SEGMENT_OPTION: (u8, u32, u32) = (2, 2, 2);
/// `NFT_LOOKUP_F_INV`.
pub const LOOKUP_INVERTED: u32 = 1;
/// `NFT_FIB_RESULT_ADDRTYPE`.
pub const FIB_ADDRESS_TYPE: u32 = 3;
/// `NFTA_FIB_F_DADDR`.
pub const FIB_DESTINATION: u32 = 2;
/// `NFT_CT_STATUS`.
pub const CT_STATUS: u32 = 2;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY` (`linux/netfilter/nf_nat.h`).
pub const RANDOM_FULLY: u32 = 1 << 4;
/// `NFT_REG_VERDICT`.
pub const REGISTER_VERDICT: u32 = 0;
/// `NFT_REG32_00`.
pub const REGISTER_0: u32 = 8;

/// The families with their numbers (`NFPROTO_*`).
pub const FAMILIES: [(Family, u32); 2] = [(Family::V4, 2), (Family::V6, 10)];
/// `enum nft_meta_keys`.
pub const METAS: [(Meta, u32); 5] =
    [(Meta::NfProto, 15), (Meta::L4Proto, 16), (Meta::InputName, 6), (Meta::OutputName, 7), (Meta::Mark, 3)];
/// `NFT_TABLE_F_OWNER`: who made the table is the only one who may change it. `NFT_TABLE_F_PERSIST`: the table outlives
/// whoever made it, and then may be changed by anybody (Linux 6.9).
pub const TABLE_OWNED: u32 = 2;
pub const TABLE_STAYS: u32 = 4;
/// `enum nft_payload_bases`.
pub const HEADERS: [(Header, u32); 3] = [(Header::Link, 0), (Header::Network, 1), (Header::Transport, 2)];
/// `enum nft_cmp_ops`.
pub const COMPARISONS: [(Comparison, u32); 2] = [(Comparison::Equal, 0), (Comparison::NotEqual, 1)];
/// `enum nft_nat_types`.
pub const NATS: [(Nat, u32); 2] = [(Nat::Source, 0), (Nat::Destination, 1)];
/// `enum nf_inet_hooks`.
pub const HOOKS: [(Hook, u32); 5] =
    [(Hook::Prerouting, 0), (Hook::Input, 1), (Hook::Forward, 2), (Hook::Output, 3), (Hook::Postrouting, 4)];
/// The kernel's names of chain types.
pub const CHAIN_KINDS: [(ChainKind, &str); 2] = [(ChainKind::Filter, "filter"), (ChainKind::Nat, "nat")];

/// The number (or name) of a value.
pub fn number_of<T: PartialEq, N: Copy + Default>(table: &[(T, N)], value: &T) -> N {
    table.iter().find(|(v, _)| v == value).map(|(_, number)| *number).unwrap_or_default()
}

/// The value of a number (or name).
pub fn value_of<T: Copy, N: PartialEq>(table: &[(T, N)], number: &N) -> Option<T> {
    table.iter().find(|(_, n)| n == number).map(|(value, _)| *value)
}

/// The number by which `nft` knows a field's type (its `enum datatypes`), and the field's length in bytes.
pub const fn field(field: FieldType) -> (u32, u32) {
    match field {
        FieldType::Address(Family::V4) => (7, 4),
        FieldType::Address(Family::V6) => (8, 16),
        FieldType::Protocol => (12, 1),
        FieldType::Port => (13, 2),
        FieldType::Mark => (19, 4),
        FieldType::Link => (41, 16),
        FieldType::Mac => (9, 6),
    }
}

/// Every type of field.
pub const FIELDS: [FieldType; 7] = [
    FieldType::Address(Family::V4),
    FieldType::Address(Family::V6),
    FieldType::Protocol,
    FieldType::Port,
    FieldType::Mark,
    FieldType::Link,
    FieldType::Mac,
];

/// How many bits each field takes in the number of a concatenation's type.
pub const TYPE_BITS: u32 = 6;
