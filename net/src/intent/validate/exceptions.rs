//! What is asked of exceptions, and of how nodes' addresses are found.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Check, Draft, Finding, Located, Problem, nets};
use crate::family::{Family, PerFamily};
use crate::intent::exceptions::{
    AddressMode, DraftException, DraftNodeAddress, Exception, MOST_EXCEPTIONS, MOST_PLACES, holding,
    is_interface_pattern,
};
use crate::intent::transport::Crossing;
use crate::intent::{CrossingProblem, overlap, reserved};
use crate::state::AddressRule;

const ADDRESS: &str = "spec.nodeAddress";

impl Check {
    pub(super) fn exceptions(&mut self, draft: &Draft) -> Vec<Exception> {
        let list = "spec.exceptions";
        self.at_most(MOST_EXCEPTIONS, list, draft.exceptions.len());
        let mut names = BTreeSet::new();
        let mut good = Vec::with_capacity(draft.exceptions.len());
        for (index, written) in draft.exceptions.iter().enumerate() {
            let field = format!("{list}[{index}]");
            self.name(&field, &written.name, &mut names);
            self.selector(&format!("{field}.nodeSelector"), &written.selector);
            good.push(self.exception(&field, written, draft.transport.crossing));
        }
        good
    }

    fn exception(&mut self, field: &str, written: &DraftException, cluster: Crossing) -> Exception {
        if written.attachment.is_none() && written.transport.is_none() && written.mtu.is_none() {
            self.0.push(Finding::new(field, &written.name, CrossingProblem::ExceptsNothing));
        }
        if let Some(own) = written.transport {
            let field = format!("{field}.transport");
            self.crossing(&field, own);
            if cluster.mode == crate::transport::Transport::WireGuard && own.mode != cluster.mode {
                self.0.push(Finding::new(format!("{field}.mode"), own.mode, CrossingProblem::InClear));
            } else if cluster.is_encrypted() && own.cross_subnet_only {
                self.0.push(Finding::new(format!("{field}.crossSubnetOnly"), "true", CrossingProblem::InClear));
            }
        }
        Exception {
            name: written.name.clone(),
            selector: written.selector.clone(),
            attachment: written.attachment,
            transport: written.transport,
            mtu: written.mtu.as_ref().map(|mtu| self.mtu(&format!("{field}.mtu"), mtu)),
        }
    }

    /// How nodes' addresses are found; nothing where they come from the Nodes.
    pub(super) fn node_address(
        &mut self,
        draft: &DraftNodeAddress,
        pods: &[Located],
        services: &[Located],
    ) -> Option<AddressRule> {
        self.only_of_mode(draft);
        match draft.mode {
            AddressMode::InternalIp => None,
            AddressMode::Interface => Some(AddressRule::Interfaces(self.interfaces(&draft.interfaces))),
            AddressMode::Cidr => Some(AddressRule::Cidrs(self.places(&draft.cidrs, pods, services))),
            AddressMode::CanReach => Some(AddressRule::CanReach(self.can_reach(&draft.can_reach, pods, services))),
        }
    }

    fn only_of_mode(&mut self, draft: &DraftNodeAddress) {
        for mode in AddressMode::ALL {
            let Some(field) = mode.field() else { continue };
            let count = match mode {
                AddressMode::InternalIp => 0,
                AddressMode::Interface => draft.interfaces.len(),
                AddressMode::Cidr => draft.cidrs.len(),
                AddressMode::CanReach => draft.can_reach.len(),
            };
            let field = format!("{ADDRESS}.{field}");
            self.at_most(MOST_PLACES, &field, count);
            if mode == draft.mode && count == 0 {
                self.0.push(Finding::absent(field, CrossingProblem::AddressRuleMissing { mode }));
            } else if mode != draft.mode && count > 0 {
                let (of, mode) = (mode, draft.mode);
                self.0.push(Finding::absent(field, CrossingProblem::OtherAddressMode { of, mode }));
            }
        }
    }

    fn interfaces(&mut self, patterns: &[String]) -> Vec<String> {
        for (index, pattern) in patterns.iter().enumerate().filter(|(_, pattern)| !is_interface_pattern(pattern)) {
            self.0.push(Finding::new(
                format!("{ADDRESS}.interfaces[{index}]"),
                pattern,
                CrossingProblem::InterfacePattern,
            ));
        }
        patterns.to_vec()
    }

    /// Ranges of nodes' addresses: they may overlap each other, for the first one counts.
    fn places(&mut self, texts: &[String], pods: &[Located], services: &[Located]) -> Vec<IpNet> {
        let list = self.usable(&format!("{ADDRESS}.cidrs"), texts);
        for Located { field, net } in &list {
            if let Some(other) = pods.iter().chain(services).find(|other| overlap(&other.net, net)) {
                let problem = Problem::Overlap { other: other.net.to_string(), of: other.field.clone() };
                self.0.push(Finding::new(field, net, problem));
            }
        }
        nets(&list)
    }

    fn can_reach(&mut self, texts: &[String], pods: &[Located], services: &[Located]) -> Vec<IpAddr> {
        let inside = [nets(pods), nets(services)].concat();
        let mut first = PerFamily::<Option<IpAddr>>::default();
        let mut good = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let field = format!("{ADDRESS}.canReach[{index}]");
            let address = text.parse::<IpAddr>().ok().filter(|address| address.to_canonical() == *address);
            let Some(address) = address else {
                self.0.push(Finding::new(field, text, CrossingProblem::NotAddress));
                continue;
            };
            if let Some(range) = reserved(&address.into()) {
                self.0.push(Finding::new(&field, address, Problem::Reserved { range }));
            }
            if let Some(range) = holding(&inside, address) {
                self.0.push(Finding::new(&field, address, CrossingProblem::ReachedInside { range: *range }));
            }
            let family = Family::of(address);
            match first.get_mut(family) {
                Some(first) => {
                    let problem = CrossingProblem::SecondAddress { family, first: *first };
                    self.0.push(Finding::new(field, address, problem));
                }
                none => *none = Some(address),
            }
            good.push(address);
        }
        good
    }
}
