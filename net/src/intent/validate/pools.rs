//! What is asked of pools.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Check, Located};
use crate::family::host_net;
use crate::intent::{
    BlockPool, DEFAULT_GRACE, DraftIpam, DraftPool, Finding, Ipam, MOST_POOLS, MOST_RESERVED, Problem, Selector,
    is_dns_label, is_label_key, is_label_value, parse, reserved, seconds,
};

impl Check {
    pub(super) fn pools(&mut self, ipam: &DraftIpam) -> (Vec<Located>, Ipam) {
        self.nothing_of_node_cidrs(ipam);
        if ipam.pools.is_empty() {
            self.0.push(Finding::absent("spec.ipam.pools", Problem::NoPools));
        }
        self.at_most(MOST_POOLS, "spec.ipam.pools", ipam.pools.len());
        let mut names = BTreeSet::new();
        let mut located = Vec::with_capacity(ipam.pools.len());
        let mut pools = Vec::with_capacity(ipam.pools.len());
        for (index, draft) in ipam.pools.iter().enumerate() {
            let field = format!("spec.ipam.pools[{index}]");
            self.name(&field, &draft.name, &mut names);
            self.selector(&format!("{field}.nodeSelector"), &draft.selector);
            if let Some(net) = self.pool_cidr(&field, draft) {
                pools.extend(self.pool(&field, draft, net));
                located.push(Located { field: format!("{field}.cidr"), net });
            }
        }
        let grace = self.grace(ipam.block_grace_period.as_deref());
        (located, Ipam::Pools { pools, grace })
    }

    fn nothing_of_node_cidrs(&mut self, ipam: &DraftIpam) {
        let fields = [
            ("spec.ipam.allocation", ipam.allocation.is_some()),
            ("spec.ipam.podCIDRs", !ipam.pod_cidrs.is_empty()),
            ("spec.ipam.nodeMaskSize", ipam.node_mask_size.iter().any(|(_, mask)| mask.is_some())),
        ];
        let given = fields.into_iter().filter(|(_, given)| *given);
        self.0.extend(given.map(|(field, _)| Finding::absent(field, Problem::OnlyNodeCidr)));
    }

    pub(super) fn at_most(&mut self, most: usize, field: &str, count: usize) {
        if count > most {
            self.0.push(Finding::new(field, count, Problem::TooMany { most }));
        }
    }

    pub(super) fn name<'a>(&mut self, field: &str, name: &'a str, names: &mut BTreeSet<&'a str>) {
        if !is_dns_label(name) {
            self.0.push(Finding::new(format!("{field}.name"), name, Problem::Name));
        }
        if !names.insert(name) {
            self.0.push(Finding::new(format!("{field}.name"), name, Problem::NameTwice));
        }
    }

    pub(super) fn selector(&mut self, field: &str, selector: &Selector) {
        for (key, value) in &selector.labels {
            if !is_label_key(key) || !is_label_value(value) {
                let label = format!("{key}={value}");
                self.0.push(Finding::new(format!("{field}.matchLabels"), label, Problem::Label));
            }
        }
        for (index, requirement) in selector.expressions.iter().enumerate() {
            let field = format!("{field}.matchExpressions[{index}]");
            if !is_label_key(&requirement.key) || !requirement.values.iter().all(|value| is_label_value(value)) {
                self.0.push(Finding::new(&field, &requirement.key, Problem::Label));
            }
            if !requirement.is_sound() {
                self.0.push(Finding::new(&field, &requirement.key, Problem::SelectorValues));
            }
        }
    }

    fn pool_cidr(&mut self, field: &str, draft: &DraftPool) -> Option<IpNet> {
        let field = format!("{field}.cidr");
        let net = match parse(&draft.cidr) {
            Ok(net) => net,
            Err(problem) => {
                self.0.push(Finding::new(field, &draft.cidr, problem));
                return None;
            }
        };
        if let Some(range) = reserved(&net) {
            self.0.push(Finding::new(field, net, Problem::Reserved { range }));
        }
        Some(net)
    }

    fn pool(&mut self, field: &str, draft: &DraftPool, cidr: IpNet) -> Option<BlockPool> {
        let list = format!("{field}.reserved");
        self.at_most(MOST_RESERVED, &list, draft.reserved.len());
        let mut reserved = Vec::with_capacity(draft.reserved.len());
        for (index, text) in draft.reserved.iter().enumerate() {
            let net = address_or_cidr(text).filter(|net| cidr.contains(net));
            if net.is_none() {
                self.0.push(Finding::new(format!("{list}[{index}]"), text, Problem::NotOfPool { pool: cidr }));
            }
            reserved.extend(net);
        }
        let range = self.cut(cidr, format!("{field}.blockSize"), draft.block_size)?;
        let (name, selector) = (draft.name.clone(), draft.selector.clone());
        Some(BlockPool { name, range, selector, reserved, disabled: draft.disabled })
    }

    fn grace(&mut self, written: Option<&str>) -> u32 {
        let Some(text) = written else { return DEFAULT_GRACE };
        seconds(text).unwrap_or_else(|| {
            self.0.push(Finding::new("spec.ipam.blockGracePeriod", text, Problem::Duration));
            DEFAULT_GRACE
        })
    }
}

/// An address counts as the CIDR that holds just it.
fn address_or_cidr(text: &str) -> Option<IpNet> {
    text.parse::<IpAddr>().map(host_net).ok().or_else(|| parse(text).ok())
}
