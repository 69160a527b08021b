//! How much of a pod's traffic may pass.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits of one pod; a direction without one is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bandwidth {
    /// Of what goes to the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Limit>,
    /// Of what comes from the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Limit>,
}

/// A limit in one direction, as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limit {
    /// In bits per second, from [`Limit::LOWEST`] to [`Limit::HIGHEST`].
    pub rate: u64,
    /// What may pass at once after a pause, in bits; as little as is good for the rate where nothing is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
}

/// What the kernel's token bucket is told (`tc-tbf(8)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// In bytes per second.
    pub rate: u64,
    /// How many bytes pass at once after a pause.
    pub burst: u32,
    /// How many bytes may wait; what comes beyond is dropped.
    pub queue: u32,
}

/// What a bucket holds at the most, whatever was asked for: as much as passes in this time.
const LONGEST_BURST: Duration = Duration::from_millis(10);
/// But so much may always pass at once, in bytes: what a host hands to a link in one piece.
const SMALLEST_CAP: u64 = 64 * 1024;
/// How long a packet may wait; the same as in the reference plugin `bandwidth`.
const LATENCY: Duration = Duration::from_millis(25);
/// What an Ethernet frame has besides its MTU, in bytes.
const FRAME: u32 = 14;

impl Limit {
    /// The lowest rate in bits per second; as Kubernetes has it for its annotations.
    pub const LOWEST: u64 = 1_000;
    /// The highest rate in bits per second; as Kubernetes has it for its annotations.
    pub const HIGHEST: u64 = 1_000_000_000_000_000;

    /// The token bucket of a link whose MTU is so many bytes.
    ///
    /// Runtimes ask for the largest burst that their field holds (2^32-1 bits) where nobody said anything: with it,
    /// hundreds of megabytes would pass before the limit does anything, and could wait for minutes.
    pub fn bucket(&self, mtu: u32) -> Bucket {
        let rate = self.rate / 8;
        let cap = within(rate, LONGEST_BURST).max(SMALLEST_CAP);
        let burst = self.burst.filter(|bits| *bits > 0).map_or(cap, |bits| bits / 8).min(cap);
        // A frame that is larger than the bucket would never pass.
        let burst = burst.max(u64::from(mtu.saturating_add(FRAME)));
        Bucket { rate, burst: saturating(burst), queue: saturating(within(rate, LATENCY).saturating_add(burst)) }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bit/s", self.rate)
    }
}

/// How many bytes pass within a time.
fn within(rate: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(rate) * time.as_micros() / 1_000_000).unwrap_or(u64::MAX)
}

fn saturating(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(rate: u64, burst: Option<u64>) -> Bucket {
        Limit { rate, burst }.bucket(1500)
    }

    #[test]
    fn a_burst_never_passes_more_than_ten_milliseconds_or_64_kilobytes() {
        assert_eq!(
            bucket(8_000_000, Some(0xffff_ffff)),
            Bucket { rate: 1_000_000, burst: 65536, queue: 65536 + 25_000 }
        );
        assert_eq!(bucket(8_000_000_000, Some(0xffff_ffff)).burst, 10_000_000);
        assert_eq!(bucket(8_000_000_000, None), bucket(8_000_000_000, Some(0)));
    }

    #[test]
    fn a_small_burst_is_kept_but_lets_a_frame_pass() {
        assert_eq!(bucket(8_000_000, Some(80_000)).burst, 10_000);
        assert_eq!(bucket(8_000_000, Some(8)).burst, 1514);
    }

    #[test]
    fn the_highest_rate_fits_the_kernels_fields() {
        let Bucket { rate, burst, queue } = bucket(Limit::HIGHEST, Some(u64::MAX));
        assert_eq!((rate, burst, queue), (125_000_000_000_000, u32::MAX, u32::MAX));
    }
}
