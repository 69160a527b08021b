//! What the kernel says of this process.

/// How much of its memory is in the machine's, in bytes (`VmRSS` of `/proc/self/status`, proc(5), in kB); nothing where the
/// kernel does not say.
pub fn resident_bytes() -> Option<u64> {
    resident(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_what_the_kernel_says() {
        assert_eq!(resident("VmPeak:\t  99 kB\nVmRSS:\t    12 kB\nThreads:\t3\n"), Some(12 * 1024));
        assert_eq!(resident("Threads:\t3\n"), None);
        assert!(resident_bytes().is_some_and(|bytes| bytes > 0));
    }
}
