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

/// Of how many pods' ways the kernel picks out the connections, by addresses of IPv4: by those of IPv6 it picks out what is
/// *not* asked for (`ctnetlink_filter_match_tuple`).
const FEW: usize = 4;
/// To go through the kernel's table once takes as long as to read so many connections, however few there are: it has some
/// 262,144 places, all of which are looked at (`ctnetlink_dump_table`).
const A_WALK: u64 = 4096;
/// `IPCTNL_MSG_CT_GET_STATS`, and of its answer `CTA_STATS_GLOBAL_ENTRIES`.
const CT_COUNT: u16 = 1 << 8 | 5;
const ENTRIES: u16 = 1;
/// `CTA_PROTOINFO`, `CTA_PROTOINFO_TCP`, `CTA_PROTOINFO_TCP_STATE`.
const PROTOINFO: u16 = 4;
const PROTOINFO_TCP: u16 = 1;
const TCP_STATE: u16 = 1;
/// `TCP_CONNTRACK_TIME_WAIT` and `TCP_CONNTRACK_CLOSE` (`linux/netfilter/nf_conntrack_tcp.h`).
const OVER: [u8; 2] = [7, 8];

/// `struct nfgenmsg` of no family in particular.
const EVERY_FAMILY: [u8; HEADER] = [0; HEADER];
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
    /// Its answers, where it is one of TCP and not over: from where to where.
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
        let count = self.count()?;
        if count == 0 {
            return Ok(());
        }
        let mut routes = Vec::new();
        for family in Family::ALL {
            if suspects.iter().any(|(address, _)| Family::of(*address) == family) {
                routes.extend(route::local_routes(&mut self.routes, family)?);
            }
        }
        let node = Node::of(routes.iter().map(|route| route.destination));
        for request in requests(suspects, count) {
            let is_wanted = |packet: &Packet| concerns(suspects, packet) && !node.has(packet.source);
            self.look_once(request, is_wanted, &mut tell)?;
        }
        Ok(())
    }

    /// How many connections there are.
    fn count(&mut self) -> Result<u64, Error> {
        let request = Message { kind: CT_COUNT, body: Attributes::after(&EVERY_FAMILY).into_bytes() };
        let told = self.socket.get(&request);
        let told = told.map_err(|cause| Error::new(Operation::List, "the count of connections", cause))?;
        let entries = told.and_then(|told| {
            let value = told.content(HEADER).get(ENTRIES)?.value.first_chunk().copied()?;
            Some(u32::from_be_bytes(value).into())
        });
        Ok(entries.unwrap_or(u64::MAX))
    }

    fn look_once(
        &mut self,
        request: Attributes,
        is_wanted: impl Fn(&Packet) -> bool,
        tell: &mut impl FnMut(Vec<Connection>),
    ) -> Result<(), Error> {
        let request = Message { kind: CT_GET, body: request.into_bytes() };
        let mut some = Vec::new();
        let taken = self.socket.dump_once(&request, |message| {
            let flow = message.content(HEADER);
            let Some(packet) = packet(flow).filter(&is_wanted) else { return };
            some.push(connection(packet, flow));
            if some.len() >= PORTION {
                tell(std::mem::take(&mut some));
            }
        });
        if !some.is_empty() {
            tell(some);
        }
        taken.map_err(|cause| Error::new(Operation::List, "connections", cause))
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

/// What the kernel is asked for: each pod's connections by themselves, where there are so many others that it is worth going
/// through the table for each; all of them at once otherwise.
fn requests(suspects: &Suspects, count: u64) -> Vec<Attributes> {
    let (four, six): (Vec<_>, Vec<_>) = suspects.iter().partition(|(address, _)| address.is_ipv4());
    let more = u64::try_from((four.len() + usize::from(!six.is_empty())).saturating_sub(1)).unwrap_or(u64::MAX);
    if four.len() <= FEW && count >= more.saturating_mul(A_WALK) {
        let of_six = if six.is_empty() { None } else { Some(family_header(Family::V6)) };
        return four.iter().map(|(address, way)| of_pod(*address, *way)).chain(of_six).collect();
    }
    vec![if six.is_empty() { family_header(Family::V4) } else { Attributes::after(&EVERY_FAMILY) }]
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

fn connection(packet: Packet, flow: Content<'_>) -> Connection {
    let answers = || {
        let tuple = flow.nested(TUPLE_REPLY)?;
        let proto = tuple.nested(TUPLE_PROTO)?;
        let from = SocketAddr::new(source(tuple)?, port(proto, PROTO_SRC_PORT)?);
        Some((from, SocketAddr::new(destination(tuple)?, port(proto, PROTO_DST_PORT)?)))
    };
    let mut name = identity(Family::of(packet.source), flow);
    if let Some(id) = flow.get(ID) {
        // Another one that began in its place meanwhile is none of these.
        name.put(ID, id.value);
    }
    Connection {
        packet,
        answers: if packet.protocol == TCP && !is_over(flow) { answers() } else { None },
        name: name.into_bytes().into_boxed_slice(),
    }
}

/// Whether both sides have ended it, or one has reset it: nobody goes on with it.
fn is_over(flow: Content<'_>) -> bool {
    let state = || flow.nested(PROTOINFO)?.nested(PROTOINFO_TCP)?.get(TCP_STATE)?.value.first().copied();
    state().is_some_and(|state| OVER.contains(&state))
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
