//! Nodes that are full, and many pods at once.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use serde_json::Value;

use crate::{
    chain::{Chain, Contender, Pod, reservations},
    node::Node,
    support::figures::{Sample, measure},
};

/// How many pods a full node has.
const PODS: usize = 250;
/// How many addresses are taken on it: those of its pods, and others.
const TAKEN: usize = 4000;
/// How long one attempt to reach a pod may take.
const ATTEMPT: Duration = Duration::from_millis(20);
/// How long a pod may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Several pods that are attached at once.
pub struct Crowd {
    paths: Vec<PathBuf>,
}

impl Crowd {
    /// Makes the namespaces.
    pub fn new(node: &Node, size: usize) -> Self {
        Self { paths: node.pods(size) }
    }

    fn pods(&self, round: u32) -> impl Iterator<Item = Pod<'_>> {
        self.paths.iter().enumerate().map(move |(index, netns)| Pod {
            container: format!("crowd{round}-{index}"),
            netns,
            host_port: None,
        })
    }

    /// Attaches all at once, does something with each result, and measures until the last is done; then detaches all.
    pub fn attach(&self, chain: &Chain<'_>, round: u32, then: impl Fn(&Value) + Sync) -> Sample {
        let attach = |pod: &Pod<'_>| {
            let result = chain.add(pod);
            then(&result);
            result
        };
        chain.node.enter(|| {
            let pods: Vec<Pod<'_>> = self.pods(round).collect();
            let (results, sample) = measure(|| at_once(&pods, attach));
            let ended: Vec<(Pod<'_>, Value)> = pods.into_iter().zip(results).collect();
            at_once(&ended, |(pod, result)| chain.delete(pod, result));
            sample
        })
    }
}

fn at_once<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(|| work(item))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Waits until the pod's kernel answers: nobody listens, so the answer is a refusal.
pub fn wait_for_answer(result: &Value) {
    let address: IpNet = result["ips"][0]["address"].as_str().unwrap().parse().unwrap();
    let pod = SocketAddr::new(address.addr(), 80);
    let end = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect_timeout(&pod, ATTEMPT) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return,
            _ => assert!(Instant::now() < end, "{pod} does not answer"),
        }
    }
}

/// Attaches 250 pods to a node, and takes 3,750 more addresses.
pub fn fill(chain: &Chain<'_>, contender: Contender) {
    let paths = chain.node.pods(PODS);
    chain.node.enter(|| {
        for (index, netns) in paths.iter().enumerate() {
            chain.add(&Pod { container: format!("resident{index}"), netns, host_port: None });
        }
    });
    match contender {
        Contender::Towpath => take_leases(chain.node),
        Contender::Reference(_) => take_reservations(chain.node),
    }
}

/// More leases as a resident's, each of an address of its own: a record, and the claim as another name of it.
fn take_leases(node: &Node) {
    let (records, claims) = (node.state.join("leases/attachments"), node.state.join("leases/addresses"));
    let resident = fs::read(records.join("resident0:eth0")).unwrap();
    let mut lease: Value = serde_json::from_slice(&resident).unwrap();
    let free = |address: &IpAddr| !claims.join(address.to_string()).exists();
    // As if they had been given in order: the next address is sought behind the last.
    let addresses: Vec<IpAddr> = node.stack.blocks()[0].hosts().skip(1).filter(free).take(TAKEN - PODS).collect();
    for (index, address) in addresses.into_iter().enumerate() {
        let name = format!("another{index}");
        lease["addresses"][0]["address"] = Value::String(format!("{address}/19"));
        lease["containerID"] = Value::String(name.clone());
        let record = records.join(format!("{name}:eth0"));
        fs::write(&record, lease.to_string()).unwrap();
        fs::hard_link(&record, claims.join(address.to_string())).unwrap();
        fs::write(node.state.join("leases/cursor"), format!("{address}\n")).unwrap();
    }
}

/// As `host-local` writes them: a file named by the address, with the attachment's container and interface.
fn take_reservations(node: &Node) {
    let folder = reservations(node);
    let taken = || fs::read_dir(&folder).unwrap().count();
    let add = |address: IpAddr, index: usize| {
        let path = folder.join(address.to_string());
        if !path.exists() {
            fs::write(path, format!("resident{index}\r\neth0")).unwrap();
        }
    };
    let hosts = node.stack.blocks()[0].hosts().skip(1);
    for (index, address) in hosts.enumerate().take(TAKEN) {
        add(address, index);
    }
    assert!(taken() >= TAKEN, "{} has {} files", folder.display(), taken());
    give_last(&folder, node.stack.blocks()[0].hosts().nth(TAKEN).unwrap());
}

/// `host-local` goes on behind the address that it gave last.
fn give_last(folder: &Path, address: IpAddr) {
    fs::write(folder.join("last_reserved_ip.0"), address.to_string()).unwrap();
}
