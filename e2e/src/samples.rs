//! The files of `config/samples`, as they are tried.

/// A sample with the lines that dual stack needs, which stand there as comments.
///
/// # Panics
/// Where there are none.
#[must_use]
pub fn dual_stack(sample: &str) -> String {
    let uncommented = |line: &str| {
        let is_for_it = line.trim_start().starts_with("# ") && line.ends_with("# dual stack");
        if is_for_it { line.replacen("# ", "", 1) } else { line.to_owned() }
    };
    let changed = sample.lines().map(uncommented).collect::<Vec<_>>().join("\n");
    assert_ne!(changed.trim_end(), sample.trim_end(), "the sample says nothing of dual stack");
    changed
}
