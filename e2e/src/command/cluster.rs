//! The verbs that change a lab or run something in it.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use super::{CommandError, NodeVerb, show};
use crate::{
    binaries::Binaries,
    config::{LabConfig, LabName},
    lab::{Lab, LabError, Manner, catch_interrupt},
    process::PATH,
    progress::Progress,
};

fn shown() -> Result<Manner, CommandError> {
    Ok(Manner { progress: Progress::shown(), interrupt: catch_interrupt()? })
}

fn quiet(name: &LabName) -> Result<Lab, CommandError> {
    Ok(Lab::open(name, &Manner::default())?)
}

pub(super) fn up(config: LabConfig) -> Result<ExitCode, CommandError> {
    let manner = shown()?;
    let lab = Lab::start(config, &manner)?;
    manner.progress.line(&format!("lab {} is up; its nodes wait for a pod network", lab.config().name));
    show::how_to_reach(&lab)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn down(name: LabName, all: bool) -> Result<ExitCode, CommandError> {
    let names = if all { Lab::names() } else { vec![name] };
    let progress = Progress::shown();
    for name in names {
        progress.step(&format!("lab {name} removed"), || Lab::remove(&name))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Becomes another program; returning means that it could not be started.
fn become_command(command: &mut Command) -> Result<ExitCode, CommandError> {
    let program = PathBuf::from(command.get_program());
    let source = command.exec();
    Err(LabError::Io { operation: "start", path: program, source }.into())
}

pub(super) fn kubectl(name: &LabName, arguments: &[String]) -> Result<ExitCode, CommandError> {
    become_command(quiet(name)?.kubectl_command().args(arguments))
}

pub(super) fn enter(name: &LabName, node: &str, arguments: &[String]) -> Result<ExitCode, CommandError> {
    let space = quiet(name)?.space(node)?;
    let shell = ["bash".to_owned()];
    let words = if arguments.is_empty() { &shell[..] } else { arguments };
    let Some((program, rest)) = words.split_first() else { return Ok(ExitCode::SUCCESS) };
    become_command(space.command(program).args(rest).env("PATH", PATH).env("HOME", "/root"))
}

pub(super) fn node(name: &LabName, verb: NodeVerb) -> Result<ExitCode, CommandError> {
    let lab = Lab::open(name, &shown()?)?;
    match verb {
        NodeVerb::Add { node } => drop(lab.node_add(node)?),
        NodeVerb::Remove { node } => lab.node_remove(&node)?,
        NodeVerb::Restart { node } => lab.node_restart(&node)?,
        NodeVerb::Readdress { node } => drop(lab.node_readdress(&node)?),
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn load_image(
    name: &LabName,
    archive: Option<PathBuf>,
    build: Option<PathBuf>,
    tag: &str,
) -> Result<ExitCode, CommandError> {
    let lab = Lab::open(name, &shown()?)?;
    match (archive, build) {
        (_, Some(folder)) => lab.build_and_load(&folder.join("Containerfile"), &folder, tag)?,
        (Some(archive), None) => lab.load_image(Path::new(&archive))?,
        (None, None) => {}
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn prepare(specs: bool) -> Result<ExitCode, CommandError> {
    let manner = shown()?;
    let binaries = Lab::prepare(&manner)?;
    if specs {
        Binaries::specs(&manner.progress).map_err(LabError::from)?;
    }
    println!("{}", binaries.folder().display());
    Ok(ExitCode::SUCCESS)
}

pub(super) fn binary(program: &str) -> Result<ExitCode, CommandError> {
    let path = Binaries::locate(program, &Progress::shown()).map_err(LabError::from)?;
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}
