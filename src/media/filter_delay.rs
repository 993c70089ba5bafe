//! Compensates the delay of audio filters: pure.
//!
//! `afftdn`, which is in the default options, outputs each sample 25 ms late (measured: ffmpeg 5.1 and 9.0, at 16, 44.1
//! and 48 kHz). The video is not filtered, so the sound would lag.

use std::borrow::Cow;

/// Filters and their delays in seconds.
const DELAYS: [(&str, f64); 1] = [("afftdn", 0.025)];

/// The operator's audio filters, followed by filters that bring sound and picture back in step, and preceded by one
/// that keeps the last samples from staying in the filter. Filters without delay are unchanged, and so is a graph with
/// links, of which the delayed part is unknown.
#[must_use]
pub fn without_delay(filters: &str) -> Cow<'_, str> {
    let delay: f64 = names(filters).map_or(0.0, |names| names.map(delay_of).sum());
    if delay == 0.0 {
        return Cow::Borrowed(filters);
    }
    Cow::Owned(format!("apad=pad_dur={delay},{filters},atrim=start={delay},asetpts=PTS-{delay}/TB"))
}

fn delay_of(name: &str) -> f64 {
    DELAYS.iter().find(|(delaying, _)| *delaying == name).map_or(0.0, |(_, delay)| *delay)
}

/// The names of a chain's filters in ffmpeg's notation: `name=options` or `name@label=options` between commas; quotes
/// and backslashes escape a comma. `None`: there is more than one chain, or links.
fn names(filters: &str) -> Option<impl Iterator<Item = &str>> {
    let (mut quoted, mut escaped) = (false, false);
    let mut begins = vec![0];
    for (at, c) in filters.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if !quoted => escaped = true,
            '\'' => quoted = !quoted,
            '[' | ']' | ';' if !quoted => return None,
            ',' if !quoted => begins.push(at + 1),
            _ => {}
        }
    }
    Some(begins.into_iter().map(|begin| {
        let rest = filters[begin..].trim_start();
        rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filters_delay_is_compensated() {
        let compensated = |filters: &str, delay: f64| {
            format!("apad=pad_dur={delay},{filters},atrim=start={delay},asetpts=PTS-{delay}/TB")
        };
        for one in ["afftdn", "highpass=f=200,lowpass=f=4000,afftdn", "afftdn=nf=-25, volume=2", " afftdn@quiet=nr=12"]
        {
            assert_eq!(without_delay(one), compensated(one, 0.025), "{one}");
        }
        assert_eq!(without_delay("afftdn,volume=2,afftdn"), compensated("afftdn,volume=2,afftdn", 0.05));
    }

    #[test]
    fn filters_without_delay_and_graphs_are_unchanged() {
        for theirs in [
            "",
            "anull",
            "volume=afftdn",
            "afftdnx",
            "ametadata=add:key='a,afftdn'",
            r"ametadata=add:key=a\,afftdn",
            "asplit[a][b];[a]afftdn[c];[b][c]amix",
        ] {
            assert_eq!(without_delay(theirs), theirs);
        }
    }
}
