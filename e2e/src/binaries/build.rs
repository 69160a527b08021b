//! Building a module's programs into the cache: once, under a lock, aside and then renamed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    BinariesError, cache, go,
    module::{Carried, Module, Program, Verb},
};
use crate::{progress::Progress, run};

/// The folder with a module's programs, which are built when they are not there.
pub(super) fn module(module: &Module, progress: &Progress) -> Result<PathBuf, BinariesError> {
    let folder = cache()?.join("bin").join(module.key()?);
    if !folder.is_dir() {
        let go = go::find(module.go_version()?, progress)?;
        aside(&folder, |aside| build_all(module, &go, aside, progress))?;
    }
    Ok(folder)
}

/// Fills a folder under a lock beside it, in a folder aside that is renamed when all is there. What a killed process
/// left aside is removed first.
pub(crate) fn aside<E: From<BinariesError>>(folder: &Path, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let parent = folder.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(BinariesError::io("create", parent))?;
    let lock_path = folder.with_extension("lock");
    let lock = fs::File::create(&lock_path).map_err(BinariesError::io("create", &lock_path))?;
    lock.lock().map_err(BinariesError::io("lock", &lock_path))?;
    if folder.is_dir() {
        return Ok(());
    }
    let aside = folder.with_extension("new");
    clear(&aside)?;
    fs::create_dir(&aside).map_err(BinariesError::io("create", &aside))?;
    if let Err(error) = fill(&aside) {
        clear(&aside)?;
        return Err(error);
    }
    Ok(fs::rename(&aside, folder).map_err(BinariesError::io("rename", folder))?)
}

fn clear(folder: &Path) -> Result<(), BinariesError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(BinariesError::io("remove", folder)(error)),
        _ => Ok(()),
    }
}

fn build_all(module: &Module, go: &Path, folder: &Path, progress: &Progress) -> Result<(), BinariesError> {
    let source = folder.join("source");
    for (name, text) in module.files {
        let path = source.join(name);
        let parent = path.parent().unwrap_or(&source);
        fs::create_dir_all(parent).map_err(BinariesError::io("create", parent))?;
        fs::write(&path, text).map_err(BinariesError::io("write", &path))?;
    }
    let count = module.programs.len();
    for (index, program) in module.programs.iter().enumerate() {
        let title = format!("build {} ({} of {count} of module {})", program.name, index + 1, module.name);
        progress.long_step(&title, || build(module, program, go, &source, &folder.join(program.name)))?;
    }
    for file in module.carried {
        carry(file, go, &source, &folder.join(file.name))?;
    }
    fs::remove_dir_all(&source).map_err(BinariesError::io("remove", source))
}

/// Copies a file out of a module.
fn carry(file: &Carried, go: &Path, source: &Path, to: &Path) -> Result<(), BinariesError> {
    let mut command = Command::new(go);
    command.args(["list", "-m", "-f", "{{.Dir}}", file.module]).current_dir(source);
    let failed = |source| BinariesError::Build { program: file.name.to_owned(), source };
    let output = run::run(with_settings(&mut command)).map_err(failed)?;
    let from = Path::new(String::from_utf8_lossy(&output.stdout).trim()).join(file.path);
    fs::copy(&from, to).map(drop).map_err(BinariesError::io("copy", from))
}

/// The toolchain found is the toolchain used, and the modules are as their go.sum says.
fn with_settings(command: &mut Command) -> &mut Command {
    command.env("CGO_ENABLED", "0").env("GOWORK", "off").env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=readonly")
}

fn build(module: &Module, program: &Program, go: &Path, source: &Path, output: &Path) -> Result<(), BinariesError> {
    let mut command = Command::new(go);
    match module.verb {
        Verb::Build => command.arg("build"),
        Verb::Test => command.args(["test", "-c"]),
    };
    command.args(module.build_flags()?).arg("-o").arg(output).arg(program.package).current_dir(source);
    let failed = |source| BinariesError::Build { program: program.name.to_owned(), source };
    run::run(with_settings(&mut command)).map(drop).map_err(failed)
}
