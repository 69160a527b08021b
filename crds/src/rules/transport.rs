//! What is refused of transports, of how nodes' addresses are found, and of exceptions.

use kube::core::Rule;

use super::{each, is_ip_family, overlap, rule};

/// A way around tunnels needs a tunnel.
pub fn bypass_has_a_tunnel() -> Rule {
    Rule::new("!has(self.crossSubnetOnly) || !self.crossSubnetOnly || self.mode != 'Direct'")
        .message("crossSubnetOnly has no effect: mode Direct has no tunnel; remove it, or choose a tunnel as mode")
}

/// The mode of the cluster is what it is: a change of all nodes at once would lose packets.
pub fn mode_stays() -> Rule {
    rule(
        "self.mode == oldSelf.mode",
        "\"mode cannot be changed from \" + oldSelf.mode + \" to \" + self.mode + \" while nodes use it; to move node by \
         node, label nodes and give spec.exceptions an entry for them with transport.mode \" + self.mode + \"; when all \
         have moved, delete this ClusterNetwork (the running network stays) and apply the new one\"",
    )
}

/// A time from a minute to a year.
pub fn rotation() -> Rule {
    super::time("1m", "8760h", "24h or 720h")
}

/// CEL for "the cluster or an exception has this mode".
fn uses(of: &str, mode: &str) -> String {
    format!(
        "({of}.transport.mode == '{mode}' || (has({of}.exceptions) && \
         {of}.exceptions.exists(e, has(e.transport) && e.transport.mode == '{mode}')))"
    )
}

/// CEL for an option as it is in effect.
fn effective(of: &str, (field, option): (&str, &str), usual: u32) -> String {
    let options = format!("{of}.transport.{field}");
    format!("(has({options}) && has({options}.{option}) ? {options}.{option} : {usual})")
}

/// Options of a transport are given only where it is used.
pub fn options_have_effect(mode: &str, field: &str) -> Rule {
    rule(
        format!("!has(self.transport.{field}) || {}", uses("self", mode)),
        format!(
            "\"spec.transport.{field} has no effect: neither the cluster nor an exception has mode {mode}; remove it\""
        ),
    )
}

/// What both ends of a tunnel must agree on stays, while the tunnel is used.
pub fn option_stays(mode: &str, option: (&str, &str), usual: u32) -> Rule {
    let (now, before) = (effective("self", option, usual), effective("oldSelf", option, usual));
    let path = format!("spec.transport.{}.{}", option.0, option.1);
    rule(
        format!("!{} || !{} || {now} == {before}", uses("self", mode), uses("oldSelf", mode)),
        format!(
            "\"{path} cannot be changed from \" + string(dyn({before})) + \" to \" + string(dyn({now})) + \" while nodes \
             use mode {mode}: they would not understand each other meanwhile; put it back, or move all nodes to another \
             mode first, by spec.exceptions\""
        ),
    )
}

/// Two tunnels that are used have ports of their own; of the second, also the next port where `two`.
pub fn ports_differ(one: (&str, &str, u32), other: (&str, &str, u32), two: bool) -> Rule {
    let port = |(_, field, usual)| effective("self", (field, "port"), usual);
    let (a, b) = (port(one), port(other));
    let next = if two { format!(" && {a} != {b} + 1") } else { String::new() };
    let says = if two { " or its next one" } else { "" };
    rule(
        format!("!{} || !{} || ({a} != {b}{next})", uses("self", one.0), uses("self", other.0)),
        format!(
            "\"spec.transport.{}.port \" + string(dyn({a})) + \" is that of spec.transport.{}{says}; choose another\"",
            one.1, other.1
        ),
    )
}

/// What is encrypted in the cluster is so on every node.
pub fn exceptions_encrypt() -> Rule {
    let clear = "has(c.transport) && (c.transport.mode != 'WireGuard' || (has(c.transport.crossSubnetOnly) && \
                 c.transport.crossSubnetOnly && !(has(self.transport.crossSubnetOnly) && self.transport.crossSubnetOnly)))";
    Rule::new(format!(
        "self.transport.mode != 'WireGuard' || !has(self.exceptions) || !self.exceptions.exists(c, {clear})"
    ))
    .message(
        "the transport of an entry of spec.exceptions would let packets be seen in clear that the cluster's mode \
         WireGuard encrypts; remove it",
    )
}

/// An exception says what is other.
pub fn exception_excepts() -> Rule {
    rule(
        "has(self.attachment) || has(self.transport) || has(self.mtu)",
        "\"the exception '\" + self.name + \"' has neither attachment nor transport nor mtu; say what is other on these \
         nodes, or remove it\"",
    )
}

/// The field of each way to find addresses.
const ADDRESS_FIELDS: [(&str, &str); 3] = [("Interface", "interfaces"), ("CIDR", "cidrs"), ("CanReach", "canReach")];

/// A way to find addresses says where.
pub fn address_mode_has_its_field() -> Rule {
    let has = |(mode, field)| format!("(self.mode != '{mode}' || (has(self.{field}) && size(self.{field}) > 0))");
    let name = |(mode, field)| format!("(self.mode == '{mode}' ? '{field}' : '')");
    rule(
        ADDRESS_FIELDS.map(has).join(" && "),
        format!(
            "{} + \" is missing: mode \" + self.mode + \" needs it; give at least one entry, or choose another mode\"",
            ADDRESS_FIELDS.map(name).join(" + ")
        ),
    )
}

/// A way to find addresses has nothing of another.
pub fn address_mode_has_no_other_field() -> Rule {
    let none = |(mode, field)| format!("(self.mode == '{mode}' || !has(self.{field}))");
    let shown = |(mode, field)| format!("(self.mode != '{mode}' && has(self.{field}) ? ' {field}' : '')");
    rule(
        ADDRESS_FIELDS.map(none).join(" && "),
        format!(
            "\"with mode \" + self.mode + \" there is no\" + {} + \"; remove it, or choose its mode\"",
            ADDRESS_FIELDS.map(shown).join(" + ")
        ),
    )
}

/// At most one address of each family.
pub fn one_address_per_family() -> Rule {
    let count = |family| format!("self.filter(c, {}).size() <= 1", is_ip_family("c", family));
    rule(
        format!("{} && {}", count(4), count(6)),
        "\"'\" + self.join(\"', '\") + \"' holds two addresses of one family; leave one IPv4 and one IPv6 address\"",
    )
}

/// Nodes are not looked for among pods or Services.
pub fn places_apart(list: &str) -> Rule {
    among("cidrs", list, &overlap("c", "b"), "overlaps")
}

/// What nodes are to reach is no pod and no Service.
pub fn reached_outside(list: &str) -> Rule {
    among("canReach", list, "(isIP(c) && isCIDR(b) && cidr(b).containsIP(ip(c)))", "lies in")
}

fn among(field: &str, list: &str, bad: &str, does: &str) -> Rule {
    let (ours, theirs) = (format!("self.nodeAddress.{field}"), format!("self.{list}"));
    let is_bad = format!("{theirs}.exists(b, {bad})");
    let says = format!(
        "\"spec.nodeAddress.{field} '\" + c + \"' {does} a range of spec.{list}; choose what is not of the cluster's own \
         ranges\""
    );
    let mut rule = each(&ours, &is_bad, &says);
    rule.rule = format!("!has(self.nodeAddress) || !has({ours}) || !has({theirs}) || {}", rule.rule);
    rule
}

/// The same for pools.
pub fn apart_from_pools(field: &str) -> Rule {
    let bad = match field {
        "cidrs" => overlap("c", "p.cidr"),
        _ => "(isIP(c) && isCIDR(p.cidr) && cidr(p.cidr).containsIP(ip(c)))".to_owned(),
    };
    let (ours, pools) = (format!("self.nodeAddress.{field}"), "self.ipam.pools");
    let is_bad = format!("{pools}.exists(p, {bad})");
    let says = format!(
        "\"spec.nodeAddress.{field} '\" + c + \"' shares addresses with spec.ipam.pools; choose what is not of the \
         cluster's own ranges\""
    );
    let mut rule = each(&ours, &is_bad, &says);
    rule.rule = format!("!has(self.nodeAddress) || !has({ours}) || !has({pools}) || {}", rule.rule);
    rule
}

/// A node that finds its address itself may have none yet; others have one.
pub fn addresses_or_a_rule() -> Rule {
    Rule::new("size(self.addresses) > 0 || has(self.addressRule)")
        .message("addresses is empty: other nodes need one to reach this node; give one, or an addressRule")
}

/// A rule says one thing.
pub fn one_address_rule() -> Rule {
    let count = ADDRESS_FIELDS.map(|(_, field)| format!("(has(self.{field}) ? 1 : 0)")).join(" + ");
    Rule::new(format!("{count} == 1")).message("an addressRule has one of interfaces, cidrs and canReach; leave one")
}
