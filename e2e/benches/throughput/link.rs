//! One connection, and how much it carries.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use crate::ground::Named;

/// How long is sent: less than what else the machine does goes on for, which so weighs on both of a round alike.
const LONG: Duration = Duration::from_millis(50);
const PORT: u16 = 7100;

/// From one pod to another.
pub struct Path<'a> {
    pub from: &'a Named,
    pub to: &'a Named,
    /// Of the other.
    pub address: IpAddr,
}

/// What one connection came to.
#[derive(Clone, Copy)]
pub struct Carried {
    /// In Gbit/s.
    pub rate: f64,
    /// What both ends took of the processors for it, with what the kernel did in their time, in seconds for each Gbit.
    pub cost: f64,
}

impl Path<'_> {
    /// Sends for a while.
    pub fn carry(&self) -> Carried {
        let listener = self.to.namespace.run(|| TcpListener::bind((self.address, PORT)).unwrap()).unwrap();
        thread::scope(|scope| {
            let receiver = scope.spawn(|| receive(&listener));
            let sending = self.from.namespace.run(|| send(self.address)).unwrap();
            let (bits, long, receiving) = receiver.join().unwrap();
            let used = (sending + receiving).as_secs_f64();
            Carried { rate: bits / long.as_secs_f64() / 1e9, cost: used / bits * 1e9 }
        })
    }
}

/// How much of the processors' time the calling thread has had.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// Returns the time of the processors that it took.
fn send(address: IpAddr) -> Duration {
    let mut stream = TcpStream::connect((address, PORT)).unwrap();
    let block = vec![0x5a; 256 * 1024];
    let (start, before) = (Instant::now(), used());
    while start.elapsed() < LONG {
        stream.write_all(&block).unwrap();
    }
    used().checked_sub(before).unwrap()
}

/// Returns how many bits came, in which time, and the time of the processors that it took.
fn receive(listener: &TcpListener) -> (f64, Duration, Duration) {
    let mut stream = listener.accept().unwrap().0;
    let mut block = vec![0; 256 * 1024];
    let (start, before, mut bytes) = (Instant::now(), used(), 0_u64);
    loop {
        match stream.read(&mut block).unwrap() {
            0 => break,
            count => bytes += u64::try_from(count).unwrap(),
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "below the 2^53 bytes that are exact")]
    let bits = bytes as f64 * 8.0;
    (bits, start.elapsed(), used().checked_sub(before).unwrap())
}
