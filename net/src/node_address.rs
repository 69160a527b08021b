//! Which of its addresses a node is reached by, where a rule says so instead of its Node.

use std::net::IpAddr;

use crate::family::{Family, PerFamily};
use crate::observed::{Subnet, Surroundings};
use crate::state::AddressRule;

/// The addresses that a rule finds among those of the node, at most one of each family, IPv4 first.
///
/// `sources` are the addresses that packets to those of [`AddressRule::CanReach`] would leave with. What was found
/// before stays where the rule could find it now: an address that comes beside it changes nothing.
pub fn find(rule: &AddressRule, around: &Surroundings, sources: &[IpAddr], before: &[IpAddr]) -> Vec<IpAddr> {
    let found = PerFamily::from_fn(|family| {
        let all = || around.subnets.iter().filter(move |subnet| Family::of_net(&subnet.address) == family);
        match rule {
            AddressRule::Interfaces(patterns) => patterns.iter().find_map(|pattern| {
                let link = all().find(|subnet| matches(pattern, &subnet.link))?.link.as_str();
                choose(all().filter(|subnet| subnet.link == link), before)
            }),
            AddressRule::Cidrs(cidrs) => cidrs
                .iter()
                .find_map(|cidr| choose(all().filter(|subnet| cidr.contains(&subnet.address.addr())), before)),
            AddressRule::CanReach(_) => {
                let here = |source: &&IpAddr| Family::of(**source) == family && around.holding(**source).is_some();
                sources.iter().find(here).copied()
            }
        }
    });
    found.iter().filter_map(|(_, address)| *address).collect()
}

/// One of several addresses that do as well: that of before, else the lowest that comes with a subnet; an address
/// without one may move on to another node any time.
fn choose<'a>(subnets: impl Iterator<Item = &'a Subnet>, before: &[IpAddr]) -> Option<IpAddr> {
    let rank = |subnet: &&Subnet| {
        let address = subnet.address;
        (!before.contains(&address.addr()), address.prefix_len() == address.max_prefix_len(), address.addr())
    };
    subnets.min_by_key(rank).map(|subnet| subnet.address.addr())
}

/// Whether a name is as a pattern says, in which `*` stands for any characters, or none.
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(start) else { return false };
    (0..=name.len()).filter(|at| name.is_char_boundary(*at)).any(|at| matches(rest, &name[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(list: &[(&str, &str)]) -> Surroundings {
        let subnet = |(link, address): &(&str, &str)| Subnet {
            link: (*link).to_owned(),
            address: address.parse().unwrap(),
            mtu: 1500,
        };
        Surroundings { subnets: list.iter().map(subnet).collect() }
    }

    fn found(rule: &AddressRule, around: &Surroundings, before: &[&str]) -> Vec<String> {
        let before: Vec<IpAddr> = before.iter().map(|address| address.parse().unwrap()).collect();
        find(rule, around, &[], &before).iter().map(ToString::to_string).collect()
    }

    fn interfaces(patterns: &[&str]) -> AddressRule {
        AddressRule::Interfaces(patterns.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_first_pattern_that_a_link_with_an_address_has_decides() {
        let node = around(&[
            ("docker0", "172.17.0.1/16"),
            ("eth0", "172.16.30.3/24"),
            ("eth0", "fd00:30::3/64"),
            ("eth1", "10.1.0.3/24"),
        ]);
        assert_eq!(found(&interfaces(&["bond*", "eth*"]), &node, &[]), ["172.16.30.3", "fd00:30::3"]);
        assert_eq!(found(&interfaces(&["eth1", "eth*"]), &node, &[]), ["10.1.0.3", "fd00:30::3"]);
        assert!(found(&interfaces(&["bond*"]), &node, &[]).is_empty());
    }

    #[test]
    fn an_address_that_comes_beside_the_one_of_before_changes_nothing() {
        let node = around(&[("eth0", "172.16.30.1/32"), ("eth0", "172.16.30.3/24"), ("eth0", "172.16.30.9/24")]);
        let rule = interfaces(&["eth0"]);
        assert_eq!(found(&rule, &node, &[]), ["172.16.30.3"]);
        assert_eq!(found(&rule, &node, &["172.16.30.9"]), ["172.16.30.9"]);
        assert_eq!(found(&rule, &node, &["172.16.30.8"]), ["172.16.30.3"]);
    }

    #[test]
    fn of_several_cidrs_the_first_with_an_address_of_the_node_decides() {
        let node = around(&[("eth0", "172.16.30.3/24"), ("eth1", "10.1.0.3/24"), ("eth1", "fd00:1::3/64")]);
        let rule = |cidrs: &[&str]| AddressRule::Cidrs(cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect());
        assert_eq!(found(&rule(&["10.0.0.0/8", "172.16.0.0/12", "fd00::/8"]), &node, &[]), ["10.1.0.3", "fd00:1::3"]);
        assert_eq!(found(&rule(&["192.168.0.0/16", "172.16.0.0/12"]), &node, &[]), ["172.16.30.3"]);
    }

    #[test]
    fn what_packets_would_leave_with_counts_only_where_a_link_of_the_node_has_it() {
        let node = around(&[("eth0", "172.16.30.3/24"), ("eth0", "fd00:30::3/64")]);
        let rule = AddressRule::CanReach(vec!["8.8.8.8".parse().unwrap()]);
        let sources = ["127.0.0.1", "fd00:30::3", "172.16.30.3"].map(|address| address.parse().unwrap());
        let found: Vec<String> = find(&rule, &node, &sources, &[]).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["172.16.30.3", "fd00:30::3"]);
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, is) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth*", "eth", true),
            ("en*s*", "enp0s31f6", true),
            ("en*s*", "enp0", false),
            ("*", "", true),
            ("*.100", "bond0.100", true),
        ] {
            assert_eq!(matches(pattern, name), is, "{pattern} {name}");
        }
    }
}
