//! A node with a pod, and a peer outside: what is between them passes the table of policies.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use towpath_kernel::policy::PolicyTable;
use towpath_kernel::testing::{attach, inside, run};

/// Keeps the calling thread on one processor.
pub fn pin() {
    let mut set = CpuSet::new();
    set.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

/// A node in a namespace of its own.
pub struct Place {
    name: &'static str,
    pod: Ipv4Addr,
}

impl Place {
    /// With a pod of this address, and a peer outside of that.
    pub fn new(name: &'static str, pod: Ipv4Addr, peer: Ipv4Addr) -> Self {
        run(&format!("ip netns add {name}"));
        run(&format!("ip netns exec {name} sysctl -qw net.ipv4.ip_forward=1"));
        for (side, link, address) in [("pod", "tow00000000000a", pod), ("peer", "eth0", peer)] {
            attach(Some(name), link, &format!("{name}-{side}"), &[address.into()]);
        }
        Self { name, pod }
    }

    /// The table of the node.
    pub fn table(&self) -> PolicyTable {
        self.inside(|| PolicyTable::open().unwrap())
    }

    /// Runs something on the node.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(self.name, work)
    }

    /// How long connections of the peer take to begin, one after the other.
    pub fn connect(&self, port: u16, count: usize) -> Vec<Duration> {
        let listener = inside(&format!("{}-pod", self.name), || TcpListener::bind((self.pod, port)).unwrap());
        let to = SocketAddr::from((self.pod, port));
        let work = || {
            pin();
            (0..count).map(|_| once(&listener, to)).collect()
        };
        inside(&format!("{}-peer", self.name), work)
    }

    /// The longest that words to and fro stopped while `work` was done, on the same processor. The connection is there
    /// before.
    pub fn longest_pause(&self, port: u16, work: impl FnOnce() + Send) -> Duration {
        let server = inside(&format!("{}-pod", self.name), || UdpSocket::bind((self.pod, port)).unwrap());
        let client = inside(&format!("{}-peer", self.name), || UdpSocket::bind(("0.0.0.0", 0)).unwrap());
        client.connect((self.pod, port)).unwrap();
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        exchange(&client, &server);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let talker = scope.spawn(|| {
                pin();
                // Whatever else runs, but for what the kernel does not let itself be interrupted in.
                run(&format!("chrt -f -p 50 {}", rustix::thread::gettid().as_raw_nonzero()));
                let (mut longest, mut last) = (Duration::ZERO, Instant::now());
                while !done.load(std::sync::atomic::Ordering::Acquire) {
                    exchange(&client, &server);
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                    std::thread::sleep(Duration::from_micros(50));
                }
                longest
            });
            pin();
            work();
            done.store(true, std::sync::atomic::Ordering::Release);
            talker.join().unwrap()
        })
    }
}

fn once(listener: &TcpListener, to: SocketAddr) -> Duration {
    let start = Instant::now();
    let stream = TcpStream::connect(to).unwrap();
    let took = start.elapsed();
    let (accepted, _) = listener.accept().unwrap();
    // It ends at once, and leaves nothing.
    let linger = |stream: &TcpStream| rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
    linger(&stream);
    linger(&accepted);
    took
}

fn exchange(client: &UdpSocket, server: &UdpSocket) {
    let mut buffer = [0; 8];
    client.send(b"ping").unwrap();
    let (_, from) = server.recv_from(&mut buffer).unwrap();
    server.send_to(b"pong", from).unwrap();
    client.recv(&mut buffer).unwrap();
}
