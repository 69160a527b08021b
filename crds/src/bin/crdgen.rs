//! Writes the definitions into `config/crd/`, or with `--check` says which of them are stale.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use towpath_crds::generate::{File, files};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/crd");
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => write(&folder),
        ["--check"] => check(&folder),
        _ => bail!("crdgen {}: the only argument is --check", arguments.join(" ")),
    }
}

fn write(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    for File { name, text } in files()? {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn check(folder: &Path) -> anyhow::Result<()> {
    let fresh = |file: &File, path: &PathBuf| std::fs::read_to_string(path).is_ok_and(|text| text == file.text);
    let all = files()?.into_iter().map(|file| (folder.join(&file.name), file));
    let stale: Vec<String> = all.filter(|(path, file)| !fresh(file, path)).map(|(_, file)| file.name).collect();
    if !stale.is_empty() {
        bail!("stale in config/crd: {}; run cargo run -p towpath-crds --bin crdgen", stale.join(", "));
    }
    Ok(())
}
