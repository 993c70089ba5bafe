//! What programs say of their version, and whether that is one that this program knows. Pure.

use std::time::Duration;

use crate::check::report::Finding;

/// Of ffmpeg: what Debian 12 has, and the last one that the tests know.
const FFMPEG: std::ops::RangeInclusive<u32> = 5..=9;
/// Below 5.1 ffmpeg lacks options of the recording.
const FFMPEG_MINOR: u32 = 1;
/// The first PulseAudio whose null sink knows `norewinds`.
const PULSEAUDIO: u32 = 15;
/// Chrome gets security fixes every week or two.
const OLD_CHROME: Duration = Duration::from_secs(120 * 24 * 3600);
/// What recordings and MP4s are encoded by.
const ENCODERS: [&str; 2] = ["libx264", "aac"];

/// Major and minor number of the first word that begins with a digit; a missing minor number is 0.
#[must_use]
pub fn numbers(said: &str) -> Option<(u32, u32)> {
    let word = said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut numbers = word.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let major = numbers.next()?.ok()?;
    Some((major, numbers.next().and_then(Result::ok).unwrap_or(0)))
}

/// Judges `ffmpeg -version` and `ffmpeg -encoders`.
#[must_use]
pub fn ffmpeg(version: &str, encoders: &str) -> Finding {
    let first = version.lines().next().unwrap_or_default();
    let name = first.split(" Copyright").next().unwrap_or_default();
    let known = |encoder: &&str| encoders.lines().any(|line| line.split_whitespace().nth(1) == Some(encoder));
    let missing: Vec<&str> = ENCODERS.into_iter().filter(|encoder| !known(encoder)).collect();
    if !missing.is_empty() {
        let missing = missing.join(" and ");
        return Finding::fault("ffmpeg", format!("{name} lacks the encoder {missing}: apt-get install ffmpeg"));
    }
    // A build of its repository has a name instead: `ffmpeg version N-112345-g0123456`.
    let of_git = first.split_whitespace().nth(2).is_none_or(|word| !word.starts_with(|c: char| c.is_ascii_digit()));
    match numbers(first).filter(|_| !of_git) {
        Some((major, minor)) if (major, minor) < (*FFMPEG.start(), FFMPEG_MINOR) => Finding::fault(
            "ffmpeg",
            format!("{name} is too old, 5.1 or newer is needed: use Debian 12, Ubuntu 24.04 or newer"),
        ),
        Some((major, _)) if FFMPEG.contains(&major) => Finding::ok("ffmpeg", name),
        _ => Finding::warning(
            "ffmpeg",
            format!(
                "{name} is none that is known to work (5.1 to {}): record and play something before you trust it",
                FFMPEG.end()
            ),
        ),
    }
}

/// Judges `pulseaudio --version`.
#[must_use]
pub fn pulseaudio(version: &str) -> Finding {
    let name = version.lines().next().unwrap_or_default();
    match numbers(name) {
        Some((major, _)) if major >= PULSEAUDIO => Finding::ok("PulseAudio", name),
        Some(_) => {
            Finding::fault("PulseAudio", format!("{name} is too old, 15 or newer is needed: use Debian 12 or newer"))
        }
        None => {
            Finding::warning("PulseAudio", format!("it does not tell its version ({name:?}); 15 or newer is needed"))
        }
    }
}

/// Judges `chromium --version`, and how long ago its file was made.
#[must_use]
pub fn chrome(version: &str, age: Option<Duration>) -> Finding {
    let name = version.lines().next().unwrap_or_default().trim();
    let days = age.map(|age| age.as_secs() / (24 * 3600));
    match (age, days) {
        (Some(age), Some(days)) if age > OLD_CHROME => Finding::warning(
            "Chrome",
            format!(
                "{name} is {days} days old, and Chrome gets security fixes every week or two: apt-get update && apt-get upgrade"
            ),
        ),
        (_, Some(days)) => Finding::ok("Chrome", format!("{name}, {days} days old")),
        _ => Finding::ok("Chrome", name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::report::Verdict;

    const ALL: &str = " V....D libx264              libx264 H.264\n A....D aac                  AAC\n";

    #[test]
    fn ffmpeg_is_known_from_5_1_to_9_and_needs_its_encoders() {
        for (said, verdict) in [
            ("ffmpeg version 5.1.9-0+deb12u1 Copyright (c) 2000-2026 the FFmpeg developers", Verdict::Ok),
            ("ffmpeg version 9.0 Copyright", Verdict::Ok),
            ("ffmpeg version 6 Copyright", Verdict::Ok),
            ("ffmpeg version 5.0.3 Copyright", Verdict::Fault),
            ("ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright", Verdict::Fault),
            ("ffmpeg version 10.1 Copyright", Verdict::Warning),
            ("ffmpeg version N-112345-g0123456 Copyright (c) 2000-2026", Verdict::Warning),
            ("", Verdict::Warning),
        ] {
            assert_eq!(ffmpeg(said, ALL).verdict, verdict, "{said}");
        }
        let lacks = ffmpeg("ffmpeg version 7.1", " A....D aac  AAC\n V....D libx264rgb  x\n");
        assert!(lacks.verdict == Verdict::Fault && lacks.text.contains("lacks the encoder libx264:"), "{lacks:?}");
    }

    #[test]
    fn pulseaudio_is_15_or_newer() {
        assert_eq!(pulseaudio("pulseaudio 16.1\n").verdict, Verdict::Ok);
        assert_eq!(pulseaudio("pulseaudio 15.99.1-dirty").verdict, Verdict::Ok);
        assert_eq!(pulseaudio("pulseaudio 14.2").verdict, Verdict::Fault);
        assert_eq!(pulseaudio("").verdict, Verdict::Warning);
    }

    #[test]
    fn an_old_chrome_is_told() {
        let days = |days: u64| Some(Duration::from_secs(days * 24 * 3600));
        assert_eq!(chrome("Chromium 156.0.1", days(119)).text, "Chromium 156.0.1, 119 days old");
        assert_eq!(chrome("Chromium 156.0.1", days(400)).verdict, Verdict::Warning);
        assert_eq!(chrome("Google Chrome 140.0 \n", None), Finding::ok("Chrome", "Google Chrome 140.0"));
    }
}
