//! The part of a file that is asked for (RFC 9110, 14). Pure.

/// What to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it, with 200.
    All,
    /// From this byte to that one, with 206.
    Part { first: u64, last: u64 },
    /// 416.
    Nothing,
}

/// `range`: the header's value; `len`: bytes of the file. Several parts, other units and what cannot be read are answered
/// with all of it, as the RFC allows.
pub(super) fn wanted(range: Option<&str>, len: u64) -> Wanted {
    let Some(spec) = range.and_then(|range| range.strip_prefix("bytes=")) else { return Wanted::All };
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::All };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // One that is larger than any file is that.
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    match (first, number(first), last, number(last)) {
        (_, Some(first), "", _) if first < len => Wanted::Part { first, last: len - 1 },
        (_, Some(first), _, Some(last)) if last < first => Wanted::All,
        (_, Some(first), _, Some(last)) if first < len => Wanted::Part { first, last: last.min(len - 1) },
        ("", _, _, Some(count)) if count > 0 && len > 0 => {
            Wanted::Part { first: len.saturating_sub(count), last: len - 1 }
        }
        (_, Some(_), "", _) | (_, Some(_), _, Some(_)) | ("", _, _, Some(_)) => Wanted::Nothing,
        _ => Wanted::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_never_outside_of_the_file() {
        let part = |first, last| Wanted::Part { first, last };
        for (range, expected) in [
            ("bytes=0-", part(0, 99)),
            ("bytes=0-0", part(0, 0)),
            ("bytes=10-19", part(10, 19)),
            ("bytes=10-1000", part(10, 99)),
            ("bytes=99-", part(99, 99)),
            ("bytes=-1", part(99, 99)),
            ("bytes=-1000", part(0, 99)),
            ("bytes=5-99999999999999999999999", part(5, 99)),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=100-200", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=20-10", Wanted::All),
            ("bytes=0-1,5-6", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("bytes", Wanted::All),
            ("lines=1-2", Wanted::All),
            ("", Wanted::All),
        ] {
            assert_eq!(wanted(Some(range), 100), expected, "{range}");
        }
        assert_eq!(wanted(None, 100), Wanted::All);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Nothing);
        assert_eq!(wanted(Some("bytes=-5"), 0), Wanted::Nothing);
    }
}
