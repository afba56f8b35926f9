//! The memory of the machine: what there is, as the system says, and a limit from the command line as a number of bytes. The only file that
//! names `sysinfo`.

use sysinfo::{MemoryRefreshKind, System};

/// The bytes that may be taken besides those in use: what the system has available, less where a control group allows less; none where the
/// system does not say.
pub(super) fn available() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let available = system.available_memory();
    let allowed = system.cgroup_limits().map_or(u64::MAX, |limits| limits.free_memory);
    // Systems without such a number say 0.
    (available > 0).then(|| if allowed > 0 { available.min(allowed) } else { available })
}

/// A number of bytes: `8000000000`, `8e9`, `8GB`, `8GiB`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 9] = [
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("TiB", 1_099_511_627_776.0),
        ("kB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("TB", 1e12),
        ("B", 1.0),
    ];
    let text = text.trim();
    let unit = UNITS.into_iter().find_map(|(unit, factor)| text.strip_suffix(unit).map(|number| (number, factor)));
    let (number, factor) = unit.unwrap_or((text, 1.0));
    let number: f64 = number.trim().parse().map_err(|_| "expected a number of bytes, such as 8e9, 8GB or 8GiB".to_owned())?;
    let bytes = number * factor;
    if bytes >= 1.0 && bytes <= u64::MAX as f64 { Ok(bytes as u64) } else { Err("expected at least 1 byte".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_with_and_without_a_unit() {
        for (text, expected) in [("8000", 8000), ("8e9", 8_000_000_000), ("1.5 GiB", 1_610_612_736), ("2kB", 2000), ("7B", 7)] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "GB", "-1", "0", "nan", "1e300", "8 bytes"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_machine_has_memory() {
        assert!(available().is_none_or(|bytes| bytes > 1 << 20));
    }
}
