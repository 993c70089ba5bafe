//! Which characters a browser draws as the box of a missing glyph, by their pixels. Pure.

use crate::check::report::Finding;

/// What the page draws first: a character that no font has (Unicode keeps it unassigned for ever).
pub const MISSING: &str = "\u{1ffff}";

/// A script, characters of it, and the Debian package that has a font for it.
pub struct Script {
    pub name: &'static str,
    pub characters: &'static [&'static str],
    pub package: &'static str,
}

/// In the order in which they are told.
pub const SCRIPTS: [Script; 4] = [
    Script { name: "Latin", characters: &["g", "ß", "ě"], package: "fonts-dejavu-core" },
    Script { name: "Chinese, Japanese, Korean", characters: &["漢", "か", "한"], package: "fonts-noto-cjk" },
    Script { name: "emoji", characters: &["😀", "👍"], package: "fonts-noto-color-emoji" },
    Script { name: "Arabic", characters: &["ع", "ش"], package: "fonts-dejavu-core" },
];

/// All characters, the missing one first.
pub fn characters() -> impl Iterator<Item = &'static str> {
    std::iter::once(MISSING).chain(SCRIPTS.iter().flat_map(|script| script.characters.iter().copied()))
}

/// Judges the pixels of each of [`characters`], in their order: bytes of equal number, of which zeros are blank.
#[must_use]
pub fn judge(pixels: &[Vec<u8>]) -> Finding {
    let expected = characters().count();
    let Some((missing, mut drawn)) = pixels.split_first().filter(|_| pixels.len() == expected) else {
        return Finding::fault("fonts", format!("Chrome has drawn {} characters, not {expected}", pixels.len()));
    };
    let mut lacking = Vec::new();
    for script in &SCRIPTS {
        let (of_script, rest) = drawn.split_at(script.characters.len());
        drawn = rest;
        if of_script.iter().any(|pixels| pixels == missing || pixels.iter().all(|byte| *byte == 0)) {
            lacking.push(script);
        }
    }
    if lacking.is_empty() {
        let names: Vec<&str> = SCRIPTS.iter().map(|script| script.name).collect();
        return Finding::ok("fonts", format!("Chrome draws {}", names.join(", ")));
    }
    let names: Vec<&str> = lacking.iter().map(|script| script.name).collect();
    let mut packages: Vec<&str> = lacking.iter().map(|script| script.package).collect();
    packages.dedup();
    let text = format!(
        "recordings will show boxes instead of {}: apt-get install {}",
        names.join(" and of "),
        packages.join(" ")
    );
    // Without Latin there is no meeting that can be read.
    if lacking.iter().any(|script| script.name == "Latin") {
        Finding::fault("fonts", text)
    } else {
        Finding::warning("fonts", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::report::Verdict;

    /// All drawn in their own way, but those that `like` says are as another.
    fn drawn(like: impl Fn(&str) -> Option<Vec<u8>>) -> Vec<Vec<u8>> {
        let own = |(n, character)| like(character).unwrap_or_else(|| vec![u8::try_from(n).unwrap() + 1; 8]);
        characters().enumerate().map(own).collect()
    }

    #[test]
    fn a_character_that_looks_like_the_missing_one_or_like_nothing_is_missing() {
        assert_eq!(judge(&drawn(|_| None)).verdict, Verdict::Ok);
        for (character, verdict, told) in [
            ("한", Verdict::Warning, "instead of Chinese, Japanese, Korean: apt-get install fonts-noto-cjk"),
            ("😀", Verdict::Warning, "emoji: apt-get install fonts-noto-color-emoji"),
            ("ش", Verdict::Warning, "Arabic"),
            ("g", Verdict::Fault, "Latin"),
        ] {
            for pixels in [vec![1; 8], vec![0; 8]] {
                let found = judge(&drawn(|drawn| (drawn == character).then(|| pixels.clone())));
                assert!(found.verdict == verdict && found.text.contains(told), "{character}: {found:?}");
            }
        }
        let two = judge(&drawn(|drawn| ["か", "👍"].contains(&drawn).then(|| vec![1; 8])));
        assert!(
            two.text.ends_with("Korean and of emoji: apt-get install fonts-noto-cjk fonts-noto-color-emoji"),
            "{two:?}"
        );
    }

    #[test]
    fn what_is_not_drawn_is_a_fault() {
        assert_eq!(judge(&[]).verdict, Verdict::Fault);
        assert_eq!(judge(&drawn(|_| None)[1..]).verdict, Verdict::Fault);
    }
}
