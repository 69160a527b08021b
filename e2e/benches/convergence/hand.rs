//! The same change by hand: a table of nftables on the node of the pod that is probed, and `nft -f`.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::probe::Verdict;

/// Writes by `nft -f`, on the calling thread, which is in the network of the node.
pub struct Hand {
    folder: TempDir,
}

impl Hand {
    /// The table, with a chain of the pod that lets the other through.
    pub fn make(from: IpAddr, to: IpAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let family = if from.is_ipv4() { "ip" } else { "ip6" };
        let allow = format!("add rule inet by-hand pod {family} saddr {from} accept\n");
        let make = format!(
            "add table inet by-hand\nadd chain inet by-hand pod\n\
             add chain inet by-hand forward {{ type filter hook forward priority 10; }}\n\
             add rule inet by-hand forward ct state established,related accept\n\
             add rule inet by-hand forward {family} daddr {to} jump pod\n"
        );
        let files = [
            ("make", make),
            ("Allowed", format!("flush chain inet by-hand pod\n{allow}add rule inet by-hand pod drop\n")),
            ("Denied", "flush chain inet by-hand pod\nadd rule inet by-hand pod drop\n".to_owned()),
            ("remove", "delete table inet by-hand\n".to_owned()),
        ];
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let hand = Self { folder };
        hand.load("make");
        hand.change(Verdict::Allowed);
        hand
    }

    /// Lets the other through, or does not.
    pub fn change(&self, verdict: Verdict) {
        self.load(match verdict {
            Verdict::Allowed => "Allowed",
            Verdict::Denied => "Denied",
        });
    }

    fn load(&self, name: &str) {
        nft(&self.folder.path().join(name));
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.load("remove");
    }
}

fn nft(file: &Path) {
    let output = Command::new("nft").arg("-f").arg(file).output().unwrap();
    assert!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
}
