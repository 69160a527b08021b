//! The same policies as text for `nft -f`: a chain for each.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::scene::{PODS, Policy, local};

/// How packets find the chains of their policies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dispatch {
    /// By a map from the pod to a chain that goes through its policies.
    ByPod,
    /// One rule for each policy, one after the other.
    Linear,
}

/// The table as text.
pub fn text(policies: &[Policy], dispatch: Dispatch) -> String {
    let mut text = String::from("add table inet by-hand\ndelete table inet by-hand\ntable inet by-hand {\n");
    for (at, policy) in policies.iter().enumerate() {
        let peers: Vec<String> = policy.peers.iter().map(ToString::to_string).collect();
        let (port, peers) = (policy.port, peers.join(", "));
        // Sets with names are quicker for `nft` than those without.
        if !peers.is_empty() {
            writeln!(text, " set peers-{at} {{\n  type ipv4_addr\n  elements = {{ {peers} }}\n }}").unwrap();
            writeln!(text, " chain policy-{at} {{\n  tcp dport {port} ip saddr @peers-{at} accept\n }}").unwrap();
        }
    }
    if dispatch == Dispatch::ByPod {
        for pod in 0..PODS {
            writeln!(text, " chain pod-{pod} {{").unwrap();
            for (at, _) in policies.iter().enumerate().filter(|(_, policy)| policy.pod == pod) {
                writeln!(text, "  jump policy-{at}").unwrap();
            }
            writeln!(text, "  drop\n }}").unwrap();
        }
    }
    text += " chain forward {\n  type filter hook forward priority filter\n  ct state established,related accept\n";
    match dispatch {
        Dispatch::ByPod => {
            let elements: Vec<String> = (0..PODS).map(|pod| format!("{} : goto pod-{pod}", local(pod))).collect();
            writeln!(text, "  ip daddr vmap {{ {} }}", elements.join(", ")).unwrap();
        }
        Dispatch::Linear => {
            for (at, policy) in policies.iter().enumerate() {
                writeln!(text, "  ip daddr {} jump policy-{at}", local(policy.pod)).unwrap();
            }
            let all: Vec<String> = (0..PODS).map(|pod| local(pod).to_string()).collect();
            writeln!(text, "  ip daddr {{ {} }} drop", all.join(", ")).unwrap();
        }
    }
    text + " }\n}\n"
}

/// Gives it to `nft`.
pub fn load(text: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "nft refuses the policies by hand");
}
