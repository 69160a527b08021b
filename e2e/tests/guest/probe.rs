//! Packets between pods: pings, datagrams and connections, none of them ever in fragments.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket,
    sockopt::{
        Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, Timeout, set_ip_mtu_discover, set_ipv6_mtu_discover,
        set_socket_timeout,
    },
};
use towpath_net::family::Family;

use crate::{
    ground::Named,
    node::{Pod, wait_for},
};

/// How much loss there is to live with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// None: every packet arrives.
    Clean,
    /// Some: what nobody repeats is sent again.
    Lossy,
}

impl Wire {
    const fn tries(self) -> usize {
        match self {
            Self::Clean => 1,
            Self::Lossy => 20,
        }
    }

    const fn patience(self) -> Duration {
        match self {
            Self::Clean => Duration::from_secs(60),
            Self::Lossy => Duration::from_secs(1),
        }
    }
}

/// Of IP, and of ICMP or UDP after it.
const fn headers(family: Family) -> usize {
    match family {
        Family::V4 => 20 + 8,
        Family::V6 => 40 + 8,
    }
}

/// How much is sent over each connection and in each direction, in bytes: more than a window of first packets.
const BULK: usize = 96 * 1024;
const CHUNK: usize = 32 * 1024;
const PORT: u16 = 7000;
const SMALL: usize = 56;

/// Everything that two pods have to be able to do, in both directions.
pub fn exchange(a: &Pod<'_>, b: &Pod<'_>, family: Family, wire: Wire) -> Result<(), String> {
    for (from, to) in [(a, b), (b, a)] {
        let (mtu, address) = (from.mtu.min(to.mtu), to.addresses.get(family).ok_or("no address")?);
        let said = |what: &str, error: &io::Error| {
            format!("{what} from {} to {} ({address}, MTU {mtu}): {error}", from.node.spot.name, to.node.spot.name)
        };
        for size in [SMALL, mtu - headers(family)] {
            repeat(wire, || ping(from, address, size, wire)).map_err(|e| said(&format!("ping of {size}"), &e))?;
        }
        repeat(wire, || datagram(from, to, address, mtu - headers(family), wire)).map_err(|e| said("datagram", &e))?;
        connection(from, to, address).map_err(|e| said("connection", &e))?;
        match ping(from, address, from.mtu - headers(family) + 1, wire) {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => {}
            other => return Err(format!("a ping of more than the MTU of {}: {other:?}", from.mtu)),
        }
    }
    Ok(())
}

/// Pings until an answer comes.
#[track_caller]
pub fn settle(from: &Pod<'_>, to: &Pod<'_>, family: Family) -> Result<(), String> {
    let address = to.addresses.get(family).ok_or("no address")?;
    let end = Instant::now() + crate::node::LIMIT;
    loop {
        match ping(from, address, SMALL, Wire::Lossy) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > end => return Err(format!("no answer from {address}: {error}")),
            Err(_) => std::thread::yield_now(),
        }
    }
}

fn repeat(wire: Wire, mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    for _ in 1..wire.tries() {
        if attempt().is_ok() {
            return Ok(());
        }
    }
    attempt()
}

fn unfragmented(socket: impl AsFd, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DO)?,
        Family::V6 => set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DO)?,
    }
    Ok(())
}

/// A socket for echoes (RFC 792, RFC 4443).
fn echo_socket(pod: &Pod<'_>, family: Family, patience: Duration) -> io::Result<OwnedFd> {
    let open = || match family {
        Family::V4 => socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)),
        Family::V6 => socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)),
    };
    let socket = pod.ground.namespace.run(open).map_err(io::Error::other)??;
    unfragmented(&socket, family)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(patience))?;
    Ok(socket)
}

/// One echo with so many bytes of payload, and its answer.
pub fn ping(from: &Pod<'_>, to: IpAddr, size: usize, wire: Wire) -> io::Result<()> {
    let family = Family::of(to);
    let socket = echo_socket(from, family, wire.patience())?;
    let identifier = Identifier::fresh();
    sendto(&socket, &echo(family, identifier, 1, size), SendFlags::empty(), &SocketAddr::new(to, 0))?;
    let end = Instant::now() + wire.patience();
    while Instant::now() < end {
        if answer(&socket, family, identifier)? == Some((1, size)) {
            return Ok(());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Whose echo it is: every socket gets the answers to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identifier([u8; 2]);

impl Identifier {
    fn fresh() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes())
    }
}

/// An echo request; the kernel fills in the checksum of IPv6.
fn echo(family: Family, identifier: Identifier, sequence: u16, size: usize) -> Vec<u8> {
    let kind = match family {
        Family::V4 => 8,
        Family::V6 => 128,
    };
    let mut message = vec![kind, 0, 0, 0, identifier.0[0], identifier.0[1]];
    message.extend(sequence.to_be_bytes());
    message.resize(8 + size, 0x5a);
    let sum: u32 =
        message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// The sequence and size of the next answer, where the next packet is one.
fn answer(socket: &OwnedFd, family: Family, identifier: Identifier) -> io::Result<Option<(u16, usize)>> {
    let mut buffer = vec![0; 65536];
    let (_, length) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
    let (start, kind) = match family {
        Family::V4 => (usize::from(buffer[0] & 0x0f) * 4, 0),
        Family::V6 => (0, 129),
    };
    let message = &buffer[start..length];
    let ours = message.len() >= 8 && message[0] == kind && message[4..6] == identifier.0;
    Ok(ours.then(|| (u16::from_be_bytes([message[6], message[7]]), message.len() - 8)))
}

fn datagram(from: &Pod<'_>, to: &Pod<'_>, address: IpAddr, size: usize, wire: Wire) -> io::Result<()> {
    let family = Family::of(address);
    let any = SocketAddr::new(family.address(0), 0);
    let open = |pod: &Pod<'_>, local: SocketAddr| -> io::Result<UdpSocket> {
        let socket = pod.ground.namespace.run(|| UdpSocket::bind(local)).map_err(io::Error::other)??;
        unfragmented(&socket, family)?;
        socket.set_read_timeout(Some(wire.patience()))?;
        Ok(socket)
    };
    let server = open(to, SocketAddr::new(address, PORT))?;
    let client = open(from, any)?;
    client.connect(server.local_addr()?)?;
    client.send(&vec![0xa5; size])?;
    let mut buffer = vec![0; 65536];
    let (length, back) = server.recv_from(&mut buffer)?;
    server.send_to(&buffer[..length], back)?;
    let length = client.recv(&mut buffer)?;
    if length == size { Ok(()) } else { Err(io::Error::other(format!("{length} bytes came back"))) }
}

fn connection(from: &Pod<'_>, to: &Pod<'_>, address: IpAddr) -> io::Result<()> {
    let local = SocketAddr::new(address, PORT);
    let listener = to.ground.namespace.run(|| TcpListener::bind(local)).map_err(io::Error::other)??;
    let patience = Duration::from_secs(30);
    let connect = || TcpStream::connect_timeout(&local, patience);
    let mut client = from.ground.namespace.run(connect).map_err(io::Error::other)??;
    let (mut server, _) = listener.accept()?;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(patience))?;
    }
    let (block, mut buffer) = (vec![0x3c; CHUNK], vec![0; CHUNK]);
    for _ in 0..BULK / CHUNK {
        client.write_all(&block)?;
        server.read_exact(&mut buffer)?;
        server.write_all(&block)?;
        client.read_exact(&mut buffer)?;
    }
    Ok(())
}

/// Somebody outside of the cluster who hears from where datagrams come.
pub struct Outside(UdpSocket);

impl Outside {
    /// Listens at every address of a namespace.
    pub fn open(ground: &Named) -> Self {
        let socket = ground.namespace.run(|| UdpSocket::bind(("::", PORT))).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        Self(socket)
    }

    /// From where a datagram of a pod comes.
    pub fn hears(&self, pod: &Pod<'_>, address: IpAddr) -> IpAddr {
        let tell = || pod.node.tell_all();
        wait_for(&format!("what {address} hears"), tell, || self.hear(pod, address).map_err(|error| error.to_string()))
    }

    fn hear(&self, pod: &Pod<'_>, address: IpAddr) -> io::Result<IpAddr> {
        let any = SocketAddr::new(Family::of(address).address(0), 0);
        let socket = pod.ground.namespace.run(|| UdpSocket::bind(any)).map_err(io::Error::other)??;
        let text = address.to_string();
        socket.send_to(text.as_bytes(), (address, PORT))?;
        let mut buffer = [0; 100];
        loop {
            let (length, from) = self.0.recv_from(&mut buffer)?;
            // What was sent earlier may come too.
            if buffer[..length] == *text.as_bytes() {
                return Ok(from.ip().to_canonical());
            }
        }
    }
}

/// What became of a stream of echoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub sent: usize,
    pub answered: usize,
}

/// Echoes from one pod to another, at a steady pace until it is ended.
pub struct Stream {
    ending: Arc<AtomicBool>,
    tried: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
    thread: JoinHandle<io::Result<Counts>>,
}

impl Stream {
    /// Sends one echo in every `pace`.
    pub fn begin(from: &Pod<'_>, to: &Pod<'_>, family: Family, pace: Duration) -> Self {
        let socket = echo_socket(from, family, pace).unwrap();
        let to = SocketAddr::new(to.addresses.get(family).unwrap(), 0);
        let ending = Arc::<AtomicBool>::default();
        let [tried, answered] = [(); 2].map(|()| Arc::<AtomicUsize>::default());
        let (end, counts) = (Arc::clone(&ending), [Arc::clone(&tried), Arc::clone(&answered)]);
        let thread = thread::spawn(move || stream(&socket, to, pace, &end, [&counts[0], &counts[1]]));
        Self { ending, tried, answered, thread }
    }

    /// How many echoes were sent so far.
    pub fn tried(&self) -> usize {
        self.tried.load(Ordering::Relaxed)
    }

    /// How many answers came so far.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Sends no more, waits for the last answers, and tells how many there were.
    pub fn end(self) -> Counts {
        self.ending.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap()
    }
}

fn stream(
    socket: &OwnedFd,
    to: SocketAddr,
    pace: Duration,
    ending: &AtomicBool,
    [tried, answered]: [&AtomicUsize; 2],
) -> io::Result<Counts> {
    let (family, identifier) = (Family::of(to.ip()), Identifier::fresh());
    let mut sent = Vec::new();
    while !ending.load(Ordering::Relaxed) {
        let sequence = u16::try_from(sent.len()).map_err(io::Error::other)?;
        sendto(socket, &echo(family, identifier, sequence, SMALL), SendFlags::empty(), &to)?;
        sent.push(false);
        tried.store(sent.len(), Ordering::Relaxed);
        hear(socket, (family, identifier), Instant::now() + pace, &mut sent, answered)?;
    }
    let end = Instant::now() + Wire::Clean.patience();
    while answered.load(Ordering::Relaxed) < sent.len() && Instant::now() < end {
        hear(socket, (family, identifier), Instant::now() + pace, &mut sent, answered)?;
    }
    Ok(Counts { sent: sent.len(), answered: answered.load(Ordering::Relaxed) })
}

/// Takes answers until a time.
fn hear(
    socket: &OwnedFd,
    (family, identifier): (Family, Identifier),
    until: Instant,
    sent: &mut [bool],
    answered: &AtomicUsize,
) -> io::Result<()> {
    while Instant::now() < until {
        match answer(socket, family, identifier) {
            Ok(Some((sequence, _))) => {
                if !std::mem::replace(&mut sent[usize::from(sequence)], true) {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
