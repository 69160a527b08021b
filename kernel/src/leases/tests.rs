mod addresses;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Instant;

use ipnet::IpNet;
use towpath_net::PerFamily;
use towpath_net::lease::{LeasedAddress, Protocol};
use towpath_net::node_file::NodeFile;
use towpath_net::state::{Addressing, Attachment, Revision};

use super::*;

/// A node's folder, with the agent's file in it.
struct Fixture {
    folder: tempfile::TempDir,
    node: NodeFile,
}

/// What a test asks for beyond an address of each family.
#[derive(Default)]
struct Extra<'a> {
    ports: &'a [(&'a str, u16)],
    asked: &'a [&'a str],
    in_use: &'a [&'a str],
    patience: Duration,
}

impl Fixture {
    fn new(blocks: &[&str]) -> Self {
        let mut fixture = Self {
            folder: tempfile::tempdir().unwrap(),
            node: NodeFile {
                version: NodeFile::VERSION,
                revision: Revision::default(),
                attachment: Attachment::Routed,
                mtu: 1500,
                pod_cidrs: Vec::new(),
                addressing: Addressing::default(),
                quarantine: 0,
                startup: None,
            },
        };
        fixture.change(|node| node.pod_cidrs = nets(blocks));
        fixture
    }

    /// Writes the agent's file anew.
    fn change(&mut self, change: impl FnOnce(&mut NodeFile)) {
        change(&mut self.node);
        let content = serde_json::to_vec(&self.node).unwrap();
        crate::fs::write_volatile(&self.folder.path().join("node.json"), &content, 0o644).unwrap();
    }

    fn store(&self) -> Store {
        Store::below(self.folder.path())
    }

    fn create(&self, container: &str) -> Result<Held, Error> {
        self.create_with(container, &Extra::default())
    }

    fn create_with(&self, container: &str, extra: &Extra<'_>) -> Result<Held, Error> {
        self.store().create(&request(container, extra))
    }

    /// The names of all records and claims.
    fn names(&self) -> Vec<String> {
        let store = self.store();
        let mut paths = store.all_claims().unwrap();
        paths.extend(fs::read_dir(store.records()).unwrap().map(|entry| entry.unwrap().path()));
        let mut names: Vec<String> =
            paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    /// Makes a freed address look as if it had been freed that long ago.
    fn age(&self, address: &str, age: Duration) {
        let path = self.store().freed().join(address);
        freed::stamp(&path, freed::now().saturating_sub(age)).unwrap();
    }
}

fn request(container: &str, extra: &Extra<'_>) -> Request<'static> {
    let port = |(address, number): &(&str, u16)| HostPort {
        host_ip: address.parse().ok(),
        host_port: *number,
        container_port: 80,
        protocol: Protocol::Tcp,
    };
    Request {
        network: "towpath",
        attachment: id(container),
        netns: "/run/netns/x",
        pod: Some(PodReference { namespace: "shop".to_owned(), name: container.to_owned(), uid: String::new() }),
        mac: None,
        host_ports: extra.ports.iter().map(port).collect(),
        loopback_ports: Vec::new(),
        bandwidth: None,
        wish: Wish {
            asked: PerFamily::first_of(extra.asked.iter().map(|address| ip(address))),
            in_use: extra.in_use.iter().map(|address| ip(address)).collect(),
        },
        patience: extra.patience,
    }
}

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn id(container: &str) -> AttachmentId {
    AttachmentId { container: container.to_owned(), interface: "eth0".to_owned() }
}

fn addresses(held: &Held) -> Vec<String> {
    held.lease.addresses.iter().map(|leased| leased.address.to_string()).collect()
}

#[test]
fn a_lease_has_an_address_of_each_pool_and_is_gone_when_released() {
    let fixture = Fixture::new(&["10.244.1.0/24", "fd00:1::/64"]);
    let mut held = fixture.create("a").unwrap();
    assert_eq!(addresses(&held), ["10.244.1.2/24", "fd00:1::2/64"]);
    assert_eq!(held.lease.addresses[1].gateway.to_string(), "fd00:1::1");
    assert_eq!(fixture.names(), ["10.244.1.2", "a:eth0", "fd00:1::2"]);
    held.advance(Phase::Ready).unwrap();
    assert_eq!(fixture.store().read_all().unwrap().leases, [held.lease.clone()]);
    assert_eq!(fixture.names(), ["10.244.1.2", "a:eth0", "fd00:1::2"]);
    held.release().unwrap();
    assert!(fixture.names().is_empty());
}

#[test]
fn addresses_are_given_in_turn_and_reused_as_late_as_possible() {
    let fixture = Fixture::new(&["10.244.1.0/29"]);
    fixture.create("a").unwrap().release().unwrap();
    let given: Vec<String> =
        ["b", "c", "d", "e", "f"].iter().map(|c| addresses(&fixture.create(c).unwrap()).concat()).collect();
    assert_eq!(given, ["10.244.1.3/29", "10.244.1.4/29", "10.244.1.5/29", "10.244.1.6/29", "10.244.1.2/29"]);
    let refused = fixture.create("g").unwrap_err().to_string();
    assert!(refused.starts_with("all addresses of 10.244.1.0/29 are taken on this node: remove pods"), "{refused}");
    assert!(fixture.store().vacancy().is_err());
    fixture.store().hold(&id("d")).unwrap().unwrap().release().unwrap();
    fixture.store().vacancy().unwrap();
    assert_eq!(addresses(&fixture.create("g").unwrap()), ["10.244.1.5/29"]);
}

#[test]
fn an_attachment_has_one_lease() {
    let fixture = Fixture::new(&["10.244.1.0/24"]);
    let first = fixture.create("a").unwrap();
    let refused = fixture.create("a").unwrap_err();
    assert_eq!(refused.to_string(), "a/eth0 is attached already (network towpath, namespace /run/netns/x)");
    assert_eq!(fixture.names(), ["10.244.1.2", "a:eth0"]);
    drop(first);
}

#[test]
fn a_host_port_has_one_holder_on_each_address() {
    let fixture = Fixture::new(&["10.244.1.0/24"]);
    let create =
        |container, ports: &[(&str, u16)]| fixture.create_with(container, &Extra { ports, ..Extra::default() });
    let held = create("a", &[("10.0.0.1", 8080), ("::", 9090)]).unwrap();
    for refused in ["", "0.0.0.0", "10.0.0.1"] {
        let refused = create("b", &[("", 80), (refused, 8080)]).unwrap_err();
        assert!(refused.to_string().ends_with("of this node is taken by pod shop/a (a/eth0)"), "{refused}");
    }
    assert!(create("b", &[("fd00::1", 9090)]).is_err());
    assert_eq!(fixture.names(), ["10.0.0.1", "10.244.1.2", "::", "a:eth0"]);
    let other = create("b", &[("10.0.0.2", 8080), ("0.0.0.0", 9090), ("::", 8080)]).unwrap();
    held.release().unwrap();
    other.discard().unwrap();
    assert!(fixture.names().is_empty());
    assert_eq!(fs::read_dir(fixture.store().ports()).unwrap().count(), 0);
    create("b", &[("", 80), ("", 8080)]).unwrap();
}

#[test]
fn a_lease_that_somebody_works_on_is_busy_until_its_worker_ends() {
    let fixture = Fixture::new(&["10.244.1.0/24"]);
    let store = fixture.store();
    assert!(matches!(store.try_hold(&id("a")).unwrap(), Attempt::None));
    let mut held = fixture.create("a").unwrap();
    assert!(matches!(store.try_hold(&id("a")).unwrap(), Attempt::Busy));
    held.advance(Phase::Ready).unwrap();
    assert!(matches!(store.try_hold(&id("a")).unwrap(), Attempt::Busy));
    drop(held);
    assert!(matches!(store.try_hold(&id("a")).unwrap(), Attempt::Held(_)));
}

#[test]
fn whoever_waits_for_a_lease_gets_its_last_record_or_none() {
    let fixture = Fixture::new(&["10.244.1.0/24"]);
    let store = fixture.store();
    let mut held = fixture.create("a").unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| store.hold(&id("a")).unwrap());
        held.advance(Phase::Ready).unwrap();
        drop(held);
        let held = waiter.join().unwrap().unwrap();
        assert_eq!(held.lease.phase, Phase::Ready);
        let waiter = scope.spawn(|| store.hold(&id("a")).unwrap());
        held.release().unwrap();
        assert!(waiter.join().unwrap().is_none());
    });
}

#[test]
fn many_at_once_never_share_an_address() {
    let fixture = Fixture::new(&["10.244.0.0/22"]);
    let given = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (fixture, given) = (&fixture, &given);
            scope.spawn(move || {
                for round in 0..20 {
                    let held = fixture.create(&format!("{worker}-{round}")).unwrap();
                    given.lock().unwrap().push(addresses(&held).concat());
                }
            });
        }
    });
    let given = given.into_inner().unwrap();
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 160);
}

#[test]
fn every_place_to_die_at_while_a_lease_is_made_leaves_what_can_be_released() {
    let fixture = Fixture::new(&["10.244.1.0/24", "fd00:1::/64"]);
    // What a process leaves that dies after it linked none, one or two of the claims.
    for kept in 0..=2 {
        drop(fixture.create("a").unwrap());
        let lease = fixture.store().read_all().unwrap().leases.remove(0);
        for leased in lease.addresses.iter().skip(kept) {
            fs::remove_file(fixture.store().claim(leased.address.addr())).unwrap();
        }
        fs::write(fixture.folder.path().join("leases/attachments/.a:eth0"), "{").unwrap();
        let other = fixture.create("b").unwrap();
        fixture.store().tidy(|_| true).unwrap();
        fixture.store().hold(&id("a")).unwrap().unwrap().release().unwrap();
        assert_eq!(fixture.names().len(), 3, "the other lease is whole: {:?}", fixture.names());
        other.release().unwrap();
        assert!(fixture.names().is_empty());
    }
}

#[test]
fn an_address_that_another_took_meanwhile_is_not_released_with_a_dead_lease() {
    let fixture = Fixture::new(&["10.244.1.0/30"]);
    drop(fixture.create("a").unwrap());
    fs::remove_file(fixture.store().claim(ip("10.244.1.2"))).unwrap();
    let other = fixture.create("b").unwrap();
    fixture.store().hold(&id("a")).unwrap().unwrap().release().unwrap();
    assert_eq!(fixture.names(), ["10.244.1.2", "b:eth0"]);
    drop(other);
}

#[test]
fn a_broken_record_is_reported_and_released_by_what_its_claims_tell() {
    let fixture = Fixture::new(&["10.244.1.0/24"]);
    let mut held = fixture.create("a").unwrap();
    held.advance(Phase::Ready).unwrap();
    drop(held);
    fs::write(fixture.store().record(&id("a")), "{").unwrap();
    let listing = fixture.store().read_all().unwrap();
    assert!(listing.leases.is_empty());
    assert!(listing.broken[0].to_string().contains("a:eth0: EOF"), "{}", listing.broken[0]);
    fixture.store().hold(&id("a")).unwrap().unwrap().release().unwrap();
    assert!(fixture.names().is_empty());
}

#[test]
fn what_was_never_born_is_removed_with_its_attachment() {
    let fixture = Fixture::new(&["10.244.1.0/24"]);
    fixture.create("b").unwrap().release().unwrap();
    fs::write(fixture.folder.path().join("leases/attachments/.a:eth0"), "{").unwrap();
    assert!(fixture.store().hold(&id("a")).unwrap().is_none());
    assert!(fixture.names().is_empty());
}

#[test]
fn a_claim_that_lost_its_record_is_tidied_unless_its_link_is_there() {
    let fixture = Fixture::new(&["10.244.1.0/24"]);
    drop(fixture.create("a").unwrap());
    fs::remove_file(fixture.store().record(&id("a"))).unwrap();
    fixture.store().tidy(|_| true).unwrap();
    assert_eq!(fixture.names(), ["10.244.1.2"]);
    fixture.store().tidy(|_| false).unwrap();
    assert!(fixture.names().is_empty());
}

#[test]
fn where_there_is_no_folder_there_are_no_leases() {
    let fixture = Fixture::new(&["10.244.1.0/24"]);
    assert!(fixture.store().read_all().unwrap().leases.is_empty());
    assert!(fixture.store().hold(&id("a")).unwrap().is_none());
    fixture.store().tidy(|_| false).unwrap();
    fixture.store().vacancy().unwrap();
    assert!(!fixture.folder.path().join("leases").exists());
}
