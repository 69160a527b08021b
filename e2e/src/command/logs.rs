//! Showing a component's log.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use super::CommandError;
use crate::{
    component::{Component, ComponentId},
    config::LabName,
    lab::{Lab, LabError, Manner},
};

const PERIOD: Duration = Duration::from_millis(200);

pub(super) fn show(name: &LabName, component: &str, follow: bool) -> Result<ExitCode, CommandError> {
    let lab = Lab::open(name, &Manner::default())?;
    let id: ComponentId = component.parse().map_err(LabError::from)?;
    let path = Component::load(&id, &lab.folder().records()).map_err(LabError::from)?.launch.log;
    let mut log = fs::File::open(&path).map_err(|source| LabError::Io { operation: "open", path, source })?;
    let mut out = io::stdout().lock();
    loop {
        // The end of a file is where it was; what is added later is read by the next round.
        let mut text = Vec::new();
        log.read_to_end(&mut text)?;
        match out.write_all(&text).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            other => other?,
        }
        if !follow || !lab.folder().path().exists() {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(PERIOD);
    }
}
