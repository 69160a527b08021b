//! Showing a component's log.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    process::ExitCode,
};

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

use super::CommandError;
use crate::{
    component::{Component, ComponentId},
    config::LabName,
    lab::{Lab, LabError, Manner},
};

pub(super) fn show(name: &LabName, component: &str, follow: bool) -> Result<ExitCode, CommandError> {
    let lab = Lab::open(name, &Manner::default())?;
    let id: ComponentId = component.parse().map_err(LabError::from)?;
    let path = Component::load(&id, &lab.folder().records()).map_err(LabError::from)?.launch.log;
    let failed = |operation| LabError::io(operation, path.clone());
    // Before the first look, so that nothing is missed between the two; the lab's end takes the file's name.
    let changes = init(CreateFlags::CLOEXEC).map_err(|error| failed("watch")(error.into()))?;
    add_watch(&changes, &path, WatchFlags::MODIFY | WatchFlags::ATTRIB)
        .map_err(|error| failed("watch")(error.into()))?;
    let mut log = fs::File::open(&path).map_err(failed("open"))?;
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
        rustix::io::read(&changes, &mut [0; 4096]).map_err(|error| failed("watch")(error.into()))?;
    }
}
