//! The section `rtmp`: where broadcasts may go, and for how long a far end that was lost is tried again.

use std::time::Duration;

use crate::config::reader::ConfigSection;
use crate::config::sections::RtmpConfig;

/// Default of `reconnect_for`: a restart of a server, or a change of its address.
const RECONNECT_FOR: Duration = Duration::from_secs(5 * 60);
const RECONNECT_FOR_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for RtmpConfig {
    fn default() -> Self {
        Self { reconnect_for: RECONNECT_FOR, adaptive: false, allowed_hosts: Vec::new() }
    }
}

impl RtmpConfig {
    /// Whether broadcasts may go to this host, a name or an address.
    #[must_use]
    pub fn allows(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.allowed_hosts.is_empty() || self.allowed_hosts.iter().any(|pattern| matches(pattern, &host))
    }
}

/// `*` stands for any characters, also none.
fn matches(pattern: &str, host: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = host.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

pub(super) fn read(root: &ConfigSection<'_>) -> RtmpConfig {
    let section = root.section("rtmp");
    let mut allowed_hosts = Vec::new();
    for item in section.list("allowed_hosts") {
        let Some(host) = item.filled_in("a host name or a pattern such as *.youtube.com") else { continue };
        if host.chars().all(|c| c.is_ascii_alphanumeric() || "-.:_*".contains(c)) {
            allowed_hosts.push(host.to_ascii_lowercase());
        } else {
            item.problem("is no host name and no pattern such as *.youtube.com: no scheme, port, path or user name");
        }
    }
    RtmpConfig {
        reconnect_for: section.duration("reconnect_for", Duration::ZERO..=RECONNECT_FOR_MAX, RECONNECT_FOR),
        adaptive: section.flag("adaptive", false),
        allowed_hosts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_allowed_by_name_and_by_pattern() {
        let allows = |patterns: &[&str], host: &str| {
            let allowed_hosts = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
            RtmpConfig { allowed_hosts, ..RtmpConfig::default() }.allows(host)
        };
        assert!(allows(&[], "anywhere.example"));
        let patterns = ["*.youtube.com", "live.example.com", "10.0.*", "*.live-*.net"];
        for host in ["a.rtmp.youtube.com", "A.RTMP.YouTube.com", "live.example.com", "10.0.3.4", "x.live-fra.net"] {
            assert!(allows(&patterns, host), "{host}");
        }
        for host in ["youtube.com", "youtube.com.evil.net", "xlive.example.com", "live.example.com.", "10.1.0.4", ""] {
            assert!(!allows(&patterns, host), "{host}");
        }
        assert!(allows(&["a*a"], "aa") && !allows(&["a*a"], "a"));
    }
}
