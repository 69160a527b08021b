//! One connection, and how much it carries.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::ground::Named;

/// How long is sent.
const LONG: Duration = Duration::from_millis(500);
const PORT: u16 = 7100;

/// From one pod to another.
pub struct Path<'a> {
    pub from: &'a Named,
    pub to: &'a Named,
    /// Of the other.
    pub address: IpAddr,
}

impl Path<'_> {
    /// Sends for a while; returns how much arrived, in Gbit/s.
    pub fn carried(&self) -> f64 {
        let listener = self.to.namespace.run(|| TcpListener::bind((self.address, PORT)).unwrap()).unwrap();
        thread::scope(|scope| {
            let receiver = scope.spawn(|| receive(&listener));
            self.from.namespace.run(|| send(self.address)).unwrap();
            receiver.join().unwrap()
        })
    }
}

fn send(address: IpAddr) {
    let mut stream = TcpStream::connect((address, PORT)).unwrap();
    let block = vec![0x5a; 256 * 1024];
    let start = Instant::now();
    while start.elapsed() < LONG {
        stream.write_all(&block).unwrap();
    }
}

fn receive(listener: &TcpListener) -> f64 {
    let mut stream = listener.accept().unwrap().0;
    let mut block = vec![0; 256 * 1024];
    let (start, mut bytes) = (Instant::now(), 0_u64);
    loop {
        match stream.read(&mut block).unwrap() {
            0 => break,
            count => bytes += u64::try_from(count).unwrap(),
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "below the 2^53 bytes that are exact")]
    let bits = bytes as f64 * 8.0;
    bits / start.elapsed().as_secs_f64() / 1e9
}
