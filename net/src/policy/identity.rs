//! What pods of a node are told apart by.
//!
//! That is `metadata.uid`, but for pods that the kubelet runs out of files (static pods): it names these to the runtime by a
//! hash of what the file says, and the pod that it shows of it in the API has a uid of its own, with that hash as annotation.
//! Annotations are written by whoever may make pods. So such a hash counts only together with namespace and name, on the node
//! of the pod: whoever copies one names nothing that runs.

use super::input::Key;
use crate::lease::PodReference;

/// The annotation of a pod that shows a static pod: the hash by which the kubelet names that one
/// (`pkg/kubelet/types`, `ConfigMirrorAnnotationKey`).
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// How long the hash is (MD5, in lower-case hexadecimal). No `metadata.uid` looks like that: they are UUIDs.
const HASH: usize = 32;

/// The longest, in bytes: a hash, a namespace (RFC 1123 label) and a name (RFC 1123 subdomain).
pub const LONGEST: usize = HASH + 1 + 63 + 1 + 253;

/// What a pod is told apart by that the runtime names so.
pub fn identity(uid: &str, key: &Key) -> String {
    if is_hash(uid) { format!("{uid}/{}/{}", key.namespace, key.name) } else { uid.to_owned() }
}

/// What the pod is told apart by that an object of the API stands for, with this annotation [`MIRROR`].
pub fn of_object(uid: String, mirror: Option<&str>, key: &Key) -> String {
    mirror.filter(|hash| is_hash(hash)).map_or(uid, |hash| identity(hash, key))
}

/// Whether a pod is a static one, by what it is told apart by.
pub fn is_static(identity: &str) -> bool {
    identity.contains('/')
}

fn is_hash(uid: &str) -> bool {
    uid.len() == HASH && uid.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl PodReference {
    /// What the pod is told apart by; nothing where the runtime did not tell it.
    pub fn identity(&self) -> Option<String> {
        let key = Key { namespace: self.namespace.clone(), name: self.name.clone() };
        (!self.uid.is_empty()).then(|| identity(&self.uid, &key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASHED: &str = "0123456789abcdef0123456789abcdef";
    const UID: &str = "5a4e3d5b-7b1f-4d3c-9a51-6c6f4f0a2b17";

    fn key(name: &str) -> Key {
        Key { namespace: "web".to_owned(), name: name.to_owned() }
    }

    fn reference(uid: &str) -> PodReference {
        PodReference { namespace: "web".to_owned(), name: "a".to_owned(), uid: uid.to_owned() }
    }

    #[test]
    fn a_static_pod_is_the_same_by_its_runtime_and_by_the_object_that_shows_it() {
        let shown = of_object(UID.to_owned(), Some(HASHED), &key("a"));
        assert_eq!(reference(HASHED).identity(), Some(shown.clone()));
        assert!(is_static(&shown) && shown.len() <= LONGEST);
    }

    #[test]
    fn other_pods_are_told_apart_by_their_uid() {
        assert_eq!(of_object(UID.to_owned(), None, &key("a")), UID);
        assert_eq!(reference(UID).identity().as_deref(), Some(UID));
        assert_eq!(reference("").identity(), None);
        assert!(!is_static(UID));
    }

    #[test]
    fn who_copies_a_hash_or_a_uid_into_the_annotation_names_no_other_pod() {
        let shown = of_object(UID.to_owned(), Some(HASHED), &key("b"));
        assert_ne!(reference(HASHED).identity(), Some(shown), "a pod of another name");
        for copied in [UID, "", "0123456789ABCDEF0123456789ABCDEF", "../../../0123456789abcdef0123456"] {
            assert_eq!(of_object("own".to_owned(), Some(copied), &key("b")), "own", "{copied}");
        }
    }
}
