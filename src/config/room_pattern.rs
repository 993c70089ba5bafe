//! A pattern of room ids: `*` stands for any characters, also none, `?` for any one; it is held against the whole id. Pure.

use std::fmt;

/// The longest pattern, in characters: that of a room id.
const LONGEST: usize = crate::protocol::ids::MAX_LEN;

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomPattern(String);

impl RoomPattern {
    /// # Errors
    /// What is wrong with it: it could fit no room id.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '*' | '?');
        if text.is_empty() || text.len() > LONGEST {
            return Err(format!("a pattern has 1 to {LONGEST} characters"));
        }
        match text.chars().find(|c| !is_allowed(*c)) {
            Some(_) => Err("a pattern has the characters of room ids (letters, digits, - _ . :), * and ?".to_owned()),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// Whether it fits this room id.
    #[must_use]
    pub fn matches(&self, room: &str) -> bool {
        let (pattern, room) = (self.0.as_bytes(), room.as_bytes());
        let (mut p, mut r) = (0, 0);
        // Behind the last star, and where its characters end so far.
        let mut star: Option<(usize, usize)> = None;
        while r < room.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p + 1, r));
                    p += 1;
                }
                Some(c) if *c == b'?' || *c == room[r] => (p, r) = (p + 1, r + 1),
                _ => {
                    // The last star takes one more: earlier ones need not, as they have found their first place.
                    let Some((behind, end)) = star else { return false };
                    star = Some((behind, end + 1));
                    (p, r) = (behind, end + 1);
                }
            }
        }
        pattern[p..].iter().all(|c| *c == b'*')
    }
}

impl fmt::Display for RoomPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_whole_ids_only() {
        for (pattern, room, fits) in [
            ("acme", "acme", true),
            ("acme", "acme-1", false),
            ("acme-*", "acme-", true),
            ("acme-*", "acme-1:2", true),
            ("acme-*", "xacme-1", false),
            ("*", "anything", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*-a*b?", "x-a-aabbc", true),
            ("*-a*b?", "x-a-aab", false),
            ("a**b", "ab", true),
            ("*ab", "aab", true),
            ("?", "", false),
            ("A*", "acme", false),
        ] {
            assert_eq!(RoomPattern::parse(pattern).unwrap().matches(room), fits, "{pattern} {room}");
        }
        // Each star that is tried again would cost minutes.
        let stars = RoomPattern::parse(&"a*".repeat(60)).unwrap();
        assert!(!stars.matches(&"a".repeat(59)) && stars.matches(&"ab".repeat(60)));
    }

    #[test]
    fn what_could_fit_no_room_is_refused() {
        for text in ["", "a b", "[a-z]", "a/b", "ä"] {
            assert!(RoomPattern::parse(text).is_err(), "{text}");
        }
    }
}
