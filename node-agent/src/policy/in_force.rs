//! How far each pod of the node has come.

use std::collections::BTreeMap;
use std::net::IpAddr;

use towpath_net::policy::admission::{Progress, Question};

/// Which pods have their policies in the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// Whether there is any policy; nothing before anybody told.
    pub is_enforced: Option<bool>,
    /// The pods that have addresses by their leases, by `metadata.uid`.
    pub pods: BTreeMap<String, Standing>,
}

/// A pod whose addresses the kernel knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its addresses, of all of its attachments.
    pub addresses: Vec<IpAddr>,
    /// How far it has come.
    pub progress: Progress,
}

impl InForce {
    /// How far the pod of a question has come, with just these addresses; nothing where the kernel does not know it yet.
    pub fn progress(&self, question: &Question) -> Option<Progress> {
        match self.is_enforced {
            None => None,
            // There is nothing that anybody could have been forbidden.
            Some(false) => Some(Progress::Known),
            Some(true) => {
                let standing = self.pods.get(&question.uid)?;
                let has_all = question.addresses.iter().all(|address| standing.addresses.contains(address));
                has_all.then_some(standing.progress)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_come_as_far_as_the_kernel_knows_all_of_its_addresses() {
        let question = |addresses: &[&str]| Question {
            attachment: "c/eth0".into(),
            uid: "u".into(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let (one, two) = (question(&["10.0.0.2"]), question(&["10.0.0.2", "10.0.0.3"]));
        let standing = Standing { addresses: one.addresses.clone(), progress: Progress::InForce };
        let mut in_force = InForce { is_enforced: None, pods: BTreeMap::from([("u".into(), standing)]) };
        assert_eq!(in_force.progress(&one), None, "nobody told whether there are policies");
        in_force.is_enforced = Some(true);
        assert_eq!(in_force.progress(&one), Some(Progress::InForce));
        assert_eq!(in_force.progress(&two), None, "a second attachment");
        assert_eq!(in_force.progress(&Question { uid: "other".into(), ..one }), None);
        in_force.is_enforced = Some(false);
        assert_eq!(in_force.progress(&two), Some(Progress::Known));
    }
}
