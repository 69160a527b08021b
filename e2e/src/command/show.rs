//! What is told of a lab.

use std::{
    io::{self, Write as _},
    net::IpAddr,
    path::Path,
    process::ExitCode,
};

use super::CommandError;
use crate::{
    config::LabName,
    lab::{ComponentStatus, Lab, LabError, Manner, Status, read},
    snapshot::{Aspect, HostSnapshot},
};

const MIB: u64 = 1 << 20;

fn joined(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",")
}

pub(super) fn how_to_reach(lab: &Lab) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let name = &lab.config().name;
    let port = Lab::OUTSIDE_PORT;
    writeln!(out, "\nexport KUBECONFIG={}", lab.kubeconfig().display())?;
    for node in lab.nodes() {
        writeln!(out, "  {:<14} {}", node.name.as_str(), joined(&node.addresses(lab.config())))?;
    }
    writeln!(out, "  {:<14} {} (http port {port})", "outside", joined(&lab.outside_addresses()))?;
    writeln!(
        out,
        "Enter a node: lab --name {name} enter n1    Look: lab --name {name} status    End: lab --name {name} down"
    )
}

pub(super) fn status(name: &LabName) -> Result<ExitCode, CommandError> {
    let lab = Lab::open(name, &Manner::default())?;
    let Status { components, nodes, processes, memory } = lab.status()?;
    let mut out = io::stdout().lock();
    writeln!(out, "{:<28} {:<9} {:>8} {:>8}", "COMPONENT", "STATE", "PID", "MIB")?;
    for ComponentStatus { id, process, alive, memory } in &components {
        let state = match (process, alive) {
            (None, _) => "stopped",
            (Some(_), true) => "running",
            (Some(_), false) => "dead",
        };
        let pid = process.map_or_else(String::new, |process| process.pid.to_string());
        writeln!(out, "{:<28} {state:<9} {pid:>8} {:>8}", id.to_string(), memory / MIB)?;
    }
    writeln!(out, "\n{:<28} ADDRESSES", "NODE")?;
    for (node, addresses) in &nodes {
        writeln!(out, "{:<28} {}", node.name.as_str(), joined(addresses))?;
    }
    writeln!(out, "\n{processes} processes, {} MiB in all. Logs: {}", memory / MIB, lab.folder().logs().display())?;
    let dead = components.iter().any(|component| component.process.is_some() && !component.alive);
    Ok(if dead { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub(super) fn snapshot(before: Option<&Path>, only: &[Aspect]) -> Result<ExitCode, CommandError> {
    let now = HostSnapshot::take().map_err(LabError::from)?;
    let mut out = io::stdout().lock();
    let Some(before) = before else {
        serde_json::to_writer_pretty(&mut out, &now).map_err(io::Error::from)?;
        return Ok(ExitCode::SUCCESS);
    };
    let difference = read::<HostSnapshot>(before)?.difference(&now).left_behind();
    let difference = difference.filtered(|aspect, _| only.is_empty() || only.contains(&aspect));
    write!(out, "{difference}")?;
    Ok(if difference.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
