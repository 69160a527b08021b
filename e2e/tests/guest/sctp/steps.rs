//! What is done, as the files beside this one have it.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};
use serde_json::{Value, json};
use towpath_net::{Family, lease::Protocol};

use super::world::{Policy, World};

/// The tests of a file.
pub struct Tests(Vec<Run>);

/// Tests that go on from one another, with a policy of their own.
struct Run {
    policy: Policy,
    tests: Vec<(String, Test)>,
}

#[derive(Clone, Copy, Deserialize, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Admin,
    Baseline,
}

/// Of cluster-wide policies.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    /// The suite's name, by the tier in which its policy is. Only in the first there are rules that pass.
    suites: BTreeMap<Tier, String>,
    policy: Value,
    tests: Vec<Test>,
}

/// Of a `NetworkPolicy`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Namespaced {
    name: String,
    namespace: String,
    policy: Value,
    #[serde(default)]
    pass: Vec<Attempt>,
    #[serde(default)]
    drop: Vec<Attempt>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Test {
    name: String,
    /// In which alone it is.
    tier: Option<Tier>,
    /// Rules that change places first.
    #[serde(default)]
    swap: Vec<(Direction, usize, usize)>,
    /// A rule that comes before all others.
    #[serde(default)]
    put_first: BTreeMap<Direction, Value>,
    /// What comes through then.
    #[serde(default)]
    pass: Vec<Attempt>,
    /// What does not.
    #[serde(default)]
    drop: Vec<Attempt>,
}

#[derive(Clone, Copy, Deserialize, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    const fn field(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Who tries to reach whom.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub from: String,
    pub to: String,
    pub protocol: Protocol,
    pub port: u16,
}

impl FromStr for Attempt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split(' ').collect();
        let [from, to, protocol, port] = words[..] else { return Err(format!("FROM TO PROTOCOL PORT, not {text}")) };
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            other => return Err(format!("no protocol: {other}")),
        };
        let port = port.parse().map_err(|error| format!("{port}: {error}"))?;
        Ok(Self { from: from.to_owned(), to: to.to_owned(), protocol, port })
    }
}

impl<'de> Deserialize<'de> for Attempt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Tests {
    /// Of policies of the cluster.
    pub fn cluster(text: &str) -> Self {
        let suites: Vec<Suite> = serde_yaml_ng::from_str(text).unwrap();
        Self(suites.iter().flat_map(Suite::runs).collect())
    }

    /// Of policies of namespaces.
    pub fn namespaced(text: &str) -> Self {
        let tests: Vec<Namespaced> = serde_yaml_ng::from_str(text).unwrap();
        Self(tests.into_iter().map(Run::from).collect())
    }

    /// The names of all, as upstream's lists have them.
    pub fn names(&self) -> BTreeSet<String> {
        self.0.iter().flat_map(|run| &run.tests).map(|(name, _)| name.clone()).collect()
    }

    /// Does all; tells how often somebody was tried to be reached.
    pub fn run(self, world: &mut World) -> usize {
        self.0.into_iter().map(|run| run.run(world)).sum()
    }
}

impl Suite {
    fn runs(&self) -> impl Iterator<Item = Run> + use<'_> {
        self.suites.iter().map(|(tier, name)| {
            let is_for = |test: &&Test| test.tier.is_none_or(|only| only == *tier);
            let of_suite = |test: &Test| (format!("{name}/{}", test.name.replace(' ', "_")), test.clone());
            Run { policy: self.policy_of(*tier), tests: self.tests.iter().filter(is_for).map(of_suite).collect() }
        })
    }

    fn policy_of(&self, tier: Tier) -> Policy {
        let mut spec = self.policy.clone();
        spec["tier"] = json!(format!("{tier:?}"));
        spec["priority"] = json!(10);
        for direction in [Direction::Ingress, Direction::Egress].map(Direction::field) {
            if let Some(Value::Array(rules)) = spec.get_mut(direction) {
                rules.retain(|rule| tier == Tier::Admin || rule["action"] != "Pass");
            }
        }
        Policy::Cluster(spec)
    }
}

impl From<Namespaced> for Run {
    fn from(from: Namespaced) -> Self {
        let Namespaced { name, namespace, policy, pass, drop } = from;
        let policy = Policy::Namespaced { namespace, spec: policy };
        let test = Test { name: name.clone(), tier: None, swap: Vec::new(), put_first: BTreeMap::new(), pass, drop };
        Self { policy, tests: vec![(name, test)] }
    }
}

impl Run {
    fn run(mut self, world: &mut World) -> usize {
        let mut checks = 0;
        for (name, test) in self.tests {
            let spec = self.policy.spec();
            for (direction, one, other) in test.swap {
                spec[direction.field()].as_array_mut().unwrap().swap(one, other);
            }
            for (direction, rule) in test.put_first {
                spec[direction.field()].as_array_mut().unwrap().insert(0, rule);
            }
            world.set(&self.policy);
            let passing = test.pass.iter().map(|attempt| (attempt, true));
            for (attempt, expected) in passing.chain(test.drop.iter().map(|attempt| (attempt, false))) {
                for family in Family::ALL {
                    assert_eq!(world.reaches(attempt, family), expected, "{name}: {family:?}: {attempt:?}");
                    checks += 1;
                }
            }
        }
        world.unset(&self.policy);
        checks
    }
}
