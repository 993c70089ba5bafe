//! Byte counts for people. Pure.

use std::fmt;

const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// A byte count, displayed in a readable unit: `1.5 GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit =
            [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")].into_iter().find(|(unit, _)| self.0 >= *unit);
        let Some((unit, name)) = unit else { return write!(f, "{} B", self.0) };
        // Rounded down: a value below a limit must not be shown as the limit.
        let tenths = u128::from(self.0) * 10 / u128::from(unit);
        if tenths.is_multiple_of(10) {
            write!(f, "{} {name}", tenths / 10)
        } else {
            write!(f, "{}.{} {name}", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_shown_in_a_readable_unit() {
        for (bytes, shown) in
            [(0, "0 B"), (1023, "1023 B"), (5 * GIB - 1, "4.9 GiB"), (1536, "1.5 KiB"), (u64::MAX, "16777215.9 TiB")]
        {
            assert_eq!(ByteSize(bytes).to_string(), shown);
        }
    }
}
