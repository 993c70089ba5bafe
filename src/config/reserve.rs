//! The disk reserve (`recorder.min_free_space`) as an operator writes it. `storage::disk_space` enforces it.

use std::fmt;
use std::str::FromStr;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
/// The default: the smaller of a size and a percentage of the file system.
const DEFAULT_SIZE: u64 = 5 * GIB;
const DEFAULT_PERCENT: f64 = 5.0;
/// A larger percentage would leave no space for recordings.
const PERCENT_MAX: f64 = 90.0;

/// `recorder.min_free_space`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Reserve {
    /// The smaller of 5 GiB and 5 % of the file system.
    #[default]
    Default,
    /// Bytes; 0: no reserve.
    Size(u64),
    /// Percent of the file system, 0…90.
    Percent(f64),
}

impl Reserve {
    /// Bytes that must stay free on a file system of `total` bytes; 0 disables the reserve.
    #[must_use]
    pub fn bytes(self, total: u64) -> u64 {
        match self {
            Self::Default => DEFAULT_SIZE.min(share(total, DEFAULT_PERCENT / 100.0)),
            Self::Size(bytes) => bytes,
            Self::Percent(percent) => share(total, percent / 100.0),
        }
    }
}

/// In a form that can be parsed again.
impl fmt::Display for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::Size(0) => write!(f, "0"),
            Self::Size(bytes) => {
                let units = [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
                match units.into_iter().find(|(unit, _)| bytes.is_multiple_of(*unit)) {
                    Some((unit, name)) => write!(f, "{}{name}", bytes / unit),
                    None => write!(f, "{bytes}B"),
                }
            }
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// What is allowed, for a text that is no [`Reserve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReserve {
    #[error(
        "a size like 5GiB or 500MB, a share of the disk like 5%, or 0 (off) is allowed (default: 5GiB or 5%, whichever is less)"
    )]
    Unknown,
    #[error("a size needs its unit (5GiB, 500MB, 2.5 GB); only 0 (off) goes without")]
    NoUnit,
    #[error("a share from 0% to {PERCENT_MAX}% is allowed")]
    Share,
    #[error("no disk is that large; a size up to 8 EiB is allowed")]
    Size,
}

impl FromStr for Reserve {
    type Err = InvalidReserve;

    /// Parses `5GiB`, `500MB`, `2.5 GB`, `5%`, `0` and `default`, ignoring case. `G` and `GB` are powers of ten, `Gi`
    /// and `GiB` powers of two (IEC 80000-13).
    fn from_str(text: &str) -> Result<Self, InvalidReserve> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("default") {
            return Ok(Self::Default);
        }
        let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let number: f64 = number.parse().map_err(|_| InvalidReserve::Unknown)?;
        let unit = unit.trim().to_ascii_lowercase();
        let scale = match unit.as_str() {
            "%" if number <= PERCENT_MAX => return Ok(Self::Percent(number)),
            "%" => return Err(InvalidReserve::Share),
            "" if number == 0.0 => return Ok(Self::Size(0)),
            "" => return Err(InvalidReserve::NoUnit),
            "b" => 1.0,
            "k" | "kb" => 1e3,
            "m" | "mb" => 1e6,
            "g" | "gb" => 1e9,
            "t" | "tb" => 1e12,
            "ki" | "kib" => 1024.0,
            "mi" | "mib" => 1024f64.powi(2),
            "gi" | "gib" => 1024f64.powi(3),
            "ti" | "tib" => 1024f64.powi(4),
            _ => return Err(InvalidReserve::Unknown),
        };
        let bytes = number * scale;
        // 2⁶³, which is exact.
        if bytes > 9_223_372_036_854_775_808.0 { Err(InvalidReserve::Size) } else { Ok(Self::Size(whole(bytes))) }
    }
}

/// A share of `bytes`, rounded down.
#[expect(clippy::cast_precision_loss, reason = "a few bytes of a disk do not matter")]
fn share(bytes: u64, share: f64) -> u64 {
    whole(bytes as f64 * share)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates; bytes are not negative")]
fn whole(bytes: f64) -> u64 {
    bytes as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: u64 = 1000 * GIB;

    #[test]
    fn a_reserve_is_a_size_or_a_share() {
        for (text, reserve) in [
            ("5GiB", Reserve::Size(5 * GIB)),
            ("500MB", Reserve::Size(500_000_000)),
            ("2.5 GB", Reserve::Size(2_500_000_000)),
            (" 1 tib ", Reserve::Size(TIB)),
            ("10g", Reserve::Size(10_000_000_000)),
            ("1.5Gi", Reserve::Size(3 * GIB / 2)),
            ("5%", Reserve::Percent(5.0)),
            ("2.5 %", Reserve::Percent(2.5)),
            ("0", Reserve::Size(0)),
            ("0.0", Reserve::Size(0)),
            ("Default", Reserve::Default),
        ] {
            assert_eq!(text.parse(), Ok(reserve), "{text}");
            assert_eq!(reserve.to_string().parse(), Ok(reserve), "{reserve}");
        }
        for (text, expected) in [
            ("", InvalidReserve::Unknown),
            ("lots", InvalidReserve::Unknown),
            ("-5GB", InvalidReserve::Unknown),
            ("5 parsec", InvalidReserve::Unknown),
            ("1.2.3GB", InvalidReserve::Unknown),
            ("1e9GB", InvalidReserve::Unknown),
            ("inf", InvalidReserve::Unknown),
            ("5", InvalidReserve::NoUnit),
            ("5000000000", InvalidReserve::NoUnit),
            ("91%", InvalidReserve::Share),
            ("99999999TB", InvalidReserve::Size),
        ] {
            assert_eq!(text.parse::<Reserve>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn the_default_is_the_smaller_of_a_size_and_a_share() {
        assert_eq!(Reserve::Default.bytes(DISK), 5 * GIB);
        assert_eq!(Reserve::Default.bytes(40 * GIB), 2 * GIB);
        assert_eq!(Reserve::Percent(10.0).bytes(40 * GIB), 4 * GIB);
        assert_eq!(Reserve::Size(7).bytes(DISK), 7);
    }
}
