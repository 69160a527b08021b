//! Connections of pods, as the kernel follows them: looked at, and forgotten one by one.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use towpath_net::Family;
use towpath_net::policy::evaluate::Packet;
use towpath_net::policy::flows::{Suspects, concerns};
use towpath_net::policy::objects::Way;

use super::{
    BY_SOURCE, CT_DELETE, CT_GET, FILTER, FILTER_ORIG_FLAGS, FILTER_REPLY_FLAGS, HEADER, ID, IP_V4_SRC, IP_V6_SRC,
    PROTO_DST_PORT, PROTO_NUM, PROTO_SRC_PORT, TUPLE_IP, TUPLE_ORIG, TUPLE_PROTO, TUPLE_REPLY, destination,
    family_header, identity, source,
};
use crate::netlink::attributes::Attributes;
use crate::netlink::{Content, Error, Message, Operation, Protocol, Request, Socket};
use crate::route;

/// Of how many pods' ways the kernel picks out the connections. It goes through all of them each time: of more, all are
/// taken at once. By addresses of IPv6 it picks out those that are *not* asked for (`ctnetlink_filter_match_tuple`).
const fn few(family: Family) -> usize {
    match family {
        Family::V4 => 4,
        Family::V6 => 0,
    }
}

/// How many connections are told of together.
const PORTION: usize = 512;
/// The numbers of TCP, UDP and SCTP (IANA): the protocols whose ports policies know.
const WITH_PORTS: [u8; 3] = [TCP, 17, 132];
const TCP: u8 = 6;

/// A connection that the kernel follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The packet that it began with, as rules about pods saw it: its destination is the one that was chosen for it, its
    /// source the one that it had before another was written into it.
    pub packet: Packet,
    /// Its answers, where it is one of TCP: from where to where.
    pub answers: Option<(SocketAddr, SocketAddr)>,
    /// What names exactly this one.
    name: Box<[u8]>,
}

/// Looks at connections. Each look and each removal goes over its own sockets: others need not wait for it.
pub struct Tracker {
    socket: Socket,
    routes: Socket,
}

impl Tracker {
    /// Of the current network namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Protocol::Netfilter)?, routes: Socket::open(Protocol::Route)? })
    }

    /// Tells of each connection of the suspects that the node itself did not begin, some at a time; of some twice. What is
    /// not told of began behind the call.
    pub fn look(&mut self, suspects: &Suspects, mut tell: impl FnMut(Vec<Connection>)) -> Result<(), Error> {
        for family in Family::ALL {
            let ours: Vec<(IpAddr, Way)> =
                suspects.iter().filter(|(address, _)| Family::of(*address) == family).copied().collect();
            if ours.is_empty() {
                continue;
            }
            let node = Node::of(route::local_routes(&mut self.routes, family)?.iter().map(|route| route.destination));
            let requests = if ours.len() <= few(family) {
                ours.iter().map(|(address, way)| of_pod(*address, *way)).collect()
            } else {
                vec![family_header(family)]
            };
            for request in requests {
                self.look_once(
                    family,
                    request,
                    |connection| concerns(suspects, connection) && !node.has(connection.source),
                    &mut tell,
                )?;
            }
        }
        Ok(())
    }

    fn look_once(
        &mut self,
        family: Family,
        request: Attributes,
        is_wanted: impl Fn(&Packet) -> bool,
        tell: &mut impl FnMut(Vec<Connection>),
    ) -> Result<(), Error> {
        let request = Message { kind: CT_GET, body: request.into_bytes() };
        let mut some = Vec::new();
        let taken = self.socket.dump_once(&request, |message| {
            let flow = message.content(HEADER);
            let Some(packet) = packet(flow).filter(&is_wanted) else { return };
            some.push(connection(family, packet, flow));
            if some.len() >= PORTION {
                tell(std::mem::take(&mut some));
            }
        });
        if !some.is_empty() {
            tell(some);
        }
        taken.map_err(|cause| Error::new(Operation::List, format!("{family} connections"), cause))
    }

    /// Forgets exactly these; how many were still there. It goes on behind one that the kernel refuses: the error is of the
    /// first.
    pub fn forget(&mut self, connections: &[Connection]) -> Result<usize, Error> {
        let requests: Vec<Request> = connections.iter().map(Connection::deleting).collect();
        let (mut count, mut failed) = (0, None);
        for result in self.socket.execute_each(&requests) {
            match result {
                Ok(()) => count += 1,
                Err(error) if error.is_missing() => {}
                Err(error) => _ = failed.get_or_insert(error),
            }
        }
        failed.map_or(Ok(count), Err)
    }
}

impl Connection {
    fn deleting(&self) -> Request {
        let Packet { source, destination, protocol, .. } = self.packet;
        let object = format!("the connection of {source} with {destination} (protocol {protocol})");
        Request::new(Operation::Delete, object, Message { kind: CT_DELETE, body: self.name.to_vec() }, 0)
    }
}

/// The connections of one way of a pod: the destination that was chosen for a connection is where its answers come from.
fn of_pod(address: IpAddr, way: Way) -> Attributes {
    let (tuple, flags) = match way {
        Way::Ingress => (TUPLE_REPLY, FILTER_REPLY_FLAGS),
        Way::Egress => (TUPLE_ORIG, FILTER_ORIG_FLAGS),
    };
    let mut message = family_header(Family::of(address));
    let kind = if address.is_ipv4() { IP_V4_SRC } else { IP_V6_SRC };
    message.nest(tuple, |tuple| _ = tuple.nest(TUPLE_IP, |ip| _ = ip.put_address(kind, address)));
    // The only numbers of netfilter that are in the machine's byte order.
    message.nest(FILTER, |filter| _ = filter.put_number(flags, BY_SOURCE));
    message
}

/// The packet that a connection began with.
fn packet(flow: Content<'_>) -> Option<Packet> {
    let (sent, answered) = (flow.nested(TUPLE_ORIG)?, flow.nested(TUPLE_REPLY)?);
    let proto = answered.nested(TUPLE_PROTO)?;
    let protocol = *proto.get(PROTO_NUM)?.value.first()?;
    let port = if WITH_PORTS.contains(&protocol) { port(proto, PROTO_SRC_PORT) } else { None };
    Some(Packet { source: source(sent)?, destination: source(answered)?, protocol, port })
}

fn connection(family: Family, packet: Packet, flow: Content<'_>) -> Connection {
    let answers = || {
        let tuple = flow.nested(TUPLE_REPLY)?;
        let proto = tuple.nested(TUPLE_PROTO)?;
        let from = SocketAddr::new(source(tuple)?, port(proto, PROTO_SRC_PORT)?);
        Some((from, SocketAddr::new(destination(tuple)?, port(proto, PROTO_DST_PORT)?)))
    };
    let mut name = identity(family, flow);
    if let Some(id) = flow.get(ID) {
        // Another one that began in its place meanwhile is none of these.
        name.put(ID, id.value);
    }
    Connection {
        packet,
        answers: if packet.protocol == TCP { answers() } else { None },
        name: name.into_bytes().into_boxed_slice(),
    }
}

fn port(proto: Content<'_>, kind: u16) -> Option<u16> {
    proto.get(kind)?.value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// The addresses that are the node's own.
struct Node {
    addresses: BTreeSet<IpAddr>,
    networks: Vec<IpNet>,
}

impl Node {
    fn of(own: impl Iterator<Item = IpNet>) -> Self {
        let (hosts, networks): (Vec<IpNet>, Vec<IpNet>) = own.partition(|net| net.prefix_len() == net.max_prefix_len());
        Self { addresses: hosts.iter().map(IpNet::addr).collect(), networks }
    }

    fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address) || self.networks.iter().any(|net| net.contains(&address))
    }
}
