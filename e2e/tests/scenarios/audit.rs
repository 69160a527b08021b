//! What Towpath asked the API server for: each scenario leaves it in the folder that `TOWPATH_AUDIT_FOLDER` names, where one is
//! named, to be compared with the roles.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

use serde_json::Value;
use towpath_e2e::Lab;

fn folder() -> Option<PathBuf> {
    env::var_os("TOWPATH_AUDIT_FOLDER").map(PathBuf::from)
}

/// Whose requests are to be written down: nobody's where nobody wants to know.
pub fn users() -> Vec<String> {
    if folder().is_none() {
        return Vec::new();
    }
    ["towpath-operator", "towpath-agent"].map(|name| format!("system:serviceaccount:towpath-system:{name}")).to_vec()
}

/// Writes down what was asked for in this lab, each kind of request once.
pub fn keep(lab: &Lab) {
    let Some(folder) = folder() else { return };
    let Ok(log) = File::open(lab.audit_log()) else { return };
    let requests: BTreeSet<String> =
        BufReader::new(log).lines().map_while(Result::ok).filter_map(|line| read(&line)).collect();
    let text: String = requests.into_iter().map(|request| request + "\n").collect();
    fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join(lab.config().name.as_str()), text)).unwrap();
}

/// A request, as far as roles are about it. What tests send in the name of an agent is not what agents ask for.
fn read(line: &str) -> Option<String> {
    let event: Value = serde_json::from_str(line).ok()?;
    let (object, code) = (&event["objectRef"], &event["responseStatus"]["code"]);
    let is_ours = event["userAgent"].as_str().is_none_or(|agent| !agent.starts_with("curl/"));
    let request = serde_json::json!({
        "user": event["user"]["username"],
        "verb": event["verb"],
        "group": object["apiGroup"].as_str().unwrap_or_default(),
        "resource": object["resource"],
        "subresource": object["subresource"],
        "name": object["name"],
        "code": code,
    });
    (is_ours && object.is_object()).then(|| request.to_string())
}
