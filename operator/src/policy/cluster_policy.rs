//! `ClusterNetworkPolicy`, as it is compiled.
//!
//! What is not understood fails closed, as the network policy API has it: a rule that accepts and is not understood matches
//! nothing; one that denies or passes denies everything in its place, and so does one whose action is not understood. Where
//! more than a rule is not understood (a tier, a priority, a field that is new), the policy denies everything in each
//! direction that it has rules for. A requirement of its subject that is not understood is left out, so that it is for
//! more pods rather than for fewer. Only a policy whose subject is none that is known is for nobody.

mod rule;
#[cfg(test)]
mod tests;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use towpath_crds::cluster_policy::{self as api, ClusterPolicySpec, Part};
use towpath_net::policy::input::{ClusterPolicy, ClusterRule, Selector, Subject, Tier};

use self::rule::{deny_all, egress, ingress};
use super::finding::{Finding, Findings, Path, Problem};
use super::parts::wide;

/// A policy as it is compiled, and what of it cannot be honoured. Without a policy where nobody can say whom it is for.
pub fn cluster_policy(name: String, spec: Part<ClusterPolicySpec>) -> (Option<ClusterPolicy>, Vec<Finding>) {
    let mut findings = Findings::default();
    let spec = understood(Some(spec), Path::SPEC, &mut findings);
    let policy = spec.and_then(|spec| policy(name, spec, &mut findings));
    (policy, findings.0)
}

fn policy(name: String, spec: ClusterPolicySpec, findings: &mut Findings) -> Option<ClusterPolicy> {
    let at = Path::SPEC;
    for field in spec.unknown.keys() {
        findings.add(at.field(field), "", Problem::Field);
    }
    let tier = understood(spec.tier, at.field("tier"), findings);
    let priority = understood(spec.priority, at.field("priority"), findings);
    let is_whole = findings.0.is_empty();
    let subject = understood(spec.subject, at.field("subject"), findings);
    let subject = subject.and_then(|raw| subject_of(raw, at.field("subject"), findings));
    let mut ingress = rules(spec.ingress, at.field("ingress"), findings, ingress);
    let mut egress = rules(spec.egress, at.field("egress"), findings, egress);
    if !is_whole {
        for rules in [&mut ingress, &mut egress].into_iter().filter(|rules| rules.written > 0) {
            rules.read = vec![deny_all(String::new())];
        }
    }
    Some(ClusterPolicy {
        name,
        tier: match tier {
            Some(api::Tier::Admin) | None => Tier::Admin,
            Some(api::Tier::Baseline) => Tier::Baseline,
        },
        priority: priority.unwrap_or_default(),
        subject: subject?,
        ingress: ingress.read,
        egress: egress.read,
    })
}

/// Something that must be there.
fn understood<T>(part: Option<Part<T>>, at: Path<'_>, findings: &mut Findings) -> Option<T> {
    match part {
        Some(Part::Understood(read)) => return Some(read),
        Some(Part::NotUnderstood(why)) => findings.add(at, why, Problem::NotUnderstood),
        None => findings.add(at, "", Problem::NotUnderstood),
    }
    None
}

/// Pods, by a function that reads selectors.
fn pods_by(
    written: (Option<LabelSelector>, Option<api::NamespacedPods>),
    at: Path<'_>,
    findings: &mut Findings,
    read: impl Fn(LabelSelector, Path<'_>, &mut Findings) -> Option<Selector>,
) -> Option<Subject> {
    match written {
        (Some(namespaces), None) => {
            let namespaces = read(namespaces, at.field("namespaces"), findings)?;
            Some(Subject { namespaces, pods: Selector::default() })
        }
        (None, Some(pods)) => {
            let at = at.field("pods");
            let namespaces = read(pods.namespace_selector, at.field("namespaceSelector"), findings);
            let pods = read(pods.pod_selector, at.field("podSelector"), findings);
            Some(Subject { namespaces: namespaces?, pods: pods? })
        }
        (None, None) | (Some(_), Some(_)) => {
            findings.add(at, "", Problem::Peer);
            None
        }
    }
}

fn subject_of(raw: api::Subject, at: Path<'_>, findings: &mut Findings) -> Option<Subject> {
    pods_by((raw.namespaces, raw.pods), at, findings, |raw, at, findings| Some(wide(raw, at, findings)))
}

/// The rules of a direction.
struct Rules {
    /// How many were written.
    written: usize,
    /// What they mean.
    read: Vec<ClusterRule>,
}

fn rules<T>(
    list: Vec<Part<T>>,
    at: Path<'_>,
    findings: &mut Findings,
    read: fn(T, Path<'_>, &mut Findings) -> Option<ClusterRule>,
) -> Rules {
    let written = list.len();
    let one = |(index, part)| {
        let at = at.item(index);
        match part {
            Part::Understood(rule) => read(rule, at, findings),
            Part::NotUnderstood(why) => {
                findings.add(at, why, Problem::NotUnderstood);
                Some(deny_all(String::new()))
            }
        }
    };
    Rules { written, read: list.into_iter().enumerate().filter_map(one).collect() }
}
