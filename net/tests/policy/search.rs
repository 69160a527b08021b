//! Random clusters and packets until something is wrong, and then the smallest cluster in which it is.

use std::env;

use fastrand::Rng;

use crate::generate::{self, Shape};
use crate::shrink::shrink;
use crate::world::{Packet, World};

/// How many packets are made for each that is wanted before a cluster is given up.
const TRIES: usize = 10;

/// What is looked at.
pub struct Search<'a> {
    /// How many packets in all, where `TOWPATH_CASES` does not say.
    pub cases: usize,
    /// How many of them in each cluster.
    pub packets: usize,
    /// What the clusters are like.
    pub shape: Shape,
    /// Which packets are of use.
    pub is_wanted: &'a dyn Fn(&Packet) -> bool,
}

impl Search<'_> {
    /// Begins with the cluster that `TOWPATH_SEED` makes, or with any. The judge tells of the first packet that is wrong in
    /// a cluster, and why.
    pub fn run(&self, judge: impl Fn(&World, &[Packet], u64) -> Option<(Packet, String)>) {
        let cases = from_environment("TOWPATH_CASES").map_or(self.cases, |cases| usize::try_from(cases).unwrap());
        let first = from_environment("TOWPATH_SEED").unwrap_or_else(|| fastrand::u64(..));
        println!("{cases} cases from TOWPATH_SEED={first} on");
        let (mut seed, mut done) = (first, 0);
        while done < cases {
            let (world, packets) = self.case(seed);
            if let Some((packet, _)) = judge(&world, &packets, seed) {
                let small = shrink(world, |smaller| judge(smaller, &[packet], seed).is_some());
                let why = judge(&small, &[packet], seed).map_or_else(String::new, |(_, why)| why);
                panic!("TOWPATH_SEED={seed} TOWPATH_CASES=1\n{small}{packet}\n{why}");
            }
            done += packets.len();
            seed = seed.wrapping_add(1);
        }
    }

    /// The cluster of a seed, and packets in it.
    fn case(&self, seed: u64) -> (World, Vec<Packet>) {
        let mut rng = Rng::with_seed(seed);
        let world = generate::world(&mut rng, self.shape);
        let packets = (0..self.packets * TRIES).map(|_| generate::packet(&mut rng, &world, self.shape));
        let packets = packets.filter(self.is_wanted).take(self.packets).collect();
        (world, packets)
    }
}

/// What the number in a variable is, if it is set.
fn from_environment(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name} must be a number, not '{text}': {error}")))
}
