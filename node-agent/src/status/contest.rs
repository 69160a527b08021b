//! What is claimed of other networks on a node.

use towpath_crds::conditions::{Claim, ConditionType};

use crate::paths::CONFLIST;
use crate::rivals::{Content, Rival, Rivals, Standing};
use crate::strangers::{Stranger, Strangers};

/// How many files are named.
const NAMED: usize = 5;
/// Why a network is uncontested.
pub const UNCONTESTED: &str = "Uncontested";
/// Why it is not: a file.
pub const CONFIGURATION: &str = "ForeignConfiguration";
/// Why it is not: pods that came up before.
pub const PODS: &str = "PodsOfAnotherNetwork";

/// The claim about other networks.
pub fn claim(rivals: &Rivals, strangers: &Strangers) -> Claim {
    let about = ConditionType::CNIUncontested;
    let contesting: Vec<&Rival> = rivals.contesting().collect();
    let mut said: Vec<String> = contesting.iter().take(NAMED).map(|rival| contests(rival)).collect();
    said.extend(more(contesting.len(), NAMED, "more CNI configurations like these"));
    said.extend(rivals.failure.clone());
    let reason = if !said.is_empty() {
        CONFIGURATION
    } else if strangers.total > 0 {
        PODS
    } else {
        UNCONTESTED
    };
    if strangers.total > 0 {
        said.push(pods(strangers));
    }
    said.extend(others(rivals));
    Claim::new(about, reason == UNCONTESTED, reason, said.join("; "))
}

/// What a file does, and what to do about it.
fn contests(rival: &Rival) -> String {
    let what = describe(rival);
    // One behind ours stands in the way only where ours is missing.
    let place = if rival.file.as_str() < CONFLIST { "comes before" } else { "is there without" };
    let told = match rival.standing {
        Standing::First => format!("{what} {place} {CONFLIST}, and pods join its network"),
        Standing::Fatal => format!("{what} {place} {CONFLIST}, and containerd starts no pod"),
        Standing::SameName | Standing::Behind => format!("{what} has the name of Towpath's network"),
    };
    match rival.put_back {
        0 => format!("{told}: remove it from the node, or set cniConfig.conflict of the ClusterNetwork to Rename"),
        times => format!("{told}; it was moved aside {times} times and put back each time: find what writes it"),
    }
}

fn describe(Rival { file, content, .. }: &Rival) -> String {
    match content {
        Content::Network { name, plugins } => format!("{file} (network {name}: {})", plugins.join(", ")),
        Content::Unusable { reason } => format!("{file} (unusable: {reason})"),
    }
}

fn pods(strangers: &Strangers) -> String {
    let named =
        strangers.named.iter().map(|Stranger { namespace, name, address }| format!("{namespace}/{name} ({address})"));
    let more = more(strangers.total, strangers.named.len(), "more");
    let all: Vec<String> = named.chain(more).collect();
    format!("delete these pods so that they come up with addresses of this network: {}", all.join(", "))
}

/// Files that do no harm as things are.
fn others(rivals: &Rivals) -> Vec<String> {
    let mut said = Vec::new();
    let behind: Vec<&Rival> = rivals.list.iter().filter(|rival| !rival.contests()).collect();
    if !behind.is_empty() {
        let named = behind.iter().take(NAMED).map(|rival| describe(rival));
        let all: Vec<String> = named.chain(more(behind.len(), NAMED, "more")).collect();
        said.push(format!("behind {CONFLIST}, and pods join it when that is not there: {}", all.join(", ")));
    }
    if !rivals.aside.is_empty() {
        let named = rivals.aside.iter().take(NAMED).cloned();
        let all: Vec<String> = named.chain(more(rivals.aside.len(), NAMED, "more")).collect();
        said.push(format!("moved aside until Towpath leaves the node: {}", all.join(", ")));
    }
    said
}

fn more(all: usize, named: usize, what: &str) -> Option<String> {
    let more = all.saturating_sub(named);
    (more > 0).then(|| format!("{more} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rival(file: &str, standing: Standing) -> Rival {
        let content =
            Content::Network { name: "podman".to_owned(), plugins: vec!["bridge".to_owned(), "portmap".to_owned()] };
        Rival { file: file.to_owned(), content, standing, put_back: 0 }
    }

    fn strangers(total: usize) -> Strangers {
        let stranger =
            |n: u8| Stranger { namespace: "default".to_owned(), name: format!("a{n}"), address: [10, 88, 0, n].into() };
        Strangers { named: (0..total.min(10)).filter_map(|n| u8::try_from(n).ok()).map(stranger).collect(), total }
    }

    fn said(list: Vec<Rival>, aside: &[&str], total: usize) -> (&'static str, String) {
        let rivals = Rivals { list, aside: aside.iter().map(ToString::to_string).collect(), failure: None };
        let claim = claim(&rivals, &strangers(total));
        (claim.reason, claim.message)
    }

    #[test]
    fn a_file_before_ours_is_named_with_its_network_and_what_to_do() {
        let (reason, message) = said(vec![rival("00-podman.conflist", Standing::First)], &[], 0);
        assert_eq!(reason, "ForeignConfiguration");
        assert_eq!(
            message,
            "00-podman.conflist (network podman: bridge, portmap) comes before 05-towpath.conflist, and pods join its \
             network: remove it from the node, or set cniConfig.conflict of the ClusterNetwork to Rename"
        );
    }

    #[test]
    fn pods_of_another_network_are_named_with_where_they_came_from() {
        let (reason, message) = said(vec![rival("87-podman-bridge.conflist", Standing::Behind)], &[], 12);
        assert_eq!(reason, "PodsOfAnotherNetwork");
        assert!(message.contains("default/a0 (10.88.0.0), default/a1 (10.88.0.1)"), "{message}");
        assert!(message.contains(", 2 more; behind 05-towpath.conflist, and"), "{message}");
        assert!(message.ends_with("87-podman-bridge.conflist (network podman: bridge, portmap)"), "{message}");
    }

    #[test]
    fn what_does_no_harm_is_told_and_contests_nothing() {
        assert_eq!(said(Vec::new(), &[], 0), ("Uncontested", String::new()));
        let (reason, message) = said(Vec::new(), &["87-podman-bridge.conflist"], 0);
        assert_eq!(
            (reason, message.as_str()),
            ("Uncontested", "moved aside until Towpath leaves the node: 87-podman-bridge.conflist")
        );
    }

    #[test]
    fn a_file_that_somebody_puts_back_is_told_of_differently() {
        let insisting = Rival { put_back: 3, ..rival("00-a.conf", Standing::First) };
        let (_, message) = said(vec![insisting], &[], 0);
        assert!(message.ends_with("moved aside 3 times and put back each time: find what writes it"), "{message}");
    }
}
