//! Everything that the API server refuses by looking at one object alone, as CEL.
//!
//! Each message names what is wrong and what to do; the API server puts the field's path and value before it.
//! `net::intent` judges the same, and more; the same words would be used there, for objects that came another way.

mod transport;

use kube::core::{Message, Rule};

pub use transport::{
    address_mode_has_its_field, address_mode_has_no_other_field, addresses_or_a_rule,
    apart_from_pools as found_apart_from_pools, bypass_has_a_tunnel, exception_excepts, exceptions_encrypt, mode_stays,
    one_address_per_family, one_address_rule, option_stays, options_have_effect, places_apart, ports_differ,
    reached_outside, rotation,
};

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

/// CEL for "this item is an address of that family".
fn is_ip_family(item: &str, family: u8) -> String {
    format!("(isIP({item}) && ip({item}).family() == {family})")
}

fn rule(cel: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule::new(cel).message(Message::Expression(message.into()))
}

/// A rule about a list: `bad` is CEL over the item `c`, `says` CEL for what is said of the first bad one.
///
/// The API server bounds what a message may cost; it knows the size of one item, but not of a list made of some.
fn each(list: &str, bad: &str, says: &str) -> Rule {
    let first = format!("{list}.filter(c, {bad})[0]");
    rule(format!("{list}.all(c, !{bad})"), format!("[{first}].map(c, {says})[0]"))
}

/// The only `ClusterNetwork` is named `default`.
pub fn singleton() -> Rule {
    rule(
        "self.metadata.name == 'default'",
        "\"metadata.name '\" + self.metadata.name + \"': a cluster has one ClusterNetwork, named default; rename it\"",
    )
}

/// What every text of a list of CIDRs must be; `usable` where addresses of it are used and not only compared.
pub fn of_cidr(usable: bool) -> Vec<Rule> {
    let mut rules = vec![cidr(), canonical()];
    if usable {
        rules.push(unreserved());
    }
    rules
}

fn cidr() -> Rule {
    rule(
        "isCIDR(self)",
        "\"'\" + self + \"' is not a CIDR; write an address and a prefix length, as in 10.244.0.0/16 or fd00:10:244::/56\"",
    )
}

fn canonical() -> Rule {
    rule(
        "!isCIDR(self) || cidr(self) == cidr(self).masked()",
        "\"'%s' has bits set beyond its prefix length; write %s\".format([self, string(cidr(self).masked())])",
    )
}

fn unreserved() -> Rule {
    let touches = overlap("r", "self");
    rule(
        format!("!{RESERVED}.exists(r, {touches})"),
        format!(
            "\"'\" + self + \"' touches \" + {RESERVED}.filter(r, {touches})[0] + \", whose addresses no pod, Service or \
             node can have; choose a private range, as in 10.244.0.0/16 or fd00:10:244::/56\""
        ),
    )
}

/// A text of a list of addresses is an address.
pub fn of_address() -> Vec<Rule> {
    vec![rule("isIP(self)", "\"'\" + self + \"' is not an IP address; write one as in 172.16.30.3 or fd00::3\"")]
}

/// A text of a list of addresses is an address that something can be sent to.
pub fn of_usable_address() -> Vec<Rule> {
    let inside = "(isIP(self) && cidr(r).containsIP(ip(self)))";
    let touches = rule(
        format!("!{RESERVED}.exists(r, {inside})"),
        format!(
            "\"'\" + self + \"' lies in \" + {RESERVED}.filter(r, {inside})[0] + \", where nothing outside of a node is; \
             write an address as in 192.0.2.1 or 2001:db8::1\""
        ),
    );
    of_address().into_iter().chain([touches]).collect()
}

/// A text of a list is an address or a CIDR.
pub fn of_address_or_cidr() -> Vec<Rule> {
    vec![
        rule(
            "isIP(self) || isCIDR(self)",
            "\"'\" + self + \"' is neither an address nor a CIDR; write one as in 10.244.0.9, 10.244.0.16/28 or fd00:10:244::9\"",
        ),
        canonical(),
    ]
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
    each("self", &bad, "\"'\" + c + \"' overlaps another range of the list; choose ranges that share no address\"")
}

/// No item of one list of the spec shares an address with an item of another.
fn apart(one: &str, other: &str) -> Rule {
    let (ours, theirs) = (format!("self.{one}"), format!("self.{other}"));
    let bad = format!("{theirs}.exists(b, {})", overlap("c", "b"));
    let met = format!("{theirs}.filter(b, {})[0]", overlap("c", "b"));
    let says = format!(
        "\"spec.{one} '\" + c + \"' overlaps spec.{other} '\" + {met} + \"'; choose ranges that share no address\""
    );
    let mut rule = each(&ours, &bad, &says);
    rule.rule = format!("!has({ours}) || !has({theirs}) || {}", rule.rule);
    rule
}

/// Services have no address that a pod could have.
pub fn services_apart_from_pods() -> Rule {
    apart("serviceCIDRs", "ipam.podCIDRs")
}

/// Nodes have no address that a pod could have.
pub fn nodes_apart_from_pods() -> Rule {
    apart("nodeCIDRs", "ipam.podCIDRs")
}

/// Nodes have no address that a Service could have.
pub fn nodes_apart_from_services() -> Rule {
    apart("nodeCIDRs", "serviceCIDRs")
}

/// No item of a list of the spec shares an address with a pool.
pub fn apart_from_pools(list: &str) -> Rule {
    let ours = format!("self.{list}");
    let pools = "self.ipam.pools";
    let bad = format!("{pools}.exists(p, {})", overlap("p.cidr", "c"));
    let says = format!(
        "\"spec.{list} '\" + c + \"' overlaps a range of spec.ipam.pools; choose ranges that share no address\""
    );
    let mut rule = each(&ours, &bad, &says);
    rule.rule = format!("!has({ours}) || !has({pools}) || {}", rule.rule);
    rule
}

/// Each mode has what it cannot do without.
pub fn mode_has_its_fields() -> Rule {
    rule(
        "self.mode == 'Pools' ? has(self.pools) : has(self.allocation)",
        "self.mode == 'Pools' ? \"pools is missing: with mode Pools there are no addresses without one; give at least \
         one, as in {name: main, cidr: 10.244.0.0/16, blockSize: 26}\" : \"allocation is missing: with mode NodeCIDR \
         somebody has to decide about the nodes' CIDRs; write Adopt or Allocate\"",
    )
}

/// No mode has what only means something in the other.
pub fn mode_has_only_its_fields() -> Rule {
    let none = |fields: &[&str]| fields.iter().map(|f| format!("!has(self.{f})")).collect::<Vec<_>>().join(" && ");
    let shown = |fields: &[&str]| {
        fields.iter().map(|f| format!("(has(self.{f}) ? ' {f}' : '')")).collect::<Vec<_>>().join(" + ")
    };
    let (of_node_cidr, of_pools) = (["allocation", "podCIDRs", "nodeMaskSize"], ["pools", "blockGracePeriod"]);
    rule(
        format!("self.mode == 'Pools' ? {} : {}", none(&of_node_cidr), none(&of_pools)),
        format!(
            "self.mode == 'Pools' ? \"with mode Pools there is no\" + {} + \"; remove it, and say with pools what there \
             is\" : \"with mode NodeCIDR there is no\" + {} + \"; remove it, and say with allocation and podCIDRs what \
             there is\"",
            shown(&of_node_cidr),
            shown(&of_pools)
        ),
    )
}

/// No two pools share an address.
pub fn pools_disjoint() -> Rule {
    let bad = format!("self.exists(d, d.name != c.name && {})", overlap("c.cidr", "d.cidr"));
    Rule::new(format!("self.all(c, !{bad})"))
        .message("the ranges of two pools share addresses; choose ranges that share no address")
}

/// The blocks of a pool fit its range.
pub fn block_fits() -> Rule {
    let length = "cidr(self.cidr).prefixLength()";
    let longest = "(cidr(self.cidr).ip().family() == 4 ? 30 : 126)";
    let size = "self.blockSize";
    rule(
        format!("!isCIDR(self.cidr) || ({size} >= {length} && {size} <= {length} + 16 && {size} <= {longest})"),
        format!(
            "\"blockSize \" + string(dyn({size})) + \" of the pool '\" + self.name + \"' does not fit its range '\" + \
             self.cidr + \"': choose one from \" + string(dyn({length})) + \" to \" + string(dyn({length} + 16)) + \
             \", at most \" + string(dyn({longest}))"
        ),
    )
}

/// What is reserved in a pool is of the pool.
pub fn reserved_of_pool() -> Rule {
    let bad = "(isCIDR(self.cidr) && (isIP(c) ? !cidr(self.cidr).containsIP(ip(c)) : \
               isCIDR(c) && !cidr(self.cidr).containsCIDR(cidr(c))))";
    let says = "\"reserved '\" + c + \"' is not of the pool '\" + self.name + \"' with '\" + self.cidr + \"'; take it out, or \
                write an address or CIDR of the pool\"";
    let mut rule = each("self.reserved", bad, says);
    rule.rule = format!("!has(self.reserved) || {}", rule.rule);
    rule
}

/// A pool is what it is, as long as it has its name.
pub fn pool_stays() -> Rule {
    let shown = |of: &str| format!("{of}.cidr + \" in blocks of /\" + string(dyn({of}.blockSize))");
    rule(
        "self.cidr == oldSelf.cidr && self.blockSize == oldSelf.blockSize",
        format!(
            "\"the pool '\" + self.name + \"' cannot be changed from \" + {} + \" to \" + {} + \": nodes have blocks of it; \
             add a pool of another name, and disable or remove this one: its blocks drain\"",
            shown("oldSelf"),
            shown("self")
        ),
    )
}

/// A condition on a label has as many values as its operator can make use of.
pub fn operator_has_its_values() -> Rule {
    rule(
        "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
        "self.operator + (self.operator in ['In', 'NotIn'] ? \" needs values; give at least one\" : \" takes no values; \
         remove them\")",
    )
}

/// A time from a second to a week.
pub fn period() -> Rule {
    time("1s", "168h", "10m, 90s or 1h30m")
}

fn time(least: &str, most: &str, example: &str) -> Rule {
    let good = "self.matches('^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$')";
    rule(
        format!("{good} && duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"),
        format!("\"'\" + self + \"' is not a time from {least} to {most}; write one as in {example}\""),
    )
}

/// Destinations are only excluded from a masquerading that happens.
pub fn excluded_has_effect() -> Rule {
    Rule::new("self.mode != 'Off' || !has(self.excludedCIDRs) || size(self.excludedCIDRs) == 0").message(
        "excludedCIDRs has no effect: nothing is masqueraded with mode Off; remove it, or set mode to LeavingCluster",
    )
}

/// The operator has something to allocate from.
pub fn pools_to_allocate_from() -> Rule {
    Rule::new(
        "!has(self.allocation) || self.allocation != 'Allocate' || (has(self.podCIDRs) && size(self.podCIDRs) > 0)",
    )
    .message(
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
    let says = format!(
        "\"{field} \" + string(dyn({mask})) + \" does not fit the range '\" + c + \"': choose a mask from \" + \
         string(dyn({length})) + \" to \" + string(dyn({length} + 16)) + \", at most {longest}\""
    );
    let mut rule = each("self.podCIDRs", &bad, &says);
    rule.rule =
        format!("!has(self.allocation) || self.allocation != 'Allocate' || !has(self.podCIDRs) || {}", rule.rule);
    rule
}

/// A node mask is only given where it has an effect.
pub fn mask_has_effect(family: u8) -> Rule {
    let field = format!("nodeMaskSize.ipv{family}");
    rule(
        format!(
            "!has(self.nodeMaskSize) || !has(self.{field}) || (has(self.allocation) && self.allocation == 'Allocate' && \
             has(self.podCIDRs) && self.podCIDRs.exists(c, !isCIDR(c) || {}))",
            is_family("c", family)
        ),
        format!(
            "\"{field} \" + string(dyn(self.{field})) + \" has no effect; remove it: \
             it only cuts an IPv{family} range of podCIDRs with allocation Allocate\""
        ),
    )
}

/// What nodes were given stays what it is: all of it with mode `NodeCIDR`, with mode `Pools` what [`pool_stays`] says.
pub fn ipam_stays() -> Rule {
    let shown = |of: &str| {
        format!(
            "{of}.mode + (has({of}.allocation) ? \" \" + {of}.allocation + \" [\" + (has({of}.podCIDRs) ? \
             {of}.podCIDRs.join(', ') : '') + \"]\" : '')"
        )
    };
    rule(
        "self.mode == oldSelf.mode && (self.mode == 'Pools' || self == oldSelf)",
        format!(
            "\"cannot be changed from \" + {} + \" to \" + {} + \" while nodes use it: put it back, or delete this \
             ClusterNetwork (the running network stays), apply the new one, and node by node delete the NodeNetwork and \
             restart the node's pods\"",
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

/// A `NodeNetwork` loses only CIDRs that nobody uses: it was told to drain them, and its agent reported that it did.
pub fn drained_before_taken() -> Rule {
    let lists = |list: &str, parents: &[&str]| {
        let there = parents.iter().chain([&list]).map(|path| format!("has(oldSelf.{path}) && "));
        format!("{}c in oldSelf.{list}", there.collect::<Vec<_>>().concat())
    };
    let draining = lists("spec.addressing.draining", &["spec.addressing"]);
    let drained = lists("status.drained", &["status"]);
    let bad = format!("(!(c in self.spec.podCIDRs) && !({draining} && {drained}))");
    each(
        "oldSelf.spec.podCIDRs",
        &bad,
        "\"spec.podCIDRs '\" + c + \"' cannot be taken out: pods may have addresses of it until it is in \
         spec.addressing.draining and in status.drained; put it back, or delete the NodeNetwork to have the operator \
         allocate anew\"",
    )
}

/// Only what a node has can drain.
pub fn draining_is_held() -> Rule {
    let list = "self.addressing.draining";
    let mut rule =
        each(list, "(!(c in self.podCIDRs))", "\"addressing.draining '\" + c + \"' is none of podCIDRs; take it out\"");
    rule.rule = format!("!has(self.addressing) || !has({list}) || {}", rule.rule);
    rule
}
