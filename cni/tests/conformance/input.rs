//! Standard input and output: C4, C5, C6 and C10.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use towpath_kernel::testing::isolated;

use crate::DUAL;
use crate::support::{Call, config, leases, netns, node};

fn with(key: &str, value: Value) -> Call {
    let mut config = config();
    config[key] = value;
    Call::of("ADD", "a", "/run/netns/none").config(&config)
}

#[test]
fn c04_what_is_no_json_object_cannot_be_decoded() {
    for input in ["", "{", "[]", "null", "\"x\"", "{}}"] {
        for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            assert!(Call::of(verb, "a", "/x").input(input).fail(6).contains("not a JSON object"), "{verb} {input}");
        }
    }
}

#[test]
fn c04_unknown_keys_are_ignored() {
    isolated("input::c04_unknown_keys_are_ignored", || {
        node(&DUAL);
        let mut config = config();
        config["args"] = json!({"cni": {"labels": []}, "other": 1});
        config["cni.dev/unknown"] = json!(7);
        config["capabilities"]["unknown"] = json!(true);
        config["runtimeConfig"] = json!({"PortMappings": [], "aliases": {"towpath": ["x"]}});
        Call::of("ADD", "a", &netns("a")).config(&config).succeed();
        Call::of("DEL", "a", "").config(&config).succeed();
    });
}

#[test]
fn c04_what_cannot_be_used_is_named() {
    for name in [json!("a b"), json!(""), json!("-x"), json!(7), Value::Null] {
        assert!(with("name", name.clone()).fail(7).contains(&format!("name is {name}")));
    }
    assert!(with("stateDir", json!("run")).fail(7).contains("stateDir is \"run\""));
    let ports = json!({"portMappings": [{"HostPort": 99999, "ContainerPort": 1}]});
    assert!(with("runtimeConfig", ports).fail(7).contains("runtimeConfig.portMappings[0].hostPort is 99999"));
}

#[test]
fn c05_only_the_exact_text_of_a_version_is_spoken() {
    for version in ["9.9.9", "1.0", "1.1", "", "0.2.0", "0.1.0", "v1.1.0"] {
        let message = with("cniVersion", json!(version)).fail(1);
        assert!(message.contains(&format!("config is {version:?}, plugin supports [")), "{message}");
    }
    // The specification's first versions had no such key.
    let mut none = config();
    none.as_object_mut().unwrap().remove("cniVersion");
    assert!(Call::of("ADD", "a", "/x").config(&none).fail(1).contains("config is \"0.1.0\""));
    with("cniVersion", json!(1)).fail(7);
    let old = with("cniVersion", json!("0.4.0")).run();
    assert_eq!(old.document["cniVersion"], "0.4.0", "an error is in the configuration's version");
}

#[test]
fn c06_verbs_of_later_versions_are_refused() {
    for (verb, version) in [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0"), ("STATUS", "0.4.0")] {
        let mut old = config();
        old["cniVersion"] = json!(version);
        let message = Call::of(verb, "a", "/run/netns/a").config(&old).fail(1);
        assert!(message.contains(&format!("CNI version {version} has no {verb}")), "{message}");
    }
}

#[test]
fn c10_one_document_is_printed_and_nobody_listening_kills_nothing() {
    isolated("input::c10_one_document_is_printed_and_nobody_listening_kills_nothing", || {
        node(&DUAL);
        let answer = Call::of("ADD", "a", &netns("a")).succeed();
        assert_eq!(answer.stdout.trim_end().lines().count(), 1);
        assert!(answer.document.is_object());
        let refused = Call::of("ADD", "a", "/run/netns/a").run();
        assert_eq!((refused.stdout.trim_end().lines().count(), refused.stderr.as_str()), (1, ""));
        // The runtime has gone: no signal, and the attachment is whole.
        let mut child = Command::new(env!("CARGO_BIN_EXE_towpath"));
        child.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
        let path = netns("b");
        let variables = [("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "b"), ("CNI_IFNAME", "eth0")];
        let mut child = child.envs(variables).env("CNI_NETNS", path).spawn().unwrap();
        drop(child.stdout.take());
        child.stdin.take().unwrap().write_all(config().to_string().as_bytes()).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(1), None));
        assert_eq!(leases().len(), 2);
        Call::of("DEL", "b", "").succeed();
    });
}
