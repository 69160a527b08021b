use std::time::Duration;

use super::*;
use crate::policy::finding::Problem;

fn id(name: &str) -> PolicyId {
    PolicyId { kind: PolicyKind::NetworkPolicy, key: Key { namespace: "a".to_owned(), name: name.to_owned() } }
}

fn complaint(uid: &str, value: &str) -> Complaint {
    let finding = Finding {
        field: "spec.ingress[0].from[0].ipBlock.cidr".to_owned(),
        value: value.to_owned(),
        problem: Problem::Cidr,
    };
    Complaint { uid: uid.to_owned(), findings: vec![finding] }
}

#[test]
fn a_report_tells_what_changes_it() {
    let mut report = Report::default();
    assert!(!report.set(id("p"), None));
    assert!(!report.set(id("p"), Some(Complaint { uid: "1".to_owned(), findings: Vec::new() })));
    assert!(report.set(id("p"), Some(complaint("1", "x"))));
    assert!(!report.set(id("p"), Some(complaint("1", "x"))));
    assert!(report.set(id("p"), Some(complaint("2", "x"))));
    assert_eq!(report.complaints().len(), 1);
    assert!(report.set(id("p"), Some(Complaint { uid: "2".to_owned(), findings: Vec::new() })));
    assert_eq!(report, Report::default());
}

#[test]
fn the_condition_counts_policies_and_names_the_first() {
    let mut report = Report::default();
    let claim = report.claim();
    assert_eq!((claim.verdict.to_string().as_str(), claim.reason), ("True", "AllHonoured"));
    for n in 10..22 {
        report.set(id(&format!("p{n}")), Some(complaint("1", "x")));
    }
    let all = PolicyId {
        kind: PolicyKind::ClusterNetworkPolicy,
        key: Key { namespace: String::new(), name: "all".to_owned() },
    };
    report.set(all.clone(), Some(complaint("1", "x")));
    let claim = report.claim();
    assert_eq!((claim.verdict.to_string().as_str(), claim.reason), ("False", NOT_HONOURED));
    let start = "policies that are not honoured in full (13): NetworkPolicy a/p10, NetworkPolicy a/p11, ";
    assert!(claim.message.starts_with(start), "{}", claim.message);
    assert!(claim.message.contains("NetworkPolicy a/p19 and 3 more. "), "{}", claim.message);
    assert_eq!(all.to_string(), "ClusterNetworkPolicy all");
}

#[test]
fn each_policy_is_told_once_until_it_is_wrong_in_another_way() {
    let (mut report, mut told) = (Report::default(), Told::default());
    report.set(id("p"), Some(complaint("1", "x")));
    let news = told.news(&report, Instant::now());
    let note = "what is not understood lets nothing through: spec.ingress[0].from[0].ipBlock.cidr \"x\": is not a CIDR; \
                write it as in 10.0.0.0/8 or fd00::/8";
    assert_eq!(news[0].1, News { bad: true, reason: NOT_HONOURED.to_owned(), note: note.to_owned() });
    let about = ObjectReference {
        api_version: Some("networking.k8s.io/v1".to_owned()),
        kind: Some("NetworkPolicy".to_owned()),
        namespace: Some("a".to_owned()),
        name: Some("p".to_owned()),
        uid: Some("1".to_owned()),
        ..ObjectReference::default()
    };
    assert_eq!(news[0].0, about);
    assert!(told.news(&report, Instant::now()).is_empty());
    report.set(id("p"), Some(complaint("1", "y")));
    assert_eq!(told.news(&report, Instant::now()).len(), 1);
    report.set(id("p"), None);
    assert!(told.news(&report, Instant::now()).is_empty());
    report.set(id("p"), Some(complaint("1", "y")));
    assert_eq!(told.news(&report, Instant::now()).len(), 1);
}

#[test]
fn many_are_told_in_turns() {
    let (mut report, mut told) = (Report::default(), Told::default());
    for n in 0..30 {
        report.set(id(&format!("p{n}")), Some(complaint("1", "x")));
    }
    let start = Instant::now();
    let turns = [0, 0, 5, 30, 60].map(|second| told.news(&report, start + Duration::from_secs(second)).len());
    assert_eq!(turns, [20, 0, 5, 5, 0]);
}
