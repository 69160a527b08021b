use towpath_net::policy::input::Key;

use super::*;
use crate::policy::finding::{Finding, Problem};

/// A feeder that nothing watches for, and what it tells.
fn feeder() -> (Feeder, Feed) {
    let (out, changes) = mpsc::channel(WAITING);
    let (reporter, report) = watch::channel(Report::default());
    (Feeder::new(out, reporter), Feed { changes, report })
}

fn item(kind: Kind, name: &str, print: u64) -> Step {
    let change = kind.gone("stands for what it says");
    Step::Is(Item { name: name.into(), print, generation: 1, change, policy: None })
}

async fn steps(feeder: &mut Feeder, kind: Kind, steps: impl IntoIterator<Item = Step>) {
    for step in steps {
        assert!(feeder.step(kind, step).await.is_ok());
    }
}

fn told(feed: &mut Feed) -> Vec<Fed> {
    std::iter::from_fn(|| feed.changes.try_recv().ok()).collect()
}

#[tokio::test]
async fn what_vanished_between_two_lists_is_told_to_be_gone() {
    let (mut feeder, mut feed) = feeder();
    let pod = |name: &str| item(Kind::Pod, name, 1);
    steps(&mut feeder, Kind::Pod, [Step::Begun, pod("a/p"), pod("a/q"), Step::Listed]).await;
    assert_eq!(told(&mut feed).len(), 2);
    steps(&mut feeder, Kind::Pod, [Step::Begun, pod("a/q"), Step::Listed]).await;
    let gone = Key { namespace: "a".to_owned(), name: "p".to_owned() };
    assert_eq!(told(&mut feed), [Fed::Change(Change::PodGone(gone))]);
}

#[tokio::test]
async fn what_was_never_there_does_not_go() {
    let (mut feeder, mut feed) = feeder();
    steps(&mut feeder, Kind::Node, [Step::Gone("n1".into()), item(Kind::Node, "n1", 1), Step::Gone("n1".into())]).await;
    assert_eq!(told(&mut feed).len(), 2);
}

#[tokio::test]
async fn all_is_told_to_be_known_once_every_kind_was_listed() {
    let (mut feeder, mut feed) = feeder();
    for kind in Kind::ALL {
        assert_eq!(told(&mut feed), []);
        steps(&mut feeder, kind, [Step::Begun, Step::Listed]).await;
    }
    assert_eq!(told(&mut feed), [Fed::Whole]);
    steps(&mut feeder, Kind::Pod, [Step::Begun, Step::Listed]).await;
    assert_eq!(told(&mut feed), []);
}

#[tokio::test]
async fn policies_of_a_kind_that_is_not_defined_any_more_are_gone_and_not_reported() {
    let (mut feeder, mut feed) = feeder();
    let kind = Kind::ClusterNetworkPolicy;
    let finding = Finding { field: "spec".to_owned(), value: String::new(), problem: Problem::Field };
    let complaint = Complaint { uid: "u".to_owned(), findings: vec![finding] };
    let policy = kind.policy_id("p").map(|id| (id, complaint));
    let change = kind.gone("stands for what it says");
    let item = || Item { name: "p".into(), print: 1, generation: 3, change: change.clone(), policy: policy.clone() };
    steps(&mut feeder, kind, [Step::Begun, Step::Is(item()), Step::Listed]).await;
    let [Fed::Change(_), Fed::Written(name, written)] = &told(&mut feed)[..] else { panic!("the change comes first") };
    assert_eq!((name.as_str(), written.generation, written.is_for_nobody), ("p", 3, true));
    assert_eq!(feed.report.borrow().complaints().len(), 1);
    steps(&mut feeder, kind, [Step::Is(item()), Step::Is(Item { generation: 4, ..item() })]).await;
    assert!(matches!(&told(&mut feed)[..], [Fed::Written(_, written)] if written.generation == 4));
    assert!(feeder.undefined(kind).await.is_ok());
    assert_eq!(told(&mut feed), [Fed::Change(Change::ClusterPolicyGone("p".to_owned()))]);
    assert_eq!(feed.report.borrow().complaints().len(), 0);
}
