//! From messages to the model. What Towpath would not have written decodes to [`Expr::Foreign`] or to no element,
//! so that it differs from what is wanted.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use towpath_net::family::{Family, bits};
use towpath_net::lease::Protocol;
use towpath_net::mac::Mac;
use towpath_net::nft::{Base, Chain, Element, Expr, FieldType, Register, Rule, Set, Value};
use towpath_net::ranges::Range;

use super::numbers::{self as n, value_of};
use crate::netlink::Content;

/// The kernel's name of an expression.
pub fn kernel_name(expr: &Expr) -> &str {
    match expr {
        Expr::Meta { .. } | Expr::SetMeta { .. } => "meta",
        Expr::Payload { .. } => "payload",
        Expr::Compare { .. } => "cmp",
        Expr::Mask { .. } | Expr::SetBits { .. } => "bitwise",
        Expr::Lookup { .. } | Expr::VerdictOf { .. } => "lookup",
        Expr::DestinationType { .. } => "fib",
        Expr::ConnectionStatus { .. } | Expr::ConnectionState { .. } => "ct",
        Expr::Between { .. } => "range",
        Expr::Count => "counter",
        Expr::Limit { .. } => "limit",
        Expr::Log { .. } => "log",
        Expr::Untracked => "notrack",
        Expr::Nat { .. } => "nat",
        Expr::Masquerade { .. } => "masq",
        Expr::NetworkOrder { .. } => "byteorder",
        Expr::RouteSegment { .. } => "rt",
        Expr::LowerSegment { .. } => "exthdr",
        Expr::Drop | Expr::Accept | Expr::Jump { .. } | Expr::Goto { .. } | Expr::Return | Expr::Constant { .. } => {
            "immediate"
        }
        Expr::Foreign { name } => name,
    }
}

/// A chain's name and the chain, still without rules.
pub fn chain(a: Content<'_>) -> Option<(String, Chain)> {
    Some((a.text(3)?, Chain { base: base(a), rules: Vec::new() }))
}

fn base(a: Content<'_>) -> Option<Base> {
    let hook = a.nested(4)?;
    Some(Base {
        kind: value_of(&n::CHAIN_KINDS, &a.text(7)?.as_str())?,
        hook: value_of(&n::HOOKS, &hook.number_be(1)?)?,
        priority: hook.number_be(2)?.cast_signed(),
        accepts: a.number_be(5)? == n::ACCEPT,
    })
}

/// The name of a rule's chain, and the rule.
pub fn rule(a: Content<'_>) -> Option<(String, Rule)> {
    let exprs = a.nested(4)?.iter().map(|expr| expression(expr.content())).collect();
    // A comment: one byte of type, one of length, the text, a zero.
    let comment = a.get(7).and_then(|data| data.value.get(2..)).unwrap_or_default();
    let comment = String::from_utf8_lossy(comment).trim_end_matches('\0').to_owned();
    Some((a.text(2)?, Rule { comment, exprs }))
}

/// A set's name and the set, still empty. A set of a kind that Towpath does not make has no fields.
pub fn set(a: Content<'_>) -> Option<(String, Set)> {
    let flags = a.number_be(3).unwrap_or_default();
    let known = flags & !(n::SET_INTERVAL | n::SET_MAP) == 0;
    let key = if known { fields(a.number_be(4)?) } else { Vec::new() };
    let data = a.number_be(6).filter(|_| flags & n::SET_MAP != 0).map(fields).unwrap_or_default();
    let interval = flags & n::SET_INTERVAL != 0;
    Some((a.text(2)?, Set { key, data, interval, elements: BTreeSet::new() }))
}

fn fields(mut number: u32) -> Vec<FieldType> {
    let mut fields = Vec::new();
    while number != 0 {
        let one = number & ((1 << n::TYPE_BITS) - 1);
        fields.extend(n::FIELDS.into_iter().find(|f| n::field(*f).0 == one));
        number >>= n::TYPE_BITS;
    }
    fields.reverse();
    fields
}

/// What one message tells of a set's elements.
#[derive(Default)]
pub struct Part {
    keyed: Vec<Element>,
    /// Of a set of ranges: an address, and whether a range begins there; another one ends before it.
    borders: Vec<(u128, bool)>,
}

/// Reads the elements of one message.
pub fn part(set: &Set, a: Content<'_>) -> Part {
    let list = a.nested(3).into_iter().flat_map(Content::iter).map(|element| element.content());
    match set.key.as_slice() {
        [FieldType::Address(family)] if set.interval => {
            Part { borders: list.filter_map(|element| border(*family, element)).collect(), ..Part::default() }
        }
        _ => Part { keyed: list.filter_map(|element| keyed(set, element)).collect(), ..Part::default() },
    }
}

fn border(family: Family, element: Content<'_>) -> Option<(u128, bool)> {
    let end = element.number_be(3).unwrap_or_default() & n::INTERVAL_END != 0;
    match value(FieldType::Address(family), bytes(element, 1)?)? {
        Value::Address(address) => Some((bits(address), !end)),
        _ => None,
    }
}

fn keyed(set: &Set, element: Content<'_>) -> Option<Element> {
    let key = values(&set.key, bytes(element, 1)?)?;
    Some(Element::Key { key, data: values(&set.data, bytes(element, 2).unwrap_or_default())? })
}

/// What a set holds, given all that was told of its elements in any order.
pub fn elements(set: &Set, parts: Vec<Part>) -> BTreeSet<Element> {
    match set.key.as_slice() {
        [FieldType::Address(family)] if set.interval => {
            ranges(*family, parts.into_iter().flat_map(|part| part.borders).collect())
        }
        _ => parts.into_iter().flat_map(|part| part.keyed).collect(),
    }
}

/// Starts and ends by address; where both are at one address the end comes first.
fn ranges(family: Family, borders: BTreeSet<(u128, bool)>) -> BTreeSet<Element> {
    let top = bits(family.everything().broadcast());
    let mut found = Vec::new();
    let mut open: Option<u128> = None;
    for (at, is_start) in borders {
        if let Some(first) = open.take_if(|first| *first < at || !is_start) {
            found.push((first, at.saturating_sub(1)));
        }
        if is_start {
            open = Some(at);
        }
    }
    found.extend(open.map(|first| (first, top)));
    let range = |(first, last)| Range { first: family.address(first), last: family.address(last) };
    found.into_iter().map(range).map(Element::Range).collect()
}

fn values(fields: &[FieldType], bytes: &[u8]) -> Option<Vec<Value>> {
    let padded = fields.len() > 1;
    let mut rest = bytes;
    let mut values = Vec::with_capacity(fields.len());
    for field in fields {
        let len = usize::try_from(n::field(*field).1).ok()?;
        values.push(value(*field, rest.get(..len)?)?);
        rest = rest.get(if padded { len.next_multiple_of(4) } else { len }..)?;
    }
    Some(values)
}

fn value(field: FieldType, bytes: &[u8]) -> Option<Value> {
    match field {
        FieldType::Address(Family::V4) => {
            bytes.first_chunk::<4>().map(|b| Value::Address(IpAddr::V4(Ipv4Addr::from(*b))))
        }
        FieldType::Address(Family::V6) => {
            bytes.first_chunk::<16>().map(|b| Value::Address(IpAddr::V6(Ipv6Addr::from(*b))))
        }
        FieldType::Protocol => {
            let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
            all.into_iter().find(|p| bytes.first() == Some(&p.number())).map(Value::Protocol)
        }
        FieldType::Port => bytes.first_chunk().map(|b| Value::Port(u16::from_be_bytes(*b))),
        FieldType::Link => {
            let name = bytes.first_chunk::<16>()?.split(|byte| *byte == 0).next()?;
            std::str::from_utf8(name).ok().map(|name| Value::Link(name.into()))
        }
        FieldType::Mac => bytes.first_chunk().map(|bytes| Value::Mac(Mac(*bytes))),
        // None of the sets that are decoded has such a field.
        FieldType::Mark => None,
    }
}

fn expression(a: Content<'_>) -> Expr {
    let name = a.text(1).unwrap_or_default();
    // The only one that has nothing to say.
    if name == "notrack" {
        return Expr::Untracked;
    }
    a.nested(2).and_then(|body| known(&name, body)).unwrap_or(Expr::Foreign { name })
}

fn known(name: &str, a: Content<'_>) -> Option<Expr> {
    match name {
        "meta" => {
            let key = value_of(&n::METAS, &a.number_be(2)?)?;
            let loads = register(a, 1).map(|to| Expr::Meta { key, to });
            loads.or_else(|| Some(Expr::SetMeta { key, from: register(a, 3)? }))
        }
        "payload" => Some(Expr::Payload {
            header: value_of(&n::HEADERS, &a.number_be(2)?)?,
            offset: a.number_be(3)?,
            len: a.number_be(4)?,
            to: register(a, 1)?,
        }),
        "cmp" => Some(Expr::Compare {
            from: register(a, 1)?,
            op: value_of(&n::COMPARISONS, &a.number_be(2)?)?,
            value: data(a, 3)?,
        }),
        "bitwise" => bitwise(a),
        "lookup" => lookup(a),
        "range" => (a.number_be(2)? == n::WITHIN).then_some(Expr::Between {
            from: register(a, 1)?,
            low: data(a, 3)?,
            high: data(a, 4)?,
        }),
        "counter" => Some(Expr::Count),
        "limit" => limit(a),
        "log" => log(a),
        "fib" => {
            let plain = a.number_be(2)? == n::FIB_ADDRESS_TYPE && a.number_be(3)? == n::FIB_DESTINATION;
            plain.then_some(Expr::DestinationType { to: register(a, 1)? })
        }
        "ct" => match (a.number_be(2)?, a.get(3)) {
            (n::CT_STATUS, None) => Some(Expr::ConnectionStatus { to: register(a, 1)? }),
            (n::CT_STATE, None) => Some(Expr::ConnectionState { to: register(a, 1)? }),
            _ => None,
        },
        "nat" => nat(a),
        "masq" => {
            let flags = a.number_be(1).unwrap_or_default();
            let plain = flags & !n::RANDOM_FULLY == 0 && a.get(2).is_none();
            plain.then_some(Expr::Masquerade { fully_random: flags != 0 })
        }
        "immediate" => immediate(a),
        "byteorder" => {
            let plain = (a.number_be(3)?, a.number_be(4)?, a.number_be(5)?) == (n::TO_NETWORK_ORDER, 2, 2);
            plain.then_some(Expr::NetworkOrder { from: register(a, 1)?, to: register(a, 2)? })
        }
        "rt" => (a.number_be(2)? == n::ROUTE_SEGMENT).then_some(Expr::RouteSegment { to: register(a, 1)? }),
        "exthdr" => {
            let option = (a.get(2)?.value.first().copied()?, a.number_be(3)?, a.number_be(4)?);
            let plain = option == n::SEGMENT_OPTION
                && a.number_be(5).unwrap_or_default() == 0
                && a.number_be(6)? == n::TCP_OPTION;
            plain.then_some(Expr::LowerSegment { from: register(a, 7)? })
        }
        _ => None,
    }
}

fn bitwise(a: Content<'_>) -> Option<Expr> {
    let (from, to, mask, xor) = (register(a, 1)?, register(a, 2)?, data(a, 4)?, data(a, 5)?);
    // Some other operation.
    if a.number_be(6).unwrap_or_default() != 0 {
        return None;
    }
    if xor.iter().all(|byte| *byte == 0) {
        return Some(Expr::Mask { from, to, mask });
    }
    let sets = mask.len() == xor.len() && mask.iter().zip(&xor).all(|(mask, bits)| *mask == !bits);
    sets.then_some(Expr::SetBits { from, to, bits: xor })
}

fn log(a: Content<'_>) -> Option<Expr> {
    let group = a.get(1)?.value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))?;
    Some(Expr::Log { group, prefix: a.text(2)?, length: a.number_be(3)? })
}

fn limit(a: Content<'_>) -> Option<Expr> {
    let wide = |kind| a.get(kind)?.value.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    let plain = wide(2)? == n::SECOND && a.number_be(4)? == n::LIMIT_PACKETS && a.number_be(5).unwrap_or_default() == 0;
    plain.then_some(Expr::Limit { per_second: u32::try_from(wide(1)?).ok()?, burst: a.number_be(3)? })
}

fn lookup(a: Content<'_>) -> Option<Expr> {
    if a.number_be(3) == Some(n::REGISTER_VERDICT) {
        return Some(Expr::VerdictOf { map: a.text(1)?, from: register(a, 2)? });
    }
    Some(Expr::Lookup {
        set: a.text(1)?,
        from: register(a, 2)?,
        to: register(a, 3),
        inverted: a.number_be(5).unwrap_or_default() & n::LOOKUP_INVERTED != 0,
    })
}

fn immediate(a: Content<'_>) -> Option<Expr> {
    if a.number_be(1)? != n::REGISTER_VERDICT {
        return Some(Expr::Constant { value: data(a, 2)?, to: register(a, 1)? });
    }
    let verdict = a.nested(2)?.nested(2)?;
    match verdict.number_be(1)? {
        n::DROP => Some(Expr::Drop),
        n::ACCEPT => Some(Expr::Accept),
        n::JUMP => Some(Expr::Jump { chain: verdict.text(2)? }),
        n::GOTO => Some(Expr::Goto { chain: verdict.text(2)? }),
        n::RETURN => Some(Expr::Return),
        _ => None,
    }
}

/// The kernel fills in the ends of both ranges, equal to their starts.
fn nat(a: Content<'_>) -> Option<Expr> {
    let (address, port) = (register(a, 3)?, register(a, 5)?);
    let single = register(a, 4).is_none_or(|end| end == address) && register(a, 6).is_none_or(|end| end == port);
    single.then_some(Expr::Nat {
        kind: value_of(&n::NATS, &a.number_be(1)?)?,
        family: value_of(&n::FAMILIES, &a.number_be(2)?)?,
        address,
        port,
    })
}

fn data(a: Content<'_>, kind: u16) -> Option<Vec<u8>> {
    bytes(a, kind).map(<[u8]>::to_vec)
}

fn bytes(a: Content<'_>, kind: u16) -> Option<&[u8]> {
    a.nested(kind)?.get(1).map(|data| data.value)
}

/// The kernel names a register that starts at a border of 16 bytes by its old number, 1 to 4.
fn register(a: Content<'_>, kind: u16) -> Option<Register> {
    let number = a.number_be(kind)?;
    let index = if number < n::REGISTER_0 { number.checked_sub(1)? * 4 } else { number - n::REGISTER_0 };
    u8::try_from(index).ok().map(Register)
}
