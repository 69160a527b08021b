//! A thousand new TCP connections a second to a port that nobody listens on: what is let through is answered at once, by a
//! reset, and what is not is not answered.
//!
//! No pair of ports is used twice, so that no probe belongs to a connection that the kernel follows already.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use towpath_kernel::netns::Namespace;

/// Between two probes.
const EVERY: Duration = Duration::from_millis(1);
/// How long an answer is waited for: it comes within some 100 us, or where the processors are busy a little later. Less
/// than the second behind which TCP asks again.
const PATIENCE: Duration = Duration::from_millis(200);
/// Of whoever probes.
const SOURCES: std::ops::RangeInclusive<u16> = 1024..=u16::MAX;
/// The first that is probed; the next when the sources are used up.
const DESTINATION: u16 = 20_000;
/// How many pairs of ports were used.
static PAIRS: AtomicU64 = AtomicU64::new(0);
/// Stands for the timer, where sockets have their numbers.
const TIMER: u64 = u64::MAX;

/// What a probe met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was answered.
    Allowed,
    /// It was not.
    Denied,
}

/// A probe of which it is known what it met.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// When it was sent.
    pub sent: Instant,
    /// What it met.
    pub verdict: Verdict,
}

/// Probes, in the order in which they were sent.
pub struct Prober {
    stop: Arc<AtomicBool>,
    probes: Receiver<Probe>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    /// Probes from a namespace until the value is dropped.
    pub fn start(from: &Namespace, to: IpAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, probes) = channel();
        let (path, ended) = (from.path().to_owned(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let namespace = Namespace::open(path).unwrap();
            namespace.run(|| Work::new(to, tell).run(&ended)).unwrap();
        });
        Self { stop, probes, thread: Some(thread) }
    }

    /// The next that is known.
    pub fn next(&self) -> Probe {
        self.probes.recv_timeout(Duration::from_secs(10)).expect("no probe is sent any more")
    }

    /// All that are known by now.
    pub fn known(&self) -> impl Iterator<Item = Probe> {
        self.probes.try_iter()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

/// A probe of which it may not be known yet what it met.
struct Flying {
    sent: Instant,
    /// Until it is answered.
    socket: Option<OwnedFd>,
}

struct Work {
    to: IpAddr,
    tell: Sender<Probe>,
    events: OwnedFd,
    timer: OwnedFd,
    /// How many were sent.
    sent: u64,
    /// Those that nobody was told of yet, the last sent is the last.
    flying: VecDeque<Flying>,
}

impl Work {
    fn new(to: IpAddr, tell: Sender<Probe>) -> Self {
        let events = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK).unwrap();
        let every = Timespec::try_from(EVERY).unwrap();
        let spec = Itimerspec { it_interval: every, it_value: every };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec).unwrap();
        epoll::add(&events, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN).unwrap();
        Self { to, tell, events, timer, sent: 0, flying: VecDeque::new() }
    }

    fn run(&mut self, stop: &AtomicBool) {
        // What is measured is not how long the one who measures waits for a processor.
        let this = rustix::thread::gettid();
        _ = rustix::process::setpriority_process(Some(this), -20);
        let mut events = Vec::with_capacity(64);
        while !stop.load(Ordering::Relaxed) {
            events.clear();
            match epoll::wait(&self.events, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => panic!("wait for answers: {error}"),
            }
            for event in &events {
                match event.data.u64() {
                    TIMER => self.tick(),
                    number => self.answered(number),
                }
            }
            self.judge();
        }
    }

    /// However many ticks were missed, one probe is sent.
    fn tick(&mut self) {
        _ = rustix::io::read(&self.timer, &mut [0; 8]);
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let family = if self.to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, flags, None).unwrap();
        let (from, to) = Self::ports();
        match bind(&socket, &SocketAddr::new(any(self.to), from)) {
            Ok(()) => {}
            // Of something else in the pod; the next is none too late.
            Err(Errno::ADDRINUSE) => return,
            Err(error) => panic!("port {from}: {error}"),
        }
        let number = self.sent;
        self.sent += 1;
        let sent = Instant::now();
        let error = connect(&socket, &SocketAddr::new(self.to, to)).expect_err("somebody listens there");
        let socket = match error {
            Errno::INPROGRESS => {
                let flags = epoll::EventFlags::ERR | epoll::EventFlags::HUP;
                epoll::add(&self.events, &socket, epoll::EventData::new_u64(number), flags).unwrap();
                Some(socket)
            }
            Errno::CONNREFUSED => None,
            error => panic!("probe {}: {error}", self.to),
        };
        self.flying.push_back(Flying { sent, socket });
    }

    /// Where the next comes from and goes to.
    fn ports() -> (u16, u16) {
        let (count, pair) = (u64::from(SOURCES.end() - SOURCES.start()) + 1, PAIRS.fetch_add(1, Ordering::Relaxed));
        let (from, to) = (u16::try_from(pair % count).unwrap(), u16::try_from(pair / count).unwrap());
        (SOURCES.start() + from, DESTINATION + to)
    }

    /// Any error is an answer: there is none but the reset.
    fn answered(&mut self, number: u64) {
        let first = self.sent - self.flying.len() as u64;
        let index = number.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        if let Some(flying) = index.and_then(|index| self.flying.get_mut(index)) {
            flying.socket = None;
        }
    }

    /// Tells of those that were answered, or that are answered no more.
    fn judge(&mut self) {
        while let Some(first) = self.flying.front() {
            let verdict = match &first.socket {
                None => Verdict::Allowed,
                Some(_) if first.sent.elapsed() >= PATIENCE => Verdict::Denied,
                Some(_) => return,
            };
            // Nobody listens any more where it is about to end.
            _ = self.tell.send(Probe { sent: first.sent, verdict });
            self.flying.pop_front();
        }
    }
}

/// Any address of the same family.
fn any(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
