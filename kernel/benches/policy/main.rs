//! What policies cost in the kernel of a node, against the same ones written by hand for `nft -f`.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a benchmark ends where something fails")]

mod hand;
mod scene;

use std::time::Instant;
use towpath_kernel::policy::{Meanwhile, PolicyTable};

fn main() {
    for (policies, peers, ports) in [(10_000, 100_000, 20), (10_000, 100_000, 100)] {
        let start = Instant::now();
        let scene = scene::Scene::new(policies, peers, ports);
        println!(
            "compiled {:?}: {} sets {} profiles",
            start.elapsed(),
            scene.bundle.sets.len(),
            scene.bundle.profiles.len()
        );
        for _ in 0..3 {
            let mut table = PolicyTable::open().unwrap();
            let start = Instant::now();
            let written = table.load(&scene.bundle, &scene.leases, Meanwhile::Closed).unwrap();
            println!("load {:?} {written:?}", start.elapsed());
            let start = Instant::now();
            table.remove().unwrap();
            println!("remove {:?}", start.elapsed());
        }
        for d in [hand::Dispatch::ByPod, hand::Dispatch::Linear] {
            let text = hand::text(&scene.policies, d);
            let start = Instant::now();
            hand::load(&text);
            println!("by hand {:?} {}", start.elapsed(), text.len());
        }
    }
}
