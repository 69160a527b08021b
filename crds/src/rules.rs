//! Everything that the API server refuses by looking at one object alone, as CEL.
//!
//! Each message names what is wrong and what to do; the API server puts the field's path and value before it.
//! `net::intent` judges the same, and more; the same words would be used there, for objects that came another way.

use kube::core::{Message, Rule};

/// CEL for "these two CIDRs share an address"; false where one is no CIDR, which another rule says.
fn overlap(a: &str, b: &str) -> String {
    format!(
        "(isCIDR({a}) && isCIDR({b}) && \
         (cidr({a}).containsCIDR(cidr({b})) || cidr({b}).containsCIDR(cidr({a}))))"
    )
}

/// CEL for a list of the ranges without usable addresses (RFC 6890; RFC 4291, section 2.4).
const RESERVED: &str = "['0.0.0.0/8','127.0.0.0/8','169.254.0.0/16','224.0.0.0/3','::/8','fe80::/10','ff00::/8']";

/// CEL for "this item is a CIDR of that family".
fn is_family(item: &str, family: u8) -> String {
    format!("(isCIDR({item}) && cidr({item}).ip().family() == {family})")
}

fn rule(cel: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule::new(cel).message(Message::Expression(message.into()))
}

/// A rule about each item of a list: `bad` is CEL over `c`, `says` CEL for what is said of a bad `c`.
fn each(bad: &str, says: &str) -> Rule {
    rule(format!("self.all(c, !{bad})"), format!("self.filter(c, {bad}).map(c, {says}).join(', ')"))
}

/// The only `ClusterNetwork` is named `default`.
pub fn singleton() -> Rule {
    rule(
        "self.metadata.name == 'default'",
        "\"metadata.name '\" + self.metadata.name + \"': a cluster has one ClusterNetwork, named default; rename it\"",
    )
}

/// Every item is a CIDR.
pub fn cidrs() -> Rule {
    each(
        "(!isCIDR(c))",
        "\"'\" + c + \"' is not a CIDR; write an address and a prefix length, as in 10.244.0.0/16 or fd00:10:244::/56\"",
    )
}

/// No item has bits set beyond its prefix.
pub fn canonical() -> Rule {
    each(
        "(isCIDR(c) && cidr(c) != cidr(c).masked())",
        "\"'\" + c + \"' has bits set beyond its prefix length; write \" + string(cidr(c).masked())",
    )
}

/// No item touches a range that nobody can have an address of.
pub fn unreserved() -> Rule {
    let bad = format!("{RESERVED}.exists(r, {})", overlap("r", "c"));
    let touched = format!("{RESERVED}.filter(r, {})[0]", overlap("r", "c"));
    each(
        &bad,
        &format!(
            "\"'\" + c + \"' touches \" + {touched} + \", whose addresses no pod, Service or node can have; \
             choose a private range, as in 10.244.0.0/16 or fd00:10:244::/56\""
        ),
    )
}

/// At most one CIDR of each family.
pub fn one_per_family() -> Rule {
    let count = |family| format!("self.filter(c, {}).size() <= 1", is_family("c", family));
    rule(
        format!("{} && {}", count(4), count(6)),
        "\"'\" + self.join(\"', '\") + \"' holds two ranges of one family; leave one IPv4 and one IPv6 range\"",
    )
}

/// No two items share an address.
pub fn disjoint() -> Rule {
    let bad = format!("self.exists(d, d != c && {})", overlap("c", "d"));
    each(&bad, "\"'\" + c + \"' overlaps another range of the list; choose ranges that share no address\"")
}

/// No item of one list of the spec shares an address with an item of another.
///
/// `guard` is CEL for "both lists are there".
fn apart(guard: &str, one: &str, other: &str) -> Rule {
    let bad = format!("{other}.exists(b, {})", overlap("a", "b"));
    let (one_name, other_name) = (one.replace("self.", "spec."), other.replace("self.", "spec."));
    let met = format!("{other}.filter(b, {})[0]", overlap("a", "b"));
    rule(
        format!("!({guard}) || {one}.all(a, !{bad})"),
        format!(
            "{one}.filter(a, {bad}).map(a, \"{one_name} '\" + a + \"' overlaps {other_name} '\" + {met} + \
             \"'; choose ranges that share no address\").join(', ')"
        ),
    )
}

/// Services have no address that a pod could have.
pub fn services_apart_from_pods() -> Rule {
    apart("has(self.serviceCIDRs) && has(self.ipam.podCIDRs)", "self.serviceCIDRs", "self.ipam.podCIDRs")
}

/// Nodes have no address that a pod could have.
pub fn nodes_apart_from_pods() -> Rule {
    apart("has(self.nodeCIDRs) && has(self.ipam.podCIDRs)", "self.nodeCIDRs", "self.ipam.podCIDRs")
}

/// Nodes have no address that a Service could have.
pub fn nodes_apart_from_services() -> Rule {
    apart("has(self.nodeCIDRs) && has(self.serviceCIDRs)", "self.nodeCIDRs", "self.serviceCIDRs")
}

/// The operator has something to allocate from.
pub fn pools_to_allocate_from() -> Rule {
    Rule::new("self.allocation != 'Allocate' || (has(self.podCIDRs) && size(self.podCIDRs) > 0)").message(
        "podCIDRs is missing: with allocation Allocate the operator needs ranges to allocate from; \
         give at least one, or set allocation to Adopt",
    )
}

/// The node mask of a family fits the range of that family.
pub fn mask_fits(family: u8, default: u8, longest: u8) -> Rule {
    let field = format!("nodeMaskSize.ipv{family}");
    let mask = format!("(has(self.nodeMaskSize) && has(self.{field}) ? self.{field} : {default})");
    let length = "cidr(c).prefixLength()";
    let bad =
        format!("({} && ({mask} < {length} || {mask} > {length} + 16 || {mask} > {longest}))", is_family("c", family));
    rule(
        format!("self.allocation != 'Allocate' || !has(self.podCIDRs) || self.podCIDRs.all(c, !{bad})"),
        format!(
            "self.podCIDRs.filter(c, {bad}).map(c, \"{field} \" + string({mask}) + \" does not fit the range '\" + c \
             + \"': choose a mask from \" + string({length}) + \" to \" + string({length} + 16) + \", at most {longest}\"\
             ).join(', ')"
        ),
    )
}

/// A node mask is only given where it has an effect.
pub fn mask_has_effect(family: u8) -> Rule {
    let field = format!("nodeMaskSize.ipv{family}");
    rule(
        format!(
            "!has(self.nodeMaskSize) || !has(self.{field}) || (self.allocation == 'Allocate' && \
             has(self.podCIDRs) && self.podCIDRs.exists(c, !isCIDR(c) || {}))",
            is_family("c", family)
        ),
        format!(
            "\"{field} \" + string(self.{field}) + \" has no effect; remove it: \
             it only cuts an IPv{family} range of podCIDRs with allocation Allocate\""
        ),
    )
}

/// What nodes were given stays what it is.
pub fn ipam_stays() -> Rule {
    let shown =
        |of: &str| format!("{of}.allocation + \" [\" + (has({of}.podCIDRs) ? {of}.podCIDRs.join(', ') : '') + \"]\"");
    rule(
        "self == oldSelf",
        format!(
            "\"cannot be changed from \" + {} + \" to \" + {} + \" while nodes use it: moving pods to other ranges is \
             not supported yet; put it back, or delete this ClusterNetwork (the running network stays), apply the new \
             one, and node by node delete the NodeNetwork and restart the node's pods\"",
            shown("oldSelf"),
            shown("self")
        ),
    )
}

/// `Auto` or a number of bytes that an IPv6 link may have (RFC 8200, section 5).
pub fn mtu() -> Rule {
    rule(
        "type(self) == int ? (self >= 1280 && self <= 65535) : self == 'Auto'",
        "\"'\" + string(self) + \"' is neither Auto nor a number from 1280 to 65535; write one of them, without quotes\"",
    )
}

/// The pod CIDRs of a `NodeNetwork` stay what they are.
pub fn set_once() -> Rule {
    rule(
        "self == oldSelf",
        "\"cannot be changed from \" + oldSelf.join(', ') + \" to \" + self.join(', ') + \": pods have addresses of it; \
         delete the NodeNetwork to have the operator allocate anew\"",
    )
}

/// Every item is an address.
pub fn addresses() -> Rule {
    rule(
        "self.all(a, isIP(a))",
        "\"'\" + self.filter(a, !isIP(a)).join(\"', '\") + \"' is not an IP address; write one as in 172.16.30.3 or fd00::3\"",
    )
}
