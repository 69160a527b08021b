//! Changes, and when probes meet them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::hand::Hand;
use crate::place::Place;
use crate::policies::{Writer, change_others, of_probed};
use crate::probe::{Probe, Prober, Verdict};

/// How many probes a change is seen by.
const SEEN_BY: usize = 20;
/// How many of these may have met what was before.
const STRAGGLERS: usize = 2;
/// How long a change has for it.
const LIMIT: Duration = Duration::from_secs(10);
/// How long is probed behind it, so that what it leads to is over.
const REST: Duration = Duration::from_millis(150);

/// One change.
#[derive(Clone, Copy, Debug)]
pub struct Flip {
    /// From the moment before it was asked for to the first probe that met it.
    pub until: Duration,
    /// Until whoever was asked for it answered.
    pub answered: Duration,
    /// How many probes behind that met what was before.
    pub stragglers: usize,
}

/// Changes of one kind.
#[derive(Debug, Default)]
pub struct Ways {
    /// To a pod that nobody reaches.
    pub denied: Vec<Flip>,
    /// To one that the other reaches.
    pub allowed: Vec<Flip>,
}

impl Ways {
    fn of(&mut self, verdict: Verdict) -> &mut Vec<Flip> {
        match verdict {
            Verdict::Denied => &mut self.denied,
            Verdict::Allowed => &mut self.allowed,
        }
    }
}

/// All that came out.
#[derive(Debug, Default)]
pub struct Outcome {
    /// By a policy at the API server.
    pub policy: Ways,
    /// By `nft -f` on the node.
    pub hand: Ways,
    /// How many other policies were changed a second.
    pub others: Option<f64>,
    /// Between two probes, the longest.
    pub gap: Duration,
}

/// Measures in turn what a policy does and what `nft -f` does, whoever is first in one round last in the next.
pub fn measure(place: &Place, rounds: u32, others: Option<u32>) -> Outcome {
    let kubeconfig = place.kubeconfig();
    let (stop, changed) = (AtomicBool::new(false), Arc::new(AtomicU32::new(0)));
    let (ask, asked) = channel();
    let (answer, answered) = channel();
    thread::scope(|scope| {
        scope.spawn(|| place.node.run(move || by_hand(place, &asked, &answer)).unwrap());
        let rate = others.map(|rate| {
            let (kubeconfig, stop, changed) = (kubeconfig.clone(), &stop, Arc::clone(&changed));
            scope.spawn(move || place.control_plane.run(|| change_others(&kubeconfig, rate, &changed, stop)).unwrap())
        });
        // Other changes go on before anything is measured.
        while rate.is_some() && changed.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        let mut outcome = place
            .control_plane
            .run(move || {
                let writer = Writer::open(&kubeconfig);
                let hand = |verdict| {
                    ask.send(verdict).unwrap();
                    answered.recv().unwrap();
                };
                changes(place, rounds, |verdict| writer.replace(&of_probed(verdict)), hand, &writer)
            })
            .unwrap();
        stop.store(true, Ordering::Relaxed);
        outcome.others = rate.map(|rate| rate.join().unwrap());
        outcome
    })
}

/// Does by hand what is asked for.
fn by_hand(place: &Place, asked: &Receiver<Verdict>, answer: &Sender<()>) {
    let hand = Hand::make(place.from.address, place.to.address);
    for verdict in asked {
        hand.change(verdict);
        _ = answer.send(());
    }
}

fn changes(place: &Place, rounds: u32, policy: impl Fn(Verdict), hand: impl Fn(Verdict), writer: &Writer) -> Outcome {
    writer.make(&of_probed(Verdict::Allowed));
    let mut watch = Watch::start(place);
    let mut outcome = Outcome::default();
    for round in 0..rounds {
        for is_policy in [round % 2 == 0, round % 2 != 0] {
            for verdict in [Verdict::Denied, Verdict::Allowed] {
                let (ways, act): (_, &dyn Fn(Verdict)) =
                    if is_policy { (&mut outcome.policy, &policy) } else { (&mut outcome.hand, &hand) };
                let flip = watch.change(verdict, || act(verdict));
                ways.of(verdict).push(flip);
            }
        }
    }
    outcome.gap = watch.gap;
    writer.remove("probed");
    outcome
}

/// Sees what becomes of probes.
struct Watch {
    prober: Prober,
    last: Option<Instant>,
    gap: Duration,
}

impl Watch {
    fn start(place: &Place) -> Self {
        let prober = Prober::start(&place.from.namespace, place.to.address);
        let mut watch = Self { prober, last: None, gap: Duration::ZERO };
        // What was done before has to be over.
        let begun = Instant::now();
        let mut allowed = 0;
        while allowed < 1000 {
            assert!(begun.elapsed() < LIMIT * 3, "nothing is let through between the pods");
            allowed = if watch.next().verdict == Verdict::Allowed { allowed + 1 } else { 0 };
        }
        watch.gap = Duration::ZERO;
        watch
    }

    fn next(&mut self) -> Probe {
        let probe = self.prober.next();
        let gap = self.last.replace(probe.sent).map_or(Duration::ZERO, |last| probe.sent - last);
        self.gap = self.gap.max(gap);
        probe
    }

    /// Makes a change, and waits until it is seen and all is calm again.
    fn change(&mut self, to: Verdict, act: impl FnOnce()) -> Flip {
        let begun = Instant::now();
        act();
        let answered = begun.elapsed();
        let mut probes: Vec<Probe> = Vec::new();
        let seen = loop {
            let probe = self.next();
            assert!(probe.sent < begun + LIMIT, "the change to {to:?} is not seen");
            if probe.sent < begun {
                continue;
            }
            probes.push(probe);
            if let Some(index) = seen(&probes, to) {
                break index;
            }
        };
        let until = probes[seen].sent - begun;
        let mut stragglers = probes[seen..].iter().filter(|probe| probe.verdict != to).count();
        loop {
            let probe = self.next();
            stragglers += usize::from(probe.verdict != to);
            if probe.sent > begun + until + REST {
                return Flip { until, answered, stragglers };
            }
        }
    }
}

/// The first of the probes that met a change, once as many behind it are known as it is seen by.
fn seen(probes: &[Probe], to: Verdict) -> Option<usize> {
    let is_seen = |window: &[Probe]| {
        window[0].verdict == to && window.iter().filter(|probe| probe.verdict != to).count() <= STRAGGLERS
    };
    probes.windows(SEEN_BY).position(is_seen)
}
