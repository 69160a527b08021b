//! Flows that are denied, for the log: the kernel tells of packets, and what the node was told says why they end.
//!
//! A flow is told of once a minute, with how many packets of it there were since. What is more than users want is left out,
//! and counted.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use towpath_kernel::nflog::{Log, Told};
use towpath_net::budget::Budget;
use towpath_net::policy::evaluate::Packet;
use towpath_net::policy::objects::Way;
use towpath_net::policy::settings::{FlowLog, LogDenied};
use towpath_net::policy::skeleton::{DENIED_GROUP, DENIED_LENGTH, Denial};
use tracing::{info, warn};

/// How long a flow that was told of is not told of again.
const QUIET: Duration = Duration::from_mins(1);
/// How many flows are remembered.
const FLOWS: usize = 1024;
/// How often it is told at most that flows were left out.
const SUMS: Duration = Duration::from_secs(10);
/// How soon it is tried again to listen.
const RETRY: Duration = Duration::from_mins(1);

/// A flow that is to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Of which side the pod is, and whether it is known.
    pub denial: Denial,
    /// Its last packet.
    pub told: Told,
    /// How many packets of it there were since it was told of last.
    pub packets: u64,
}

/// What the kernel tells of, as users want it.
#[derive(Default)]
pub struct Denials {
    wanted: FlowLog,
    log: Option<Log>,
    /// When it is tried again to listen, where that failed.
    retry: Option<Instant>,
    choice: Choice,
}

impl Denials {
    /// What users want of it.
    pub fn want(&mut self, wanted: FlowLog) {
        if wanted.denied != self.wanted.denied {
            self.retry = None;
        }
        self.wanted = wanted;
    }

    /// Listens where that is wanted; tells what the kernel is to tell of.
    pub fn listen(&mut self) -> LogDenied {
        match self.wanted.denied {
            LogDenied::None => self.log = None,
            LogDenied::Flows if self.log.is_some() || self.retry.is_some_and(|at| Instant::now() < at) => {}
            LogDenied::Flows => match Log::open(DENIED_GROUP, DENIED_LENGTH) {
                Ok(log) => self.log = Some(log),
                Err(error) => {
                    warn!(%error, "denied flows cannot be logged");
                    self.retry = Some(Instant::now() + RETRY);
                }
            },
        }
        if self.log.is_some() { LogDenied::Flows } else { LogDenied::None }
    }

    /// When there is something to do though the kernel tells nothing.
    pub fn due(&self) -> Option<Instant> {
        match self.log {
            Some(_) => self.choice.due(),
            None => self.retry.filter(|_| self.wanted.denied == LogDenied::Flows),
        }
    }

    /// What to wait on.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.log.as_ref().map(|log| log.as_fd())
    }

    /// Takes what the kernel told, and chooses what is told of.
    pub fn take(&mut self) -> Vec<Denied> {
        let Some(log) = &mut self.log else { return Vec::new() };
        let (mut chosen, now) = (Vec::new(), Instant::now());
        let drained = log.drain(|told| chosen.extend(self.choice.choose(told, self.wanted.per_second, now)));
        match drained {
            Ok(false) => {}
            Ok(true) => self.choice.left_out += 1,
            Err(error) => {
                warn!(%error, "denied flows cannot be logged");
                self.log = None;
                self.retry = Some(now + RETRY);
            }
        }
        if let Some(packets) = self.choice.sum(now) {
            info!(packets, "packets of denied flows were not logged");
        }
        chosen
    }
}

/// Which flows are told of.
#[derive(Default)]
struct Choice {
    recent: BTreeMap<(Way, Packet), (Instant, u64)>,
    /// How many lines may still be written.
    budget: Budget,
    left_out: u64,
    summed: Option<Instant>,
}

impl Choice {
    fn choose(&mut self, told: Told, per_second: u16, now: Instant) -> Option<Denied> {
        let denial = Denial::of(&told.word)?;
        let flow = (denial.way, told.packet);
        let before = match self.recent.get_mut(&flow) {
            Some((since, packets)) if now.saturating_duration_since(*since) < QUIET => {
                *packets += 1;
                return None;
            }
            Some((_, packets)) => *packets,
            None => 0,
        };
        // A second's worth is there at the start.
        let per_second = f64::from(per_second);
        if !self.budget.take((per_second, per_second), now) {
            self.left_out += 1;
            return None;
        }
        if self.recent.len() >= FLOWS {
            self.recent.retain(|_, (since, _)| now.saturating_duration_since(*since) < QUIET);
        }
        if self.recent.len() >= FLOWS {
            self.recent.clear();
        }
        self.recent.insert(flow, (now, 0));
        Some(Denied { denial, told, packets: before + 1 })
    }

    /// When it is told how many packets were left out, where there were any.
    fn due(&self) -> Option<Instant> {
        self.summed.filter(|_| self.left_out > 0).map(|at| at + SUMS)
    }

    /// How many packets were left out since it was told last.
    fn sum(&mut self, now: Instant) -> Option<u64> {
        let is_due = self.summed.is_none_or(|at| now.saturating_duration_since(at) >= SUMS);
        (is_due && self.left_out > 0).then(|| {
            self.summed = Some(now);
            std::mem::take(&mut self.left_out)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(port: u16) -> Told {
        let [source, destination] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let packet = Packet { source, destination, protocol: 6, port: Some(port) };
        let denial = Denial { way: Way::Ingress, is_known: true };
        Told { word: denial.word().to_owned(), packet, source_port: Some(40000) }
    }

    #[test]
    fn a_flow_is_told_of_once_a_minute_with_how_many_packets_it_had() {
        let (mut choice, start) = (Choice::default(), Instant::now());
        assert_eq!(choice.choose(told(80), 10, start).map(|denied| denied.packets), Some(1));
        for second in 1..60 {
            assert_eq!(choice.choose(told(80), 10, start + Duration::from_secs(second)), None);
        }
        assert_eq!(choice.choose(told(80), 10, start + QUIET).map(|denied| denied.packets), Some(60));
        assert_eq!(choice.sum(start + QUIET), None, "nothing was left out");
        let other = Told { word: "somebody else's".to_owned(), ..told(81) };
        assert_eq!(choice.choose(other, 10, start), None);
    }

    #[test]
    fn what_is_more_than_wanted_is_left_out_and_counted() {
        let (mut choice, start) = (Choice::default(), Instant::now());
        let lines = (0..5000).filter(|port| choice.choose(told(*port), 10, start).is_some()).count();
        assert_eq!((lines, choice.sum(start)), (10, Some(4990)));
        let later = start + Duration::from_secs(1);
        let lines = (0..5000).filter(|port| choice.choose(told(5000 + port), 10, later).is_some()).count();
        assert_eq!((lines, choice.sum(later)), (10, None), "it is not told each second");
        assert_eq!(choice.due(), Some(start + SUMS), "it is told though no more packets come");
        assert_eq!((choice.sum(start + SUMS), choice.due()), (Some(4990), None));
        assert!(choice.recent.len() <= FLOWS);
    }
}
