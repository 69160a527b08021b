//! Every transport, attachment, family and distance: each cell is a pair of pods that can do everything.

use std::{collections::BTreeMap, fmt};

use towpath_net::{
    family::Family,
    state::Attachment,
    transport::{Transport, Transports},
};

use crate::{
    capture::Capture,
    network::{Network, timed},
    node::Setting,
    probe::{self, Wire},
};

const ATTACHMENTS: [Attachment; 3] = [Attachment::Routed, Attachment::LinkLocal, Attachment::Bridge];
/// IPv4, IPv6, both.
const FAMILIES: [[bool; 2]; 3] = [[true, false], [false, true], [true, true]];

/// By what packets are to travel, and to which of the nodes.
struct Way {
    transport: Transport,
    cross_subnet_only: bool,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.transport, if self.cross_subnet_only { " across subnets only" } else { "" })
    }
}

impl Way {
    const fn of(transport: Transport) -> Self {
        Self { transport, cross_subnet_only: false }
    }

    fn transports(&self) -> Transports {
        let mut transports = Transports::only(self.transport);
        transports.cross_subnet_only = self.cross_subnet_only;
        if self.cross_subnet_only {
            transports.accepts.push(Transport::Direct);
        }
        transports
    }

    /// By what packets travel to a node that shares a subnet, or to one that does not; nothing where there is no way.
    fn expected(&self, near: bool) -> Option<Transport> {
        match self.transport {
            Transport::Direct => near.then_some(Transport::Direct),
            _ if self.cross_subnet_only && near => Some(Transport::Direct),
            tunnel => Some(tunnel),
        }
    }
}

fn shown(families: [bool; 2]) -> &'static str {
    match families {
        [true, true] => "dual stack",
        [true, false] => "IPv4",
        _ => "IPv6",
    }
}

/// Two pods of each node's, of which all pairs are one cell; returns how many cells there were.
fn cells(network: &Network, way: &Way, attachment: Attachment, families: [bool; 2], wire: Wire) -> usize {
    let setting = Setting { transport: way.transports(), attachment, families };
    timed("  settled", || network.settle(&setting));
    let pods: Vec<_> = timed("  attached", || network.nodes.iter().map(|node| node.attach("pod")).collect());
    let mut count = 0;
    for (a, b) in [(0, 1), (0, 2)] {
        let Some(expected) = way.expected(network.near(a, b)) else { continue };
        let distance = if network.near(a, b) { "same subnet" } else { "other subnet" };
        let cell = format!("{way}, {attachment}, {}, {distance}", shown(families));
        let wanted = Family::ALL.into_iter().zip(families).filter(|(_, wanted)| *wanted).map(|(family, _)| family);
        for family in wanted {
            let tried = probe::settle(&pods[a], &pods[b], family).and_then(|()| {
                let capture = Capture::begin(&network.wire);
                probe::exchange(&pods[a], &pods[b], family, wire)?;
                travelled(&capture, expected)
            });
            if let Err(error) = tried {
                panic!("cell {cell}: {family:?}: {error}\n{}", network.tell_all());
            }
        }
        count += 1;
    }
    for pod in pods {
        pod.detach();
    }
    count
}

/// That all packets of pods travelled by one transport.
pub fn travelled(capture: &Capture, expected: Transport) -> Result<(), String> {
    let seen = capture.seen();
    let only: BTreeMap<_, _> = seen.iter().filter(|(transport, _)| **transport != expected).collect();
    let there = seen.contains_key(&expected);
    if there && only.is_empty() { Ok(()) } else { Err(format!("not by {expected} alone, but by {seen:?}")) }
}

/// All cells of these transports; the count is printed.
pub fn all_cells(transports: &[Transport]) -> Network {
    let network = Network::make();
    network.start();
    let mut count = 0;
    for families in FAMILIES {
        for way in transports.iter().copied().map(Way::of) {
            for attachment in ATTACHMENTS {
                count += timed(&format!("{way}, {attachment}, {}", shown(families)), || {
                    cells(&network, &way, attachment, families, Wire::Clean)
                });
            }
        }
    }
    for transport in transports.iter().copied().filter(|transport| transport.is_tunnel()) {
        let way = Way { transport, cross_subnet_only: true };
        count += timed(&way.to_string(), || cells(&network, &way, Attachment::Routed, [true, true], Wire::Clean));
    }
    assert_eq!(network.fragments(), BTreeMap::new(), "there were fragments");
    println!("cells: {count}");
    network
}

/// A row of them with loss and delay.
pub fn with_loss_and_delay(network: &Network, transports: &[Transport]) {
    let mut count = 0;
    for (port, impairment) in [("w1", "loss 3%"), ("w2", "delay 10ms 5ms"), ("w3", "loss 3% delay 10ms")] {
        let done = network.wire.sh(&format!("tc qdisc add dev {port} root netem {impairment}"));
        assert_eq!(done, "", "netem on {port}");
    }
    for (index, way) in transports.iter().copied().map(Way::of).enumerate() {
        let attachment = ATTACHMENTS[index % ATTACHMENTS.len()];
        count += timed(&format!("{way}, {attachment}, with loss and delay"), || {
            cells(network, &way, attachment, [true, true], Wire::Lossy)
        });
    }
    println!("cells with loss and delay: {count}");
}
