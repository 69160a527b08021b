//! Why agents refuse what they were told.

use std::collections::BTreeMap;

use towpath_net::state::NodeName;

use super::lacks::Behind;

/// How much of a reason is kept, in bytes: it stands in conditions, of which each names several.
const LONGEST: usize = 200;

/// The agents that refuse what they were told last, and why.
#[derive(Debug, Default)]
pub struct Refusals(BTreeMap<NodeName, String>);

impl Refusals {
    /// An agent refuses what it was told.
    pub fn begin(&mut self, node: &NodeName, reason: &str) {
        self.0.insert(node.clone(), readable(reason));
    }

    /// An agent has taken what it was told, or is away.
    pub fn end(&mut self, node: &NodeName) {
        self.0.remove(node);
    }

    /// Whether the agent of a node refuses something.
    pub fn contains(&self, node: &NodeName) -> bool {
        self.0.contains_key(node)
    }

    /// How many agents refuse something.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The first of these nodes whose agent refuses something, and why.
    pub fn first_of(&self, behind: &Behind) -> Option<(&NodeName, &str)> {
        self.0.iter().find(|(node, _)| behind.contains_key(*node)).map(|(node, why)| (node, why.as_str()))
    }
}

/// One line, and not a long one: agents are not believed to write nothing else.
fn readable(reason: &str) -> String {
    let mut line: String = reason.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    if line.len() > LONGEST {
        line.truncate(line.floor_char_boundary(LONGEST));
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use towpath_control::server::Version;

    use super::*;

    #[test]
    fn the_first_node_that_refuses_is_named_with_its_reason() {
        let mut refusals = Refusals::default();
        refusals.begin(&"n1".into(), "of another policy");
        refusals.begin(&"n3".into(), "no\nspace");
        let behind = Behind::from([("n2".into(), Version(1)), ("n3".into(), Version(1))]);
        assert_eq!(refusals.first_of(&behind), Some((&"n3".into(), "no space")));
        refusals.end(&"n3".into());
        assert_eq!((refusals.first_of(&behind), refusals.len()), (None, 1));
    }

    #[test]
    fn a_long_reason_is_cut() {
        let mut refusals = Refusals::default();
        refusals.begin(&"n1".into(), &"é".repeat(5000));
        let behind = Behind::from([("n1".into(), Version(1))]);
        assert!(refusals.first_of(&behind).is_some_and(|(_, why)| why.len() < 210 && why.ends_with("é…")));
    }
}
