//! The step from [`Draft`] to [`Intent`].

mod exceptions;
mod pools;
mod transport;

use ipnet::IpNet;

use super::{
    Allocation, DEFAULT_NODE_MASK, Draft, DraftIpam, DraftMtu, Finding, Intent, Ipam, IpamMode, LONGEST_NODE_MASK,
    MOST_BLOCK_BITS, MTU_RANGE, Problem, Range, overlap, parse, reserved,
};
use crate::family::{Family, PerFamily};
use crate::state::{Masquerade, MasqueradeMode, Mtu};

/// A CIDR and the field that it came from.
struct Located {
    field: String,
    net: IpNet,
}

/// Reads a draft.
///
/// # Errors
///
/// Everything that is wrong with it, in the order of the fields.
pub fn validate(draft: &Draft) -> Result<Intent, Vec<Finding>> {
    let mut check = Check::default();
    let (pods, ipam) = match draft.ipam.mode {
        IpamMode::NodeCidr => check.node_cidrs(&draft.ipam),
        IpamMode::Pools => check.pools(&draft.ipam),
    };
    let services = check.usable("spec.serviceCIDRs", &draft.service_cidrs);
    let nodes = check.usable("spec.nodeCIDRs", &draft.node_cidrs);
    check.disjoint(&[&pods, &services, &nodes]);
    let tunnels = check.transport(draft);
    let address_rule = check.node_address(&draft.node_address, &pods, &services);
    let exceptions = check.exceptions(draft);
    let mtu = check.mtu("spec.mtu", &draft.mtu);
    let excluded = check.excluded(draft);
    if !check.0.is_empty() {
        return Err(check.0);
    }
    Ok(Intent {
        ipam,
        service_cidrs: nets(&services),
        node_cidrs: nets(&nodes),
        attachment: draft.attachment,
        transport: draft.transport.crossing,
        tunnels,
        address_rule,
        exceptions,
        mtu,
        masquerade: Masquerade { mode: draft.masquerade, excluded: nets(&excluded) },
        cni_conflict: draft.cni_conflict,
        policy: draft.policy,
    })
}

fn nets(list: &[Located]) -> Vec<IpNet> {
    list.iter().map(|l| l.net).collect()
}

/// Collects what is wrong.
#[derive(Default)]
struct Check(Vec<Finding>);

impl Check {
    fn cidrs(&mut self, field: &str, texts: &[String]) -> Vec<Located> {
        let mut good = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let field = format!("{field}[{index}]");
            match parse(text) {
                Ok(net) => good.push(Located { field, net }),
                Err(problem) => self.0.push(Finding::new(field, text, problem)),
            }
        }
        good
    }

    fn usable(&mut self, field: &str, texts: &[String]) -> Vec<Located> {
        let list = self.cidrs(field, texts);
        for Located { field, net } in &list {
            if let Some(range) = reserved(net) {
                self.0.push(Finding::new(field, net, Problem::Reserved { range }));
            }
        }
        list
    }

    fn one_per_family(&mut self, list: &[Located]) {
        let mut first = PerFamily::<Option<IpNet>>::default();
        for Located { field, net } in list {
            let family = Family::of_net(net);
            match first.get_mut(family) {
                Some(first) => {
                    let problem = Problem::SecondOfFamily { family, first: first.to_string() };
                    self.0.push(Finding::new(field, net, problem));
                }
                none => *none = Some(*net),
            }
        }
    }

    /// Of each two that overlap, names the later.
    fn disjoint(&mut self, lists: &[&[Located]]) {
        let all: Vec<&Located> = lists.iter().flat_map(|list| list.iter()).collect();
        for (index, later) in all.iter().enumerate() {
            for earlier in &all[..index] {
                if overlap(&later.net, &earlier.net) {
                    let problem = Problem::Overlap { other: earlier.net.to_string(), of: earlier.field.clone() };
                    self.0.push(Finding::new(&later.field, later.net, problem));
                }
            }
        }
    }

    fn node_cidrs(&mut self, ipam: &DraftIpam) -> (Vec<Located>, Ipam) {
        let pods = self.usable("spec.ipam.podCIDRs", &ipam.pod_cidrs);
        self.one_per_family(&pods);
        if !ipam.pools.is_empty() {
            self.0.push(Finding::absent("spec.ipam.pools", Problem::OnlyPools));
        }
        if let Some(period) = &ipam.block_grace_period {
            self.0.push(Finding::new("spec.ipam.blockGracePeriod", period, Problem::OnlyPools));
        }
        if ipam.allocation.is_none() {
            self.0.push(Finding::absent("spec.ipam.allocation", Problem::AllocationMissing));
        }
        if ipam.allocation != Some(Allocation::Allocate) {
            self.masks_have_effect(ipam, |_| false);
            let within = nets(&pods);
            return (pods, Ipam::Adopt { within });
        }
        if ipam.pod_cidrs.is_empty() {
            self.0.push(Finding::absent("spec.ipam.podCIDRs", Problem::NothingToAllocateFrom));
        }
        self.masks_have_effect(ipam, |family| pods.iter().any(|p| Family::of_net(&p.net) == family));
        let pools = pods.iter().filter_map(|pod| self.node_range(ipam, pod)).collect();
        (pods, Ipam::Allocate { pools })
    }

    fn masks_have_effect(&mut self, ipam: &DraftIpam, effective: impl Fn(Family) -> bool) {
        for (family, mask) in ipam.node_mask_size.iter() {
            if let Some(mask) = mask
                && !effective(family)
            {
                self.0.push(Finding::new(mask_field(family), mask, Problem::MaskWithoutRange));
            }
        }
    }

    fn node_range(&mut self, ipam: &DraftIpam, pod: &Located) -> Option<Range> {
        let family = Family::of_net(&pod.net);
        let mask = ipam.node_mask_size.get(family).unwrap_or_else(|| i64::from(*DEFAULT_NODE_MASK.get(family)));
        self.cut(pod.net, mask_field(family), mask)
    }

    /// A range cut by a prefix length that fits it.
    fn cut(&mut self, cidr: IpNet, field: impl Into<String>, mask: i64) -> Option<Range> {
        let least = cidr.prefix_len();
        let most = least.saturating_add(MOST_BLOCK_BITS).min(*LONGEST_NODE_MASK.get(Family::of_net(&cidr)));
        let fits = u8::try_from(mask).ok().filter(|mask| (least..=most).contains(mask));
        if fits.is_none() {
            self.0.push(Finding::new(field, mask, Problem::MaskDoesNotFit { range: cidr, least, most }));
        }
        fits.map(|node_mask| Range { cidr, node_mask })
    }

    fn excluded(&mut self, draft: &Draft) -> Vec<Located> {
        let field = "spec.masquerade.excludedCIDRs";
        if draft.masquerade == MasqueradeMode::Off && !draft.excluded_cidrs.is_empty() {
            self.0.push(Finding::new(field, draft.excluded_cidrs.join(","), Problem::ExcludedWithoutEffect));
        }
        self.cidrs(field, &draft.excluded_cidrs)
    }

    fn mtu(&mut self, field: &str, draft: &DraftMtu) -> Mtu {
        let written = match draft {
            DraftMtu::Word(word) if word == "Auto" => return Mtu::Auto,
            DraftMtu::Word(word) => word.clone(),
            DraftMtu::Bytes(bytes) => match u32::try_from(*bytes) {
                Ok(good) if MTU_RANGE.contains(bytes) => return Mtu::Bytes(good),
                _ => bytes.to_string(),
            },
        };
        self.0.push(Finding::new(field, written, Problem::Mtu));
        Mtu::Auto
    }
}

const fn mask_field(family: Family) -> &'static str {
    match family {
        Family::V4 => "spec.ipam.nodeMaskSize.ipv4",
        Family::V6 => "spec.ipam.nodeMaskSize.ipv6",
    }
}
