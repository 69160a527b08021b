//! Rows of a profile: what a command shows, compared with what it should.

use towpath_e2e::rows::{Expected, Rows};

use crate::cluster::Cluster;

/// Where a command runs.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// On a node.
    Node(&'a str),
    /// In a pod.
    Pod(&'a str),
    /// Nowhere: `kubectl` with these words.
    Api,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Pod(name) => write!(f, "pod {name}"),
            Self::Api => f.write_str("kubectl"),
        }
    }
}

/// The rows of one profile, on a cluster.
pub struct Sheet<'a> {
    cluster: &'a Cluster,
    rows: Rows,
}

impl<'a> Sheet<'a> {
    /// An empty one.
    pub fn new(cluster: &'a Cluster, profile: &'static str) -> Self {
        Self { cluster, rows: Rows::new(profile) }
    }

    fn look(cluster: &Cluster, place: Place<'_>, command: &str) -> Result<String, String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let lab = &cluster.lab;
        match place {
            Place::Api => lab.kubectl(&words).map_err(|error| error.to_string()),
            Place::Pod(name) => {
                let output = lab.pod_exec("default", name, &words).map_err(|error| error.to_string())?;
                if output.success { Ok(output.stdout) } else { Err(output.stderr + &output.stdout) }
            }
            Place::Node(name) => {
                let output = lab.node(name).and_then(|node| node.exec(&words)).map_err(|error| error.to_string())?;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                if output.status.success() {
                    return Ok(text);
                }
                Err(String::from_utf8_lossy(&output.stderr).into_owned() + &text)
            }
        }
    }

    /// Compares what a command shows with what it should.
    pub fn row(&mut self, name: &str, place: Place<'_>, command: &str, expected: &Expected) {
        let Self { cluster, rows } = self;
        rows.row(name, &format!("{place}: {command}"), expected, || Self::look(cluster, place, command));
    }

    /// A row that somebody else has looked at.
    pub fn note(&mut self, name: &str, how: &str, verdict: Result<(), String>) {
        self.rows.note(name, how, verdict);
    }

    /// Fails where a row did, with all that did.
    #[track_caller]
    pub fn finish(self) {
        self.rows.finish();
    }
}
