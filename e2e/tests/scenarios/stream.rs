//! A thousand numbered packets a second from one pod to another, and which of them arrived.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, Pod};
use rustix::net::RecvFlags;

/// Packets in a second.
const RATE: u64 = 1000;
/// Of how many packets one begins a flow of its own, which policies have to let through; all others belong to one flow, and
/// are answered.
const FRESH: u64 = 10;
/// Where the other pod listens.
const PORT: u16 = 7000;
/// How many are sent at once where the sender is late: fewer than what a kernel keeps between two namespaces.
const MOST_AT_ONCE: u64 = 64;
/// What may wait for whoever receives, in bytes: seconds, on a busy machine.
const BUFFER: usize = 32 << 20;
/// How long the last packets, and their answers, are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Packets under way. The sender holds to the clock: where it is late it catches up.
pub struct Stream {
    /// The sender's.
    end: Arc<AtomicBool>,
    /// The receiver's.
    over: Arc<AtomicBool>,
    sender: Option<JoinHandle<Sent>>,
    receiver: Option<JoinHandle<BTreeSet<u64>>>,
}

/// What a sender did.
struct Sent {
    packets: u64,
    answers: BTreeSet<u64>,
    took: Duration,
    longest_pause: Duration,
}

impl Stream {
    /// Starts in the pods' own namespaces, so that no API server is needed on the way; it ends by itself after so many seconds.
    pub fn start(cluster: &Cluster, from: &Pod, to: &Pod, seconds: u32) -> Self {
        let (end, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (here, there) = (cluster.namespace(from), cluster.namespace(to));
        let address = SocketAddr::new(to.addresses[0], PORT);
        let socket = there.run(|| UdpSocket::bind(address)).unwrap().unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).unwrap();
        socket.set_read_timeout(Some(PATIENCE / 10)).unwrap();
        let (ended, stopped) = (Arc::clone(&end), Arc::clone(&over));
        let receiver = thread::spawn(move || receive(&socket, &stopped));
        let sender = thread::spawn(move || here.run(|| send(address, u64::from(seconds) * RATE, &ended)).unwrap());
        Self { end, over, sender: Some(sender), receiver: Some(receiver) }
    }

    /// Whether there are packets to send yet.
    pub fn is_running(&self) -> bool {
        self.sender.as_ref().is_some_and(|sender| !sender.is_finished())
    }

    /// Ends it at once.
    pub fn end(self) -> Tally {
        assert!(self.is_running(), "the stream ended by itself");
        self.end.store(true, Ordering::Relaxed);
        self.finish()
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Tally {
        let sent = self.sender.take().unwrap().join().unwrap();
        self.over.store(true, Ordering::Relaxed);
        let arrived = self.receiver.take().unwrap().join().unwrap();
        let tally = Tally { sent, arrived };
        println!("{tally}");
        tally
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.over.store(true, Ordering::Relaxed);
    }
}

/// What became of a stream.
pub struct Tally {
    sent: Sent,
    arrived: BTreeSet<u64>,
}

impl Tally {
    /// How many packets were sent.
    pub const fn sent(&self) -> u64 {
        self.sent.packets
    }

    /// Fails where a packet or an answer is missing, and where the sender was slower than it is to be.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        // At its end it may be late by a moment.
        let due = self.sent.took.as_millis().saturating_sub(1000) * u128::from(RATE) / 1000;
        let sent = self.sent.packets;
        assert!(
            u128::from(sent) * 100 >= due * 99,
            "the sender was too slow, which says nothing of the network: {self}"
        );
        let lost: Vec<u64> = (0..sent).filter(|number| !self.arrived.contains(number)).collect();
        assert!(lost.is_empty(), "{self}, lost are {lost:?}");
        let missing: Vec<u64> = (0..sent).filter(|n| is_answered(*n) && !self.sent.answers.contains(n)).collect();
        assert!(missing.is_empty(), "{self}, there is no answer to {missing:?}");
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sent { packets, answers, took, longest_pause } = &self.sent;
        let arrived = self.arrived.len();
        write!(
            f,
            "{packets} packets of {} flows sent within {took:.1?}, {arrived} arrived, {} answered; the sender's longest pause \
             was {longest_pause:.1?}",
            packets.div_ceil(FRESH) + 1,
            answers.len()
        )
    }
}

/// Those that begin flows of their own are not: nobody is there any more.
const fn is_answered(number: u64) -> bool {
    !number.is_multiple_of(FRESH)
}

/// What is measured is not how long the one who measures waits for a processor.
fn hurry() {
    _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), -20);
}

fn receive(socket: &UdpSocket, over: &AtomicBool) -> BTreeSet<u64> {
    hurry();
    let (mut arrived, mut packet) = (BTreeSet::new(), [0; 8]);
    loop {
        match socket.recv_from(&mut packet) {
            Ok((8, from)) => {
                let number = u64::from_be_bytes(packet);
                arrived.insert(number);
                if is_answered(number) {
                    // One that is lost is missed by who waits for it.
                    _ = socket.send_to(&packet, from);
                }
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if over.load(Ordering::Relaxed) {
                    return arrived;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("receive: {error}"),
        }
    }
}

/// A socket of the namespace that the thread is in.
fn connected(to: SocketAddr) -> UdpSocket {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.connect(to).unwrap();
    socket
}

fn send(to: SocketAddr, packets: u64, end: &AtomicBool) -> Sent {
    hurry();
    let socket = connected(to);
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let start = Instant::now();
    let mut sent = Sent { packets: 0, answers: BTreeSet::new(), took: Duration::ZERO, longest_pause: Duration::ZERO };
    while sent.packets < packets && !end.load(Ordering::Relaxed) {
        let due = u64::try_from(start.elapsed().as_millis()).unwrap() * RATE / 1000 + 1;
        for number in (sent.packets..due.min(packets)).take(usize::try_from(MOST_AT_ONCE).unwrap()) {
            // What the kernel refuses does not arrive, and is missed there.
            _ = if is_answered(number) {
                socket.send(&number.to_be_bytes())
            } else {
                connected(to).send(&number.to_be_bytes())
            };
            sent.packets = number + 1;
        }
        take_answers(&socket, RecvFlags::DONTWAIT, &mut sent.answers);
        sent.longest_pause = sent.longest_pause.max(start.elapsed().saturating_sub(sent.took));
        sent.took = start.elapsed();
        let next = start + Duration::from_millis(sent.packets * 1000 / RATE);
        thread::park_timeout(next.saturating_duration_since(Instant::now()).max(Duration::from_micros(100)));
    }
    let wanted = (0..sent.packets).filter(|number| is_answered(*number)).count();
    while sent.answers.len() < wanted && take_answers(&socket, RecvFlags::empty(), &mut sent.answers) {}
    sent
}

/// Takes what is there, or waits for one; tells whether there was any.
fn take_answers(socket: &UdpSocket, flags: RecvFlags, answers: &mut BTreeSet<u64>) -> bool {
    let (mut packet, mut any) = ([0; 8], false);
    while let Ok((8, _)) = rustix::net::recv(socket, &mut packet, if any { RecvFlags::DONTWAIT } else { flags }) {
        answers.insert(u64::from_be_bytes(packet));
        any = true;
    }
    any
}
