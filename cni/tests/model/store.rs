//! The store of leases by itself, without a kernel: very many operations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use towpath_kernel::leases::{Error, Request, Store, Wish};
use towpath_net::lease::{AttachmentId, HostPort, Lease, Phase, Protocol};
use towpath_net::{Family, PerFamily};

use crate::chance::Chance;
use crate::pools::Pools;

/// How many attachments there may be.
const MOST: usize = 40;
/// How many operations go by before everything is compared.
const LOOK: usize = 50;

/// What the model knows of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    addresses: BTreeSet<IpAddr>,
    gateways: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
    /// A process died before it had linked all claims: others may have what it names.
    torn: bool,
}

struct Model {
    chance: Chance,
    pools: Pools,
    leases: BTreeMap<AttachmentId, Known>,
    store: Store,
    state: PathBuf,
}

/// Runs a model below a folder.
pub fn run(state: &Path, operations: usize) {
    let (chance, operations) = Chance::begin(operations);
    let store = Store::below(state);
    let mut model = Model { chance, pools: Pools::new(), leases: BTreeMap::new(), store, state: state.to_owned() };
    model.write_node();
    model.store.make_folders().unwrap();
    for operation in 0..operations {
        model.step();
        if operation % LOOK == 0 {
            model.compare(operation);
        }
    }
    model.end();
}

impl Model {
    fn step(&mut self) {
        match self.chance.below(100) {
            0..45 => self.create(),
            45..85 => self.release(),
            85..90 => self.tear(),
            90..93 => self.store.tidy(|_| false).unwrap(),
            93..96 => self.drop_unborn(),
            _ => self.change_pools(),
        }
    }

    fn write_node(&self) {
        let path = self.state.join("node.json");
        towpath_kernel::fs::write_volatile(&path, self.pools.node_json().to_string().as_bytes(), 0o644).unwrap();
    }

    fn change_pools(&mut self) {
        let store = &self.store;
        self.pools.change(&mut self.chance, |block| {
            let drained = store.drained(block).unwrap();
            let held = self.leases.values().filter(|lease| !lease.torn).flat_map(|lease| &lease.addresses);
            assert_eq!(drained, !held.into_iter().any(|address| block.contains(address)), "{block}");
            drained
        });
        self.write_node();
    }

    fn taken(&self) -> BTreeSet<IpAddr> {
        self.leases.values().filter(|lease| !lease.torn).flat_map(|lease| lease.addresses.clone()).collect()
    }

    /// The gateways of leases that are whole.
    fn gateways(&self) -> BTreeSet<IpAddr> {
        self.leases.values().filter(|lease| !lease.torn).flat_map(|lease| lease.gateways.clone()).collect()
    }

    fn some_id(&mut self) -> AttachmentId {
        AttachmentId { container: format!("c{}", self.chance.below(MOST)), interface: "eth0".to_owned() }
    }

    fn wish(&mut self) -> Wish {
        let mut asked = PerFamily::default();
        if self.chance.once_in(6) {
            let last = self.chance.below(18);
            let v4 = self.chance.once_in(2);
            let text = if v4 { format!("10.0.{}.{last}", self.chance.below(3)) } else { format!("fd00::{last:x}") };
            let address: IpAddr = text.parse().unwrap();
            *asked.get_mut(Family::of(address)) = Some(address);
        }
        Wish { asked, ..Wish::default() }
    }

    fn create(&mut self) {
        let (attachment, wish) = (self.some_id(), self.wish());
        let number = self.chance.once_in(4).then(|| 1000 + u16::try_from(self.chance.below(12)).unwrap());
        let port = |host_port| HostPort { host_ip: None, host_port, container_port: 80, protocol: Protocol::Tcp };
        let request = Request {
            network: "towpath",
            attachment: attachment.clone(),
            netns: "/run/netns/x",
            pod: None,
            mac: None,
            host_ports: number.into_iter().map(port).collect(),
            loopback_ports: Vec::new(),
            bandwidth: None,
            wish: wish.clone(),
            patience: Duration::ZERO,
        };
        match self.store.create(&request) {
            Ok(mut held) => {
                self.given(&held.lease, &wish);
                if !self.chance.once_in(5) {
                    held.advance(Phase::Ready).unwrap();
                }
            }
            Err(error) => self.refused(&attachment, number, &wish, &error),
        }
    }

    fn given(&mut self, lease: &Lease, wish: &Wish) {
        let (id, taken) = (lease.attachment(), self.taken());
        let ports: BTreeSet<u16> = lease.host_ports.iter().map(|port| port.host_port).collect();
        let others = self.leases.values().filter(|other| !other.torn);
        assert!(others.into_iter().all(|other| other.ports.is_disjoint(&ports)), "{id} got a taken port");
        let addresses: BTreeSet<IpAddr> = lease.addresses.iter().map(|leased| leased.address.addr()).collect();
        for v4 in [true, false] {
            let asked = wish.asked.get(if v4 { Family::V4 } else { Family::V6 });
            let got: Vec<IpAddr> = addresses.iter().copied().filter(|address| address.is_ipv4() == v4).collect();
            let Some(may) = self.pools.given(v4) else { continue };
            assert_eq!(got.len(), 1, "{id} got {addresses:?}");
            let right = asked.map_or_else(|| may.contains(&got[0]), |a| a == got[0] && self.pools.may_ask(a));
            assert!(right && !taken.contains(&got[0]), "{id} got {got:?} of {:?}, {taken:?} is taken", self.pools);
        }
        let gateways: BTreeSet<IpAddr> = lease.addresses.iter().map(|leased| leased.gateway).collect();
        assert!(addresses.is_disjoint(&self.gateways()), "{id} got a gateway: {addresses:?}");
        assert!(gateways.is_disjoint(&taken), "{id} has a pod for its gateway: {gateways:?}");
        let known = Known { addresses, gateways, ports, torn: false };
        assert_eq!(self.leases.insert(id, known), None, "it had a lease");
    }

    fn refused(&self, id: &AttachmentId, port: Option<u16>, wish: &Wish, error: &Error) {
        let (taken, gateways) = (self.taken(), self.leases.values().flat_map(|lease| lease.gateways.clone()));
        let gateways: BTreeSet<IpAddr> = gateways.collect();
        let right = match error {
            Error::Attached { .. } => self.leases.contains_key(id),
            Error::PortTaken { .. } => {
                self.leases.values().any(|lease| !lease.torn && port.is_some_and(|port| lease.ports.contains(&port)))
            }
            Error::Refused { address, .. } => {
                taken.contains(address) || gateways.contains(address) || !self.pools.may_ask(*address)
            }
            Error::Exhausted { .. } => [true, false].into_iter().any(|v4| {
                let picked = wish.asked.get(if v4 { Family::V4 } else { Family::V6 }).is_none();
                picked && self.pools.given(v4).is_some_and(|may| may.is_subset(&(&taken | &gateways)))
            }),
            _ => false,
        };
        assert!(right, "{id} was refused: {error}; {:?}, {taken:?} is taken", self.pools);
    }

    fn release(&mut self) {
        let id = self.some_id();
        match self.store.hold(&id).unwrap() {
            Some(held) => {
                assert!(self.leases.contains_key(&id), "{id} has a lease that nobody knows of");
                if self.chance.once_in(2) {
                    held.release().unwrap();
                } else {
                    held.discard().unwrap();
                }
                self.leases.remove(&id);
            }
            None => assert!(!self.leases.contains_key(&id), "{id} lost its lease"),
        }
    }

    /// A process dies after it made the record, before it made the claims; it never came to [`Phase::Ready`].
    fn tear(&mut self) {
        let id = self.some_id();
        let record = self.state.join(format!("leases/attachments/{}:{}", id.container, id.interface));
        let lease = fs::read(record).ok().and_then(|content| serde_json::from_slice::<Lease>(&content).ok());
        let Some(lease) = lease.filter(|lease| lease.phase == Phase::Joining) else { return };
        let known = self.leases.get_mut(&id).unwrap();
        if known.torn {
            return;
        }
        known.torn = true;
        for leased in &lease.addresses {
            fs::remove_file(self.state.join(format!("leases/addresses/{}", leased.address.addr()))).unwrap();
        }
        for port in &lease.host_ports {
            fs::remove_file(self.state.join(format!("leases/ports/tcp-{}/any", port.host_port))).unwrap();
        }
    }

    /// A process dies before its record had a name.
    fn drop_unborn(&mut self) {
        let id = self.some_id();
        self.store.make_folders().unwrap();
        fs::write(self.state.join(format!("leases/attachments/.{}:{}", id.container, id.interface)), "{").unwrap();
    }

    fn compare(&self, operation: usize) {
        let listing = self.store.read_all().unwrap();
        assert!(listing.broken.is_empty(), "operation {operation}: {:?}", listing.broken);
        let known = |lease: &Lease| {
            let id = lease.attachment();
            let torn = self.leases.get(&id).is_some_and(|known| known.torn);
            let addresses = lease.addresses.iter().map(|leased| leased.address.addr()).collect();
            let gateways = lease.addresses.iter().map(|leased| leased.gateway).collect();
            let ports = lease.host_ports.iter().map(|port| port.host_port).collect();
            (id, Known { addresses, gateways, ports, torn })
        };
        let found: BTreeMap<_, _> = listing.leases.iter().map(known).collect();
        assert_eq!(found, self.leases, "operation {operation}");
        let names = fs::read_dir(self.state.join("leases/addresses")).unwrap();
        let claims: BTreeSet<IpAddr> =
            names.filter_map(|name| name.unwrap().file_name().to_str()?.parse().ok()).collect();
        assert_eq!(claims, self.taken(), "operation {operation}");
    }

    /// Nothing is left when all are released and the folder is tidied.
    fn end(&mut self) {
        for id in std::mem::take(&mut self.leases).into_keys() {
            self.store.hold(&id).unwrap().unwrap().release().unwrap();
        }
        self.store.tidy(|_| false).unwrap();
        for folder in ["attachments", "addresses", "ports", "waiting"] {
            let left = fs::read_dir(self.state.join("leases").join(folder)).unwrap().count();
            assert_eq!(left, 0, "{folder}");
        }
    }
}
