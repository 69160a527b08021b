use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::policy::change::tests::bundle;

proptest! {
    #[test]
    fn digests_follow_changes_as_if_taken_anew(from in bundle(), to in bundle()) {
        let mut digests = Digests::of(&from);
        digests.follow(&Delta::between(&from, &to));
        prop_assert_eq!(&digests, &Digests::of(&to));
        prop_assert_eq!(digests.whole(), Digests::of(&to).whole());
    }

    #[test]
    fn a_node_that_comes_back_is_told_what_is_different_and_nothing_else(from in bundle(), to in bundle()) {
        let delta = Digests::of(&from).delta_to(&to);
        let mut at = from.clone();
        prop_assert_eq!(at.apply(delta.clone()), Ok(Delta::between(&from, &to)));
        prop_assert_eq!(delta.is_empty(), from == to);
        prop_assert_eq!(at, to);
    }

    #[test]
    fn bundles_with_one_digest_are_equal(from in bundle(), to in bundle()) {
        prop_assert_eq!(Digests::of(&from).whole() == Digests::of(&to).whole(), from == to);
    }
}

#[test]
fn digests_are_the_same_in_every_process_and_release() {
    let members = Members::Addresses([Ipv4Addr::new(10, 244, 0, 1).into(), Ipv4Addr::new(10, 244, 0, 2).into()].into());
    assert_eq!(Digest::of_members(&members), Digest(934_693_533_876_133_360));
}

#[test]
fn an_address_of_one_family_is_not_that_number_of_the_other() {
    let [v4, v6] = ["0.0.0.1", "::1"].map(|a| Members::Addresses(BTreeSet::from([a.parse().unwrap()])));
    assert_ne!(Digest::of_members(&v4), Digest::of_members(&v6));
}
