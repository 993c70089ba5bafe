//! Reads the end of a certificate's validity from its bytes (RFC 5280, 4.1). Pure.

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
/// The version field, which certificates of version 1 lack.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The last moment at which the certificate (DER) is valid, as RFC 3339 in UTC to the second, so that strings sort by
/// time. `None`: not a certificate.
#[must_use]
pub fn valid_until(certificate: &[u8]) -> Option<String> {
    let (signed, _) = element(certificate, SEQUENCE)?;
    let (fields, _) = element(signed, SEQUENCE)?;
    let rest = element(fields, VERSION).map_or(fields, |(_, rest)| rest);
    let (_serial, rest) = element(rest, INTEGER)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    let (_issuer, rest) = element(rest, SEQUENCE)?;
    let (validity, _) = element(rest, SEQUENCE)?;
    let (_from, rest) = time(validity)?;
    let (until, _) = time(rest)?;
    humantime::parse_rfc3339(&until).is_ok().then_some(until)
}

/// A time as RFC 3339, and the bytes after it.
fn time(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (text, rest, short) = match element(bytes, UTC_TIME) {
        Some((text, rest)) => (text, rest, true),
        None => element(bytes, GENERALIZED_TIME).map(|(text, rest)| (text, rest, false))?,
    };
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    // Years of two digits are 1950 to 2049.
    let text =
        if short { format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }) } else { text.to_owned() };
    let part = |from: usize, to: usize| text.get(from..to);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    Some((format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z"), rest))
}

/// The content of the element at the start of `bytes` if it has this tag, and the bytes after it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    if *found != tag {
        return None;
    }
    let (first, rest) = rest.split_first()?;
    let (length, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(*first & 0x7f))?;
        if digits.len() > size_of::<u32>() {
            return None;
        }
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of a certificate up to the validity, which are all that is read.
    fn certificate(version: &[u8], validity: &[u8]) -> Vec<u8> {
        let element = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
        let rest = [element(INTEGER, &[1]), element(SEQUENCE, &[]), element(SEQUENCE, &[])].concat();
        let fields = [version, &rest, &element(SEQUENCE, validity)].concat();
        element(SEQUENCE, &element(SEQUENCE, &fields))
    }

    #[test]
    fn both_spellings_of_a_time_are_read() {
        let utc = |text: &str| [&[UTC_TIME, 13], text.as_bytes()].concat();
        let long = |text: &str| [&[GENERALIZED_TIME, 15], text.as_bytes()].concat();
        let version = [VERSION, 3, INTEGER, 1, 2];
        let short = [utc("500102030405Z"), utc("491231235959Z")].concat();
        assert_eq!(valid_until(&certificate(&version, &short)).as_deref(), Some("2049-12-31T23:59:59Z"));
        let mixed = [utc("200102030405Z"), long("99991231235959Z")].concat();
        assert_eq!(valid_until(&certificate(&[], &mixed)).as_deref(), Some("9999-12-31T23:59:59Z"));
    }

    #[test]
    fn other_bytes_have_no_end_of_validity() {
        let good =
            certificate(&[], &[&[UTC_TIME, 13][..], b"200102030405Z", &[UTC_TIME, 13], b"300102030405Z"].concat());
        assert!(valid_until(&good).is_some());
        for end in 0..good.len() {
            assert_eq!(valid_until(&good[..end]), None, "{end}");
        }
        for bytes in [&[][..], &[0x30], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 0x89, 1], b"junk"] {
            assert_eq!(valid_until(bytes), None, "{bytes:?}");
        }
    }
}
