//! Profiles.

use towpath_net::policy::bundle::{Allow, Direction, Isolation, Ordered, Peers, Ports, Profile, SetId};
use towpath_net::policy::input::Action;

use super::scalar::{read_all, read_key, read_name, read_port, read_protocol, write_key};
use super::schema as wire;
use crate::malformed::{Fault, Malformed, Within, needed};

/// Of the schema: these numbers never change.
const ANY: u32 = 1;
const ALL: u32 = 2;
const RANGE: u32 = 3;
const OF_PEER: u32 = 4;

pub fn write(profile: &Profile) -> wire::Profile {
    wire::Profile { ingress: Some(write_direction(&profile.ingress)), egress: Some(write_direction(&profile.egress)) }
}

pub fn read(profile: wire::Profile) -> Result<Profile, Malformed> {
    Ok(Profile {
        ingress: read_direction(needed(profile.ingress, "ingress")?).within("ingress")?,
        egress: read_direction(needed(profile.egress, "egress")?).within("egress")?,
    })
}

fn write_direction(direction: &Direction) -> wire::Direction {
    wire::Direction {
        admin: direction.admin.iter().map(write_ordered).collect(),
        isolated: direction.isolated.as_ref().map(write_isolation),
        baseline: direction.baseline.iter().map(write_ordered).collect(),
    }
}

fn read_direction(direction: wire::Direction) -> Result<Direction, Malformed> {
    Ok(Direction {
        admin: read_all(direction.admin, "admin", read_ordered)?,
        isolated: direction.isolated.map(read_isolation).transpose().within("isolated")?,
        baseline: read_all(direction.baseline, "baseline", read_ordered)?,
    })
}

fn write_isolation(isolation: &Isolation) -> wire::Isolation {
    wire::Isolation {
        policies: isolation.policies.iter().map(write_key).collect(),
        allows: isolation.allows.iter().map(write_allow).collect(),
    }
}

fn read_isolation(isolation: wire::Isolation) -> Result<Isolation, Malformed> {
    Ok(Isolation {
        policies: read_all(isolation.policies, "policies", read_key)?,
        allows: read_all(isolation.allows, "allows", read_allow)?,
    })
}

fn write_allow(allow: &Allow) -> wire::Allow {
    wire::Allow { ports: Some(write_ports(allow.ports)), peers: Some(write_side(&allow.peers)) }
}

fn read_allow(allow: wire::Allow) -> Result<Allow, Malformed> {
    let ports = read_ports(needed(allow.ports, "ports")?).within("ports")?;
    Ok(Allow { ports, peers: read_side(needed(allow.peers, "peers")?)? })
}

fn write_ordered(ordered: &Ordered) -> wire::Ordered {
    let action = match ordered.action {
        Action::Accept => 1,
        Action::Deny => 2,
        Action::Pass => 3,
    };
    wire::Ordered {
        policy: ordered.policy.clone(),
        action,
        ports: ordered.ports.iter().copied().map(write_ports).collect(),
        peers: Some(write_side(&ordered.peers)),
    }
}

fn read_ordered(ordered: wire::Ordered) -> Result<Ordered, Malformed> {
    let action = match ordered.action {
        1 => Action::Accept,
        2 => Action::Deny,
        3 => Action::Pass,
        other => return Err(Malformed::new("action", Fault::Number(u64::from(other)))),
    };
    Ok(Ordered {
        policy: read_name(ordered.policy, "policy")?,
        action,
        ports: read_all(ordered.ports, "ports", read_ports)?,
        peers: read_side(needed(ordered.peers, "peers")?)?,
    })
}

fn write_ports(ports: Ports) -> wire::Ports {
    let none = wire::Ports { kind: ANY, protocol: 0, first: 0, last: 0 };
    match ports {
        Ports::Any => none,
        Ports::All(protocol) => wire::Ports { kind: ALL, protocol: u32::from(protocol.number()), ..none },
        Ports::Range(protocol, first, last) => wire::Ports {
            kind: RANGE,
            protocol: u32::from(protocol.number()),
            first: u32::from(first),
            last: u32::from(last),
        },
        Ports::OfPeer => wire::Ports { kind: OF_PEER, ..none },
    }
}

fn read_ports(ports: wire::Ports) -> Result<Ports, Malformed> {
    match ports.kind {
        ANY => Ok(Ports::Any),
        ALL => Ok(Ports::All(read_protocol(ports.protocol)?)),
        RANGE => {
            let (first, last) = (read_port(ports.first, "first")?, read_port(ports.last, "last")?);
            if first > last {
                return Err(Malformed::new("last", Fault::Order));
            }
            Ok(Ports::Range(read_protocol(ports.protocol)?, first, last))
        }
        OF_PEER => Ok(Ports::OfPeer),
        other => Err(Malformed::new("kind", Fault::Number(u64::from(other)))),
    }
}

fn write_side(peers: &Peers) -> wire::Side {
    match peers {
        Peers::Anyone => wire::Side { is_anyone: true, sets: Vec::new() },
        Peers::In(sets) => wire::Side { is_anyone: false, sets: sets.iter().map(|set| set.0).collect() },
    }
}

fn read_side(side: wire::Side) -> Result<Peers, Malformed> {
    match (side.is_anyone, side.sets) {
        (true, sets) if !sets.is_empty() => Err(Malformed::new("peers", Fault::Contradiction)),
        (true, _) => Ok(Peers::Anyone),
        (false, sets) => Ok(Peers::In(sets.into_iter().map(SetId).collect())),
    }
}
