//! Whatever is altered is repaired, and what is others' is left alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    str::FromStr,
    time::{Duration, Instant},
};

use fastrand::Rng;
use towpath_kernel::{
    host::HostKernel,
    kernel::Kernel as _,
    sysctl::{self, Sysctls},
};
use towpath_net::{
    device::VXLAN,
    family::Family,
    observed::{Observed, Sysctl},
    state::Attachment,
    transport::{Transport, Transports},
};

use crate::{
    alter::{Kind, alteration},
    ground::Named,
    network::Network,
    node::{LIMIT, Setting},
};

/// How many alterations are made where nobody says: `TOWPATH_ALTERATIONS`.
const COUNT: usize = 400;
/// Repairs that take longer are named.
const SLOW: Duration = Duration::from_secs(1);
/// Of how many the slowest one may miss the bar that `TOWPATH_BAR_MS` sets.
const PERCENTILE: usize = 99;

/// What belongs to others on the node, of every kind that Towpath has too.
const STRANGERS: &str = "link add other0 type veth peer name other1
link add otherbr type bridge
link add othervx type vxlan id 7 dstport 7777 local 172.16.1.11 nolearning
link set other0 up
link set other1 master otherbr
link set other1 up
link set otherbr up
link set othervx up
address add 192.0.2.1/24 dev other0
address add 2001:db8:1::1/64 dev other0 nodad
neighbour add 192.0.2.9 lladdr 02:00:00:00:00:09 dev other0 nud permanent
route add blackhole 203.0.114.0/24
";
const STRANGERS_MORE: &str = "until ip link show other0 | grep -q LOWER_UP; do :; done
ip nexthop add id 7 via 192.0.2.9 dev other0
ip route add 203.0.113.0/24 nhid 7
ip route add 2001:db8:2::/64 via 2001:db8:1::9 dev other0
bridge fdb add 02:00:00:00:00:0a dev othervx dst 172.16.1.99 self permanent
bridge fdb add 02:00:00:00:00:0b dev other1 master static
nft add table inet other
nft 'add chain inet other input { type filter hook input priority 10; policy accept; }'
nft 'add set inet other names { type ipv4_addr; elements = { 192.0.2.5, 192.0.2.6 }; }'
nft add rule inet other input ip saddr @names counter drop
sysctl -qw net.ipv4.conf.other0.rp_filter=1";
/// All of that, as its own tools show it; counters and times are no part of it, nor is what the kernel
/// joins, leaves and learns by itself while it forwards or not, nor the order of routes.
const DUMP: &str = "for link in other0 other1 otherbr othervx; do ip -d link show dev $link | sed 's/[a-z_]*timer *[0-9.]*//g'; done
ip address show dev other0; ip neighbour show dev other0 nud permanent; ip nexthop show id 7
ip -4 route show table all | grep -v towpath | grep -E 'other|203.0.11' | sort; ip -6 route show table all | grep other | grep -v cast | sort
for link in othervx other1; do bridge fdb show dev $link | grep -E 'permanent|static' | grep -v '^33:33' | sort; done; nft -s list table inet other; sysctl net.ipv4.conf.other0.rp_filter";

/// A number from the environment, or what is usual.
fn number<T: FromStr>(name: &str) -> Option<T> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Alters one thing after the other of a node with a bridge, a tunnel, peers and pods, and waits until each is as it was.
pub fn whatever_is_altered_is_repaired() {
    let network = Network::make();
    network.start();
    let setting = Setting {
        attachment: Attachment::Bridge,
        families: [true, true],
        transport: Transports::only(Transport::Vxlan),
    };
    network.settle(&setting);
    let node = &network.nodes[0];
    let _pods: Vec<_> = ["a", "b", "c"].map(|name| node.attach(name)).into();
    strangers(&node.ground);
    let before = node.ground.sh(DUMP);
    let count = number("TOWPATH_ALTERATIONS").unwrap_or(COUNT);
    let seed = number("TOWPATH_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("{count} alterations, TOWPATH_SEED={seed}");
    let times = node.ground.namespace.run(|| heal(count, seed)).unwrap();
    let changes = changes(&before, &node.ground.sh(DUMP));
    assert!(changes.is_empty(), "what is others' was altered:\n{}", changes.join("\n"));
    tell(&times);
}

fn strangers(ground: &Named) {
    ground.ip(STRANGERS);
    let said = ground.sh(STRANGERS_MORE);
    assert_eq!(said, "", "others' objects");
}

/// The lines that only one of two dumps has, as `diff` marks them.
fn changes(before: &str, after: &str) -> Vec<String> {
    let only = |mark: char, of: &str, other: &str| -> Vec<String> {
        let other: BTreeSet<&str> = other.lines().collect();
        of.lines().filter(|line| !other.contains(line)).map(|line| format!("{mark} {line}")).collect()
    };
    [only('-', before, after), only('+', after, before)].concat()
}

/// The settings that are altered.
fn settings() -> BTreeSet<Sysctl> {
    let mut all =
        BTreeSet::from(["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"].map(|key| Sysctl(key.to_owned())));
    all.extend([VXLAN.v4, VXLAN.v6].map(|link| Sysctl::of_link(Family::V4, link, "rp_filter")));
    all.extend([VXLAN.v4, VXLAN.v6].map(|link| Sysctl::of_link(Family::V6, link, "accept_ra")));
    all
}

/// What the kernel has of ours.
fn look(kernel: &mut HostKernel, settings: &BTreeSet<Sysctl>) -> Observed {
    let all = kernel.observe(settings).unwrap();
    Observed { surroundings: towpath_net::observed::Surroundings::default(), foreign_routes: BTreeSet::new(), ..all }
}

/// Returns how long each repair took, by what was altered.
fn heal(count: usize, seed: u64) -> BTreeMap<Kind, Vec<Duration>> {
    let mut rng = Rng::with_seed(seed);
    let wanted = settings();
    let mut kernel = HostKernel::open(Sysctls::below(sysctl::ROOT)).unwrap();
    let whole = look(&mut kernel, &wanted);
    let mut times: BTreeMap<Kind, Vec<Duration>> = BTreeMap::new();
    for number in 0..count {
        let (kind, op) = alteration(&mut rng, &whole);
        let start = Instant::now();
        let outcomes = kernel.apply_all(std::slice::from_ref(&op));
        if let Some(Err(error)) = outcomes.into_iter().next() {
            panic!("alteration {number}, {op}: {error}");
        }
        loop {
            let now = look(&mut kernel, &wanted);
            if now == whole {
                break;
            }
            assert!(start.elapsed() < LIMIT, "alteration {number}, {op}, was not repaired:\n{now:#?}\nwas\n{whole:#?}");
        }
        let took = start.elapsed();
        if took > SLOW {
            println!("alteration {number}, {op}, was there for {took:?}");
        }
        times.entry(kind).or_default().push(took);
    }
    times
}

fn tell(times: &BTreeMap<Kind, Vec<Duration>>) {
    let mut all: Vec<Duration> = times.values().flatten().copied().collect();
    for (kind, times) in times {
        println!("{:<12}{}", format!("{kind:?}"), figures(&mut times.clone()));
    }
    println!("{:<12}{}", "all", figures(&mut all));
    if let Some(bar) = number("TOWPATH_BAR_MS").map(Duration::from_millis) {
        let slow = at(&all, PERCENTILE);
        assert!(slow <= bar, "{PERCENTILE} of 100 repairs took {slow:?} at most, the bar is {bar:?}");
    }
}

fn at(sorted: &[Duration], percentile: usize) -> Duration {
    sorted.get((sorted.len() * percentile / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn figures(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let [half, most, last] = [50, PERCENTILE, 100].map(|percentile| at(times, percentile).as_secs_f64() * 1000.0);
    format!("{:>8} repaired, median {half:.1} ms, p{PERCENTILE} {most:.1} ms, longest {last:.1} ms", times.len())
}
