//! What a user declares.

use std::collections::BTreeMap;

use towpath_net::PerFamily;
use towpath_net::intent::{
    AddressMode, Allocation, Crossing, Draft, DraftException, DraftIpam, DraftMtu, DraftNodeAddress, DraftPool, Intent,
    IpamMode, MOST_VNI, MTU_RANGE, Selector, overlap, parse, validate,
};
use towpath_net::state::{Attachment, CniConflict, MasqueradeMode, Mtu};
use towpath_net::transport::{Transport, Tunnels};

/// Lines of a field's letter and a value.
pub fn intent(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    text.lines().for_each(cidr);
    match validate(&draft(&text)) {
        Ok(intent) => {
            crosses(&intent);
            if let Mtu::Bytes(bytes) = intent.mtu {
                assert!(MTU_RANGE.contains(&bytes.into()));
            }
            let outside: Vec<_> = intent.service_cidrs.iter().chain(&intent.node_cidrs).collect();
            for (index, one) in outside.iter().enumerate() {
                assert!(!outside[..index].iter().any(|other| overlap(one, other)), "{outside:?}");
            }
        }
        Err(findings) => {
            assert!(!findings.is_empty());
            for finding in findings {
                let text = finding.to_string();
                assert!(text.contains("spec."), "{text}");
            }
        }
    }
}

/// What is taken for a CIDR is printed as itself.
fn cidr(line: &str) {
    let text = line.get(1..).unwrap_or_default();
    if let Ok(net) = parse(text) {
        assert_eq!(parse(&net.to_string()).ok(), Some(net));
        assert_eq!(net.network(), net.addr());
    }
}

fn draft(text: &str) -> Draft {
    let mut draft = Draft {
        ipam: DraftIpam::default(),
        service_cidrs: Vec::new(),
        node_cidrs: Vec::new(),
        attachment: Attachment::Routed,
        transport: Crossing::only(Transport::Direct).into(),
        node_address: DraftNodeAddress::default(),
        exceptions: Vec::new(),
        mtu: DraftMtu::Word("Auto".to_owned()),
        masquerade: MasqueradeMode::LeavingCluster,
        excluded_cidrs: Vec::new(),
        cni_conflict: CniConflict::Report,
        policy: towpath_net::policy::settings::PolicySettings::default(),
    };
    for line in text.lines().take(64) {
        let (Some(field), Some(value)) = (line.get(..1), line.get(1..)) else { continue };
        fill(&mut draft, field, value);
    }
    draft
}

fn fill(draft: &mut Draft, field: &str, value: &str) {
    let pool = draft.ipam.pools.last_mut();
    match field {
        "p" => draft.ipam.pod_cidrs.push(value.to_owned()),
        "s" => draft.service_cidrs.push(value.to_owned()),
        "n" => draft.node_cidrs.push(value.to_owned()),
        "x" => draft.excluded_cidrs.push(value.to_owned()),
        "a" => draft.ipam.allocation = Some(Allocation::Adopt),
        "A" => draft.ipam.allocation = Some(Allocation::Allocate),
        "P" => draft.ipam.mode = IpamMode::Pools,
        "4" => draft.ipam.node_mask_size = PerFamily { v4: value.parse().ok(), ..draft.ipam.node_mask_size },
        "6" => draft.ipam.node_mask_size = PerFamily { v6: value.parse().ok(), ..draft.ipam.node_mask_size },
        "g" => draft.ipam.block_grace_period = Some(value.to_owned()),
        "m" => draft.mtu = value.parse().map_or_else(|_| DraftMtu::Word(value.to_owned()), DraftMtu::Bytes),
        "+" => draft.ipam.pools.push(DraftPool { name: value.to_owned(), ..DraftPool::default() }),
        "c" => pool.into_iter().for_each(|pool| value.clone_into(&mut pool.cidr)),
        "b" => pool.into_iter().for_each(|pool| pool.block_size = value.parse().unwrap_or_default()),
        "r" => pool.into_iter().for_each(|pool| pool.reserved.push(value.to_owned())),
        "d" => pool.into_iter().for_each(|pool| pool.disabled = true),
        "l" => pool.into_iter().for_each(|pool| pool.selector = labelled(value)),
        _ => fill_crossing(draft, field, value),
    }
}

fn fill_crossing(draft: &mut Draft, field: &str, value: &str) {
    let exception = draft.exceptions.last_mut();
    let number = || value.parse().ok();
    match field {
        "t" => draft.transport.crossing.mode = mode(value),
        "T" => draft.transport.crossing.cross_subnet_only = true,
        "v" => draft.transport.vxlan.get_or_insert_default().vni = number(),
        "V" => draft.transport.vxlan.get_or_insert_default().port = number(),
        "G" => draft.transport.geneve.get_or_insert_default().port = number(),
        "w" => draft.transport.wire_guard.get_or_insert_default().port = number(),
        "k" => draft.transport.wire_guard.get_or_insert_default().key_rotation = Some(value.to_owned()),
        "e" => draft.exceptions.push(DraftException { name: value.to_owned(), ..DraftException::default() }),
        "E" => exception.into_iter().for_each(|own| own.transport = Some(Crossing::only(mode(value)))),
        "S" => exception.into_iter().for_each(|own| own.selector = labelled(value)),
        "u" => exception.into_iter().for_each(|own| own.mtu = value.parse().ok().map(DraftMtu::Bytes)),
        "N" => draft.node_address.mode = *pick(&AddressMode::ALL, value),
        "i" => draft.node_address.interfaces.push(value.to_owned()),
        "I" => draft.node_address.cidrs.push(value.to_owned()),
        "R" => draft.node_address.can_reach.push(value.to_owned()),
        _ => {}
    }
}

fn mode(value: &str) -> Transport {
    *pick(&Transport::ALL, value)
}

fn pick<'a, T>(all: &'a [T], value: &str) -> &'a T {
    &all[value.len() % all.len()]
}

/// What was accepted of tunnels, and how every node would send by them.
fn crosses(intent: &Intent) {
    let Tunnels { vxlan, geneve, wire_guard } = intent.tunnels;
    assert!((1..=MOST_VNI).contains(&vxlan.vni) && (1..=MOST_VNI).contains(&geneve.vni));
    assert!(vxlan.port > 0 && geneve.port > 0 && (1..u16::MAX).contains(&wire_guard.port));
    let is_clear = |crossing: Crossing| intent.transport.is_encrypted() && !crossing.is_encrypted();
    assert!(!intent.crossings().any(is_clear), "{intent:?}");
    assert!(intent.crossings().all(|crossing| crossing.mode.is_tunnel() || !crossing.cross_subnet_only));
}

fn labelled(value: &str) -> Selector {
    Selector { labels: BTreeMap::from([(value.to_owned(), value.to_owned())]), ..Selector::default() }
}
