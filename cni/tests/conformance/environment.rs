//! The environment: C1, C2, C3, C7, C8 and C9.

use towpath_kernel::testing::isolated;

use crate::DUAL;
use crate::support::{Call, add, leases, netns, node, ping, sh, traces, write_file};

#[test]
fn c01_missing_variables_are_all_named() {
    assert!(Call::new("ADD").fail(4).contains("required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME] missing"));
    assert!(Call::new("CHECK").fail(4).contains("[CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME] missing"));
    assert!(Call::new("DEL").fail(4).contains("required env variables [CNI_CONTAINERID,CNI_IFNAME] missing"));
    let empty = Call::of("ADD", "a", "").with("CNI_IFNAME", "");
    assert!(empty.fail(4).contains("required env variables [CNI_NETNS,CNI_IFNAME] missing"));
}

#[test]
fn c02_ids_and_names_are_checked_by_the_verbs_that_need_them() {
    for id in ["../x", ".x", "-x", "a b", "ä", "a/b", "a:b"] {
        assert!(Call::of("ADD", id, "/x").fail(4).contains("CNI_CONTAINERID"), "{id}");
        assert!(Call::of("DEL", id, "/x").fail(4).contains("CNI_CONTAINERID"), "{id}");
    }
    for name in ["a/b", "a:b", "a b", "..", ".", "0123456789abcdef"] {
        assert!(Call::of("ADD", "x", "/x").with("CNI_IFNAME", name).fail(4).contains("CNI_IFNAME"), "{name}");
    }
    Call::new("VERSION").with("CNI_CONTAINERID", "../x").with("CNI_IFNAME", "a/b").succeed();
}

/// Upstream answers a call without a command with its name and a success, too: people and tools rely on it.
#[test]
fn c03_an_unknown_command_is_refused_and_none_at_all_is_told_what_this_is() {
    assert!(Call::new("DESTROY").fail(4).contains("unknown CNI_COMMAND \"DESTROY\""));
    for call in [Call::new(""), Call::new("").input("")] {
        let answer = call.run();
        assert_eq!((answer.status, answer.stdout.as_str()), (0, ""));
        assert!(answer.stderr.contains("Towpath CNI plugin"), "{}", answer.stderr);
        assert!(answer.stderr.contains("0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{}", answer.stderr);
    }
}

#[test]
fn c07_arguments_of_every_runtime_are_read_in_any_order() {
    isolated("environment::c07_arguments_of_every_runtime_are_read_in_any_order", || {
        node(&DUAL);
        let containerd =
            "K8S_POD_INFRA_CONTAINER_ID=0a1b;K8S_POD_UID=u;IgnoreUnknown=1;X=y=z;K8S_POD_NAME=p;K8S_POD_NAMESPACE=n";
        for (arguments, expected) in [
            (containerd, ("n", "p", "u")),
            ("IgnoreUnknown=true;K8S_POD_NAME=podman", ("", "podman", "")),
            ("K8S_POD_NAMESPACE=n;K8S_POD_NAME=p;", ("n", "p", "")),
        ] {
            let call = Call::of("ADD", "0a1b", &netns("a")).with("CNI_ARGS", arguments);
            call.with("TRACEPARENT", "00-0-0-00").succeed();
            let pod = leases().remove(0).pod.unwrap();
            assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_str()), expected);
            Call::of("DEL", "0a1b", "").with("CNI_ARGS", arguments).succeed();
            sh("ip netns del a");
        }
        add("nameless");
        assert_eq!(leases().remove(0).pod, None);
        assert!(Call::of("ADD", "x", "/x").with("CNI_ARGS", "A=1;B=2").fail(4).contains("unknown keys [A,B]"));
        assert!(Call::of("ADD", "x", "/x").with("CNI_ARGS", "A").fail(4).contains("\"A\", which is not KEY=VALUE"));
    });
}

/// Upstream looks only after ADD or DEL has run: by then the node's own links may be in a bridge.
#[test]
fn c08_the_plugins_own_namespace_is_refused_before_anything_is_made() {
    isolated("environment::c08_the_plugins_own_namespace_is_refused_before_anything_is_made", || {
        node(&DUAL);
        let before = traces();
        let message = Call::of("ADD", "a", "/proc/self/ns/net").fail(8);
        assert!(message.contains("the namespace that the plugin runs in"), "{message}");
        assert_eq!(traces(), before);
        // Who insists gets the kernel's word: a gateway cannot be on the pod's own side.
        let insisting = Call::of("ADD", "a", "/proc/self/ns/net").with("CNI_NETNS_OVERRIDE", "TRUE");
        assert!(insisting.fail(104).contains("in the pod: add route"));
        assert_eq!(traces(), before);
        // To detach, the namespace is not needed: it may be anything.
        add("a");
        Call::of("DEL", "a", "/proc/self/ns/net").succeed();
        assert_eq!(traces(), before);
    });
}

/// Upstream fails DEL here (999), frees the address, and leaves the link.
#[test]
fn c09_what_is_no_namespace_is_refused_by_add_and_gone_for_del() {
    isolated("environment::c09_what_is_no_namespace_is_refused_by_add_and_gone_for_del", || {
        node(&DUAL);
        write_file("/run/plain", "");
        let before = traces();
        let message = Call::of("ADD", "a", "/run/netns/none").fail(8);
        assert!(message.contains("there is nothing at this path"), "{message}");
        assert!(Call::of("ADD", "a", "/run/plain").fail(8).contains("not a namespace, but a plain file"));
        Call::of("ADD", "a", "/proc/self/ns/mnt").fail(8);
        assert_eq!(traces(), before);
        for path in ["/run/netns/none", "/run/plain", "/proc/self/ns/mnt"] {
            let result = add("a");
            ping("", result["ips"][0]["address"].as_str().unwrap().trim_end_matches("/24"));
            Call::of("DEL", "a", path).succeed();
            assert_eq!(traces(), before, "{path}");
            sh("ip netns del a");
        }
    });
}
