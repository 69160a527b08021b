use serde_json::json;

use super::*;

fn parse(verb: Verb, config: &Value) -> Result<Config, Error> {
    Config::parse(verb, config.to_string().as_bytes())
}

#[test]
fn what_is_not_a_json_object_is_refused() {
    for input in ["", "{", "[]", "null", "{} {}"] {
        assert!(matches!(Config::parse(Verb::Add, input.as_bytes()), Err(Error::NotJson(_))), "{input}");
    }
}

#[test]
fn only_exact_versions_are_taken_and_none_is_the_first() {
    let version = |version: &str| parse(Verb::Add, &json!({"cniVersion": version, "name": "n"}));
    for spoken in SpecVersion::ALL {
        assert_eq!(version(spoken.text()).unwrap().version, spoken);
    }
    for other in ["1.0", "9.9.9", "0.2.0", " 1.1.0"] {
        assert_eq!(version(other).unwrap_err(), Error::Version { found: other.to_owned() });
    }
    assert_eq!(parse(Verb::Add, &json!({"name": "n"})).unwrap_err(), Error::Version { found: "0.1.0".to_owned() });
    let message = version("9.9.9").unwrap_err().to_string();
    assert!(
        message.contains(r#"config is "9.9.9", plugin supports ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]"#),
        "{message}"
    );
}

#[test]
fn a_verb_needs_the_version_that_brought_it() {
    let with = |verb, version: &str| parse(verb, &json!({"cniVersion": version, "name": "n"}));
    with(Verb::Check, "0.4.0").unwrap();
    with(Verb::Status, "1.1.0").unwrap();
    for (verb, version) in [(Verb::Check, "0.3.1"), (Verb::CollectGarbage, "1.0.0"), (Verb::Status, "0.4.0")] {
        assert!(matches!(with(verb, version), Err(Error::VerbOfLaterVersion { .. })), "{verb} {version}");
    }
}

#[test]
fn a_network_has_a_name_and_unknown_keys_are_ignored() {
    for name in [json!(null), json!(7), json!(""), json!("-x"), json!("a b")] {
        let error = parse(Verb::Delete, &json!({"cniVersion": "1.0.0", "name": name})).unwrap_err();
        assert!(matches!(error, Error::Field { .. }), "{name}");
    }
    let config = json!({
        "cniVersion": "1.0.0", "name": "pod-network", "capabilities": {"x": true}, "dns": {}, "cni.dev/x": [],
        "runtimeConfig": {"bandWidth": {}},
    });
    let config = parse(Verb::Add, &config).unwrap();
    assert_eq!((config.name.as_str(), config.state), ("pod-network", PathBuf::from("/run/towpath")));
    assert!(parse(Verb::Add, &json!({"cniVersion": "1.0.0", "name": "n", "stateDir": "x"})).is_err());
}

#[test]
fn a_missing_list_of_attachments_is_not_an_empty_one() {
    let list = |key: &str, value: Value| {
        let mut config = json!({"cniVersion": "1.1.0", "name": "n"});
        config[key] = value;
        parse(Verb::CollectGarbage, &config).map(|config| config.listed)
    };
    let one = json!([{"containerID": "c", "ifname": "eth0"}]);
    let id = AttachmentId { container: "c".to_owned(), interface: "eth0".to_owned() };
    assert_eq!(list("x", json!([])).unwrap(), None);
    for empty in [json!([]), json!(null)] {
        assert_eq!(list("cni.dev/valid-attachments", empty).unwrap(), Some(BTreeSet::new()));
    }
    assert_eq!(list("cni.dev/valid-attachments", one.clone()).unwrap(), Some(BTreeSet::from([id.clone()])));
    assert_eq!(list("cni.dev/attachments", one).unwrap(), Some(BTreeSet::from([id])));
    assert!(list("cni.dev/valid-attachments", json!([{"containerID": "c"}])).is_err());
    assert!(list("cni.dev/valid-attachments", json!("x")).is_err());
}
