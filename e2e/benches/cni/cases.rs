//! What is measured. Whoever is compared takes turns, so that what else the machine does weighs on all alike.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use towpath_e2e::progress::Progress;

use crate::{
    chain::{Backend, Chain, Contender, Pod, Verb},
    node::{Node, Stack},
    pods::{Crowd, fill, wait_for_answer},
    support::figures::{Series, measure},
    support::table::{Report, Row, Verdict},
};

const REFERENCE: Contender = Contender::Reference(None);
/// Host ports begin here.
const FIRST_PORT: u16 = 10_000;
/// How often many pods at once are measured.
const CROWDS: u32 = 7;
/// `PT_INTERP` (`linux/elf.h`): the program needs a loader.
const PT_INTERP: u32 = 3;

/// Everything that is needed to measure.
pub struct Bench<'a> {
    towpath: &'a Path,
    plugins: &'a Path,
    rounds: u32,
    progress: &'a Progress,
}

/// A contender on its node, with a pod's namespace and what was measured.
struct Entry<'a> {
    chain: Chain<'a>,
    netns: PathBuf,
    add: Series,
    check: Series,
    delete: Series,
}

/// A contender's node, and what it is called in the table.
struct Place {
    contender: Contender,
    node: Node,
    name: &'static str,
}

impl Place {
    fn new(contender: Contender, stack: Stack, name: &'static str) -> Self {
        Self { contender, node: Node::new(&name.replace([' ', '+', ',', '(', ')'], "-"), stack), name }
    }
}

impl<'a> Bench<'a> {
    /// A benchmark of these programs.
    pub fn new(towpath: &'a Path, plugins: &'a Path, rounds: u32, progress: &'a Progress) -> Self {
        Self { towpath, plugins, rounds, progress }
    }

    /// Measures everything.
    pub fn run(&self) -> Report {
        let mut report = Report::default();
        let mut step = |title: &str, case: fn(&Self, &mut Report)| {
            let done: Result<(), std::convert::Infallible> = self.progress.long_step(title, || {
                case(self, &mut report);
                Ok(())
            });
            done.unwrap();
        };
        step("one after the other, IPv4", Self::single);
        step("one after the other, both families", Self::dual);
        step("one after the other, with a host port", Self::host_port);
        step("32 at once", Self::parallel);
        step("110 at once, until all answer", Self::burst);
        step("250 pods and 4,000 addresses taken", Self::crowded);
        step("STATUS and VERSION", Self::status);
        step("the binary", Self::binary);
        report
    }

    fn single(&self, report: &mut Report) {
        self.compare(report, Stack::Single, "IPv4");
    }

    fn dual(&self, report: &mut Report) {
        self.compare(report, Stack::Dual, "dual");
    }

    fn compare(&self, report: &mut Report, stack: Stack, kind: &str) {
        let names = match stack {
            Stack::Single => ["towpath", "ptp"],
            Stack::Dual => ["towpath dual", "ptp dual"],
        };
        let places = [Place::new(Contender::Towpath, stack, names[0]), Place::new(REFERENCE, stack, names[1])];
        let [ours, theirs] = &self.in_turn(&places, None)[..] else { return };
        let ratio = Ratio { report, kind };
        ratio.judge("ADD", &ours.add, &theirs.add, 0.35, 0.2);
        rows(report, &places, &[ours, theirs]);
    }

    fn host_port(&self, report: &mut Report) {
        let mut places = vec![
            Place::new(Contender::Towpath, Stack::Single, "towpath, port"),
            Place::new(Contender::Reference(Some(Backend::Nftables)), Stack::Single, "ptp+portmap (nft)"),
        ];
        if has_iptables() {
            let contender = Contender::Reference(Some(Backend::Iptables));
            places.push(Place::new(contender, Stack::Single, "ptp+portmap (iptables)"));
        } else {
            self.progress.line("there is no iptables: portmap is measured with nft alone");
        }
        let entries = self.in_turn(&places, Some(FIRST_PORT));
        let Some((ours, others)) = entries.split_first() else { return };
        for (theirs, place) in others.iter().zip(places.iter().skip(1)) {
            let figure = of(&ours.add, &theirs.add, |series| series.median().wall.as_secs_f64());
            let what = format!("ADD with a host port against {}, wall", place.name);
            report.verdicts.push(Verdict { what, figure, bar: 0.1, unit: "x" });
        }
        rows(report, &places, &entries.iter().collect::<Vec<_>>());
    }

    fn chain<'n>(&'n self, place: &'n Place) -> Chain<'n> {
        Chain::new(place.contender, &place.node, self.towpath, self.plugins)
    }

    fn in_turn<'n>(&'n self, places: &'n [Place], first_port: Option<u16>) -> Vec<Entry<'n>> {
        let mut entries: Vec<Entry<'_>> = places.iter().map(|place| self.entry(place)).collect();
        for round in 0..self.rounds {
            let port = first_port.map(|port| port + u16::try_from(round).unwrap());
            for entry in &mut entries {
                entry.round(format!("r{round}"), port);
            }
            // Whoever comes next bears what the kernel still has to do for the one before.
            entries.reverse();
        }
        if self.rounds % 2 == 1 {
            entries.reverse();
        }
        entries
    }

    fn entry<'n>(&'n self, place: &'n Place) -> Entry<'n> {
        let netns = place.node.pods(1).remove(0);
        let (add, check, delete) = Default::default();
        Entry { chain: self.chain(place), netns, add, check, delete }
    }

    fn crowds(&self, places: &[Place], size: usize, then: fn(&Value)) -> Vec<Series> {
        let crowds: Vec<Crowd> = places.iter().map(|place| Crowd::new(&place.node, size)).collect();
        let mut all = vec![Series::default(); places.len()];
        for round in 0..CROWDS {
            for ((place, crowd), series) in places.iter().zip(&crowds).zip(&mut all) {
                series.push(crowd.attach(&self.chain(place), round, then));
            }
        }
        all
    }

    fn parallel(&self, report: &mut Report) {
        let places = [
            Place::new(Contender::Towpath, Stack::Single, "towpath, 32 ADDs at once"),
            Place::new(REFERENCE, Stack::Single, "ptp, 32 ADDs at once"),
        ];
        let all = self.crowds(&places, 32, |_| {});
        let figure = of(&all[0], &all[1], |series| series.median().wall.as_secs_f64());
        let what = "32 ADDs at once, wall".to_owned();
        report.verdicts.push(Verdict { what, figure, bar: 0.5, unit: "x" });
        crowd_rows(report, &places, &all, 32);
    }

    fn burst(&self, report: &mut Report) {
        let places = [
            Place::new(Contender::Towpath, Stack::Single, "towpath, 110 answer"),
            Place::new(REFERENCE, Stack::Single, "ptp, 110 answer"),
        ];
        let all = self.crowds(&places, 110, wait_for_answer);
        let figure = of(&all[0], &all[1], |series| series.median().wall.as_secs_f64());
        let what = "110 ADDs at once until the last pod answers, wall".to_owned();
        report.verdicts.push(Verdict { what, figure, bar: 0.4, unit: "x" });
        crowd_rows(report, &places, &all, 110);
    }

    fn crowded(&self, report: &mut Report) {
        let places = [
            Place::new(Contender::Towpath, Stack::Single, "towpath, empty node"),
            Place::new(Contender::Towpath, Stack::Single, "towpath, full node"),
            Place::new(REFERENCE, Stack::Single, "ptp, full node"),
        ];
        for place in places.iter().skip(1) {
            fill(&self.chain(place), place.contender);
        }
        let mut entries = self.in_turn(&places[..2], None);
        entries.extend(self.in_turn(&places[2..], None));
        let figure = of(&entries[1].add, &entries[0].add, |series| series.median().wall.as_secs_f64());
        let what = "ADD on a full node against an empty one, wall".to_owned();
        report.verdicts.push(Verdict { what, figure, bar: 1.15, unit: "x" });
        rows(report, &places, &entries.iter().collect::<Vec<_>>());
    }

    fn status(&self, report: &mut Report) {
        let place = Place::new(Contender::Towpath, Stack::Single, "towpath, status");
        fill(&self.chain(&place), place.contender);
        let chain = self.chain(&place);
        for (verb, what) in [(Verb::Status, "STATUS (full node)"), (Verb::Version, "VERSION (starting alone)")] {
            let mut series = Series::default();
            place.node.enter(|| (0..self.rounds).for_each(|_| series.push(measure(|| chain.ask(verb)).1)));
            if verb == Verb::Status {
                let figure = series.median().wall.as_secs_f64() * 1000.0;
                report.verdicts.push(Verdict { what: what.to_owned(), figure, bar: 2.0, unit: " ms" });
            }
            report.rows.push(Row { what: format!("towpath, {what}"), series, count: 1 });
        }
    }

    fn binary(&self, report: &mut Report) {
        let mut verdict = |what: &str, figure: f64, bar: f64, unit| {
            report.verdicts.push(Verdict { what: what.to_owned(), figure, bar, unit });
        };
        let content = fs::read(self.towpath).unwrap();
        let size = u32::try_from(content.len()).unwrap();
        verdict("size of the binary", f64::from(size) / 1e6, 2.0, " MB");
        let place = Place::new(Contender::Towpath, Stack::Dual, "towpath, threads");
        verdict("loaders that the binary needs", f64::from(u32::from(needs_loader(&content))), 0.0, "");
        verdict("threads and processes that an ADD makes", self.started_by_add(&place), 0.0, "");
    }

    /// How many ids of threads and processes went to what an ADD started. Nobody else is in these namespaces.
    fn started_by_add(&self, place: &Place) -> f64 {
        let chain = self.chain(place);
        let netns = place.node.pods(1).remove(0);
        let pod = Pod { container: "alone".to_owned(), netns: &netns, host_port: Some(FIRST_PORT) };
        let started = place.node.enter(|| {
            let next = || {
                let mut child = std::process::Command::new("true").spawn().unwrap();
                let id = child.id();
                child.wait().unwrap();
                id
            };
            let before = next();
            let result = chain.add(&pod);
            let started = next() - before - 2;
            chain.delete(&pod, &result);
            started
        });
        f64::from(started)
    }
}

impl Entry<'_> {
    fn round(&mut self, container: String, host_port: Option<u16>) {
        let Self { chain, netns, add, check, delete } = self;
        chain.node.enter(|| {
            let pod = Pod { container, netns, host_port };
            let (result, sample) = measure(|| chain.add(&pod));
            add.push(sample);
            check.push(measure(|| chain.check(&pod, &result)).1);
            delete.push(measure(|| chain.delete(&pod, &result)).1);
        });
    }
}

struct Ratio<'r> {
    report: &'r mut Report,
    kind: &'r str,
}

impl Ratio<'_> {
    fn judge(self, verb: &str, ours: &Series, theirs: &Series, wall: f64, cpu: f64) {
        let Self { report, kind } = self;
        let mut verdict = |what: String, figure, bar| report.verdicts.push(Verdict { what, figure, bar, unit: "x" });
        let walls = of(ours, theirs, |series| series.median().wall.as_secs_f64());
        verdict(format!("{verb} ({kind}) against ptp, wall"), walls, wall);
        let cpus = of(ours, theirs, |series| series.median().cpu.as_secs_f64());
        verdict(format!("{verb} ({kind}) against ptp, CPU"), cpus, cpu);
    }
}

fn of(ours: &Series, theirs: &Series, value: impl Fn(&Series) -> f64) -> f64 {
    value(ours) / value(theirs)
}

fn rows(report: &mut Report, places: &[Place], entries: &[&Entry<'_>]) {
    for (verb, series) in [("ADD", 0), ("CHECK", 1), ("DEL", 2)] {
        for (place, entry) in places.iter().zip(entries) {
            let series = [&entry.add, &entry.check, &entry.delete][series].clone();
            report.rows.push(Row { what: format!("{verb}  {}", place.name), series, count: 1 });
        }
    }
}

fn crowd_rows(report: &mut Report, places: &[Place], all: &[Series], count: u32) {
    for (place, series) in places.iter().zip(all) {
        report.rows.push(Row { what: place.name.to_owned(), series: series.clone(), count });
    }
}

fn has_iptables() -> bool {
    std::process::Command::new("iptables").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Whether an ELF file of 64 bits names a loader among its program headers.
fn needs_loader(elf: &[u8]) -> bool {
    let number = |at: usize, size: usize| {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&elf[at..at + size]);
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    };
    let (headers, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    (0..count).any(|index| number(headers + index * size, 4) == PT_INTERP as usize)
}
