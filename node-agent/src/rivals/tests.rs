use super::*;
use crate::paths::Paths;

const OURS: &str = "05-towpath.conflist";

fn candidates(files: &[(&str, &str)]) -> Vec<Candidate> {
    let candidate = |(file, text): &(&str, &str)| Candidate {
        file: (*file).to_owned(),
        content: parse(text.as_bytes(), file.ends_with(".conflist")),
    };
    files.iter().map(candidate).collect()
}

fn standings(files: &[(&str, &str)]) -> Vec<(String, Standing)> {
    judge(&candidates(files), OURS, "towpath").into_iter().map(|rival| (rival.file, rival.standing)).collect()
}

const TOWPATH: &str = r#"{"name": "towpath", "plugins": [{"type": "towpath"}]}"#;
const PODMAN: &str =
    r#"{"cniVersion": "0.4.0", "name": "podman", "plugins": [{"type": "bridge"}, {"type": "portmap"}]}"#;
const FLANNEL: &str = r#"{"name": "cbr0", "type": "flannel"}"#;

#[test]
fn a_file_before_ours_takes_the_pods_and_one_behind_ours_waits() {
    let found = standings(&[("00-a.conf", FLANNEL), (OURS, TOWPATH), ("87-podman-bridge.conflist", PODMAN)]);
    let expected = [("00-a.conf", Standing::First), ("87-podman-bridge.conflist", Standing::Behind)];
    assert_eq!(found, expected.map(|(file, standing)| (file.to_owned(), standing)));
}

#[test]
fn without_our_file_every_other_takes_the_pods() {
    assert_eq!(standings(&[("87-podman-bridge.conflist", PODMAN)])[0].1, Standing::First);
}

#[test]
fn a_damaged_file_is_fatal_before_ours_and_nothing_behind_it() {
    for text in ["", "{", "[]", r#"{"name": "a", "plugins": []}"#, r#"{"name": "a", "plugins": [{}]}"#] {
        let found = standings(&[("00-a.conflist", text), (OURS, TOWPATH), ("99-a.conflist", text)]);
        assert_eq!(found, [("00-a.conflist".to_owned(), Standing::Fatal)], "{text}");
    }
    // A list in a file that is read as a single plugin.
    assert_eq!(standings(&[("00-a.conf", PODMAN), (OURS, TOWPATH)])[0].1, Standing::Fatal);
}

#[test]
fn a_second_file_with_our_networks_name_is_found_and_a_wrapper_is_not() {
    let multus = r#"{"name": "multus-cni-network", "type": "multus-shim"}"#;
    let found = standings(&[("00-multus.conf", multus), (OURS, TOWPATH), ("10-towpath.conflist", TOWPATH)]);
    assert_eq!(found, [("10-towpath.conflist".to_owned(), Standing::SameName)]);
}

/// A folder with our file and these.
fn paths(root: &Path, files: &[(&str, &str)]) -> Paths {
    let paths = Paths {
        state: root.join("state"),
        lasting: root.join("lasting"),
        state_on_node: root.join("state"),
        cni_conf: root.join("net.d"),
        cni_bin: root.join("bin"),
        cni_binary: root.join("towpath"),
        sysctls: root.join("sys"),
    };
    fs::create_dir(&paths.cni_conf).unwrap();
    for (name, text) in files.iter().chain([&(OURS, TOWPATH)]) {
        write_old(&paths.cni_conf.join(name), text);
    }
    paths
}

fn write_old(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(path).unwrap().set_modified(hour_ago).unwrap();
}

fn rivals(paths: &Paths) -> Vec<Rival> {
    judge(&read(&paths.cni_conf).unwrap().candidates, OURS, "towpath")
}

#[test]
fn a_runtimes_folder_is_read_as_a_runtime_reads_it() {
    let root = tempfile::tempdir().unwrap();
    let paths =
        paths(root.path(), &[("87-b.conflist", PODMAN), ("10-a.conf", FLANNEL), ("notes.txt", "{"), ("x.json", "")]);
    fs::create_dir(paths.cni_conf.join("00-folder.conf")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, paths.cni_conf.join("01-pipe.conf"), rustix::fs::Mode::RUSR).unwrap();
    let names: Vec<String> = read(&paths.cni_conf).unwrap().candidates.into_iter().map(|c| c.file).collect();
    assert_eq!(names, [OURS, "10-a.conf", "87-b.conflist", "x.json"]);
}

#[test]
fn a_file_that_is_being_written_is_read_again_before_it_is_called_damaged() {
    let root = tempfile::tempdir().unwrap();
    let paths = paths(root.path(), &[]);
    let file = paths.cni_conf.join("00-a.conf");
    fs::write(&file, "{").unwrap();
    let found = read(&paths.cni_conf).unwrap();
    assert!(found.unfinished && found.candidates.len() == 1, "{found:?}");
    write_old(&file, "{");
    assert_eq!(rivals(&paths)[0].standing, Standing::Fatal);
}

#[test]
fn what_is_moved_aside_is_found_by_its_name_and_put_back() {
    let root = tempfile::tempdir().unwrap();
    let paths = paths(root.path(), &[("10-a.conf", FLANNEL), ("87-b.conflist", PODMAN)]);
    let mut asides = Asides::load(&paths);
    for rival in rivals(&paths) {
        assert!(asides.put_aside(&paths, &rival).unwrap());
    }
    assert!(rivals(&paths).is_empty());
    assert_eq!(aside(&paths.cni_conf).unwrap(), ["10-a.conf", "87-b.conflist"]);
    // Whatever the agent knew is gone, and somebody put a newer file in the place of one.
    fs::remove_dir_all(&paths.state).unwrap();
    write_old(&paths.cni_conf.join("10-a.conf"), "newer");
    restore(&paths).unwrap();
    assert_eq!(fs::read_to_string(paths.cni_conf.join("10-a.conf")).unwrap(), "newer");
    assert_eq!(fs::read_to_string(paths.cni_conf.join("87-b.conflist")).unwrap(), PODMAN);
    assert_eq!(aside(&paths.cni_conf).unwrap(), ["10-a.conf"]);
}

#[test]
fn who_insists_on_a_file_is_not_fought_not_even_by_the_next_agent() {
    let root = tempfile::tempdir().unwrap();
    let paths = paths(root.path(), &[]);
    let mut moved = 0;
    for _ in 0..6 {
        write_old(&paths.cni_conf.join("00-a.conf"), FLANNEL);
        let rival = rivals(&paths).remove(0);
        moved += u32::from(Asides::load(&paths).put_aside(&paths, &rival).unwrap());
    }
    assert_eq!(moved, 3);
    assert_eq!(Asides::load(&paths).put_back(&rivals(&paths)[0]), 3);
}

#[test]
fn a_damaged_file_of_a_wrapper_is_told_of_and_never_moved() {
    let root = tempfile::tempdir().unwrap();
    let paths = paths(root.path(), &[("00-multus.conf", "{")]);
    let rival = rivals(&paths).remove(0);
    assert_eq!(rival.standing, Standing::Fatal);
    assert!(!Asides::load(&paths).put_aside(&paths, &rival).unwrap());
}
