//! Nodes whose agents are connected to no replica.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use towpath_net::state::NodeName;

/// Nodes whose agents are connected to no replica, and since when.
#[derive(Debug, Default)]
pub struct Away(BTreeMap<NodeName, Instant>);

impl Away {
    /// The agent of a node is away from now on, if it was not before.
    pub fn went(&mut self, node: &NodeName, now: Instant) {
        if !self.0.contains_key(node) {
            self.0.insert(node.clone(), now);
        }
    }

    /// The agent of a node came, or there is no such node.
    pub fn ended(&mut self, node: &NodeName) {
        self.0.remove(node);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The nodes whose agents have been away for so long, by name.
    pub fn longer(&self, than: Duration, now: Instant) -> Vec<NodeName> {
        let all = self.0.iter().filter(|(_, since)| now.saturating_duration_since(**since) >= than);
        all.map(|(node, _)| node.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_away_since_it_went() {
        let (mut away, now) = (Away::default(), Instant::now());
        away.went(&"n1".into(), now);
        away.went(&"n2".into(), now);
        away.went(&"n1".into(), now + Duration::from_secs(9));
        away.ended(&"n2".into());
        assert!(away.longer(Duration::from_secs(10), now + Duration::from_secs(9)).is_empty());
        assert_eq!(away.longer(Duration::from_secs(10), now + Duration::from_secs(10)), ["n1".into()]);
    }
}
