//! The meeting's error page, and what it says of the meeting (PROTOCOL 4): pure.

use serde::Deserialize;

/// The longest cause taken from a page, in characters.
const CAUSE_LIMIT: usize = 300;

/// The error page as it stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ErrorPage {
    /// All of its text.
    pub text: String,
    /// It asks for something to be typed: the key of an encrypted meeting.
    pub asks: bool,
    /// For how long it has been shown, in milliseconds, where the page was in the meeting before.
    pub since_ms: Option<f64>,
}

/// What an error page means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorPageMeaning {
    /// The meeting has ended, or its last participant has left.
    Ended,
    /// The meeting cannot be recorded, however often it is tried.
    Unrecordable,
    /// Its words, which are in the client's language, do not tell whether the room goes on: the server does.
    Unclear,
}

/// Texts of plugNmeet's client that are the same in all languages, or that its English version has, in lower case.
const ENDED: &[&str] = &["no_user_online", "the meeting has ended", "this room is not active"];
const SECURITY_KEY: &str = "enter security key";
const NO_HTTPS: &str = "secure connection required";

impl ErrorPage {
    #[must_use]
    pub fn meaning(&self) -> ErrorPageMeaning {
        let text = self.text.to_lowercase();
        if self.asks || text.contains(SECURITY_KEY) || text.contains(NO_HTTPS) {
            ErrorPageMeaning::Unrecordable
        } else if ENDED.iter().any(|words| text.contains(words)) {
            ErrorPageMeaning::Ended
        } else {
            ErrorPageMeaning::Unclear
        }
    }

    /// The page's own words: its heading, a colon, its text; and what they mean to whoever can mend it.
    #[must_use]
    pub fn cause(&self) -> String {
        let words = words(&self.text);
        let text = self.text.to_lowercase();
        if text.contains(NO_HTTPS) {
            return format!(
                "{words} (the page works on https:// only, or on http://localhost: set plugNmeet_info.host or join_host)"
            );
        }
        if self.asks || text.contains(SECURITY_KEY) {
            return format!(
                "{words} (the meeting is encrypted with a key that its participants type: it cannot be recorded)"
            );
        }
        words
    }
}

fn words(text: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty())
        .collect();
    let cause = match lines.split_first() {
        None => "the meeting shows an error page without text".to_owned(),
        Some((heading, [])) => heading.clone(),
        Some((heading, text)) => format!("{}: {}", heading.trim_end_matches(':'), text.join(" ")),
    };
    cause.chars().take(CAUSE_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> ErrorPage {
        ErrorPage { text: text.into(), ..ErrorPage::default() }
    }

    #[test]
    fn the_pages_that_were_seen_have_their_meaning() {
        for (text, meaning) in [
            ("Disconnected\nThe meeting has ended.", ErrorPageMeaning::Ended),
            ("Disconnected:\nNO_USER_ONLINE", ErrorPageMeaning::Ended),
            ("Getrennt\nNO_USER_ONLINE", ErrorPageMeaning::Ended),
            ("Verification Failed!\nThis room is not active.", ErrorPageMeaning::Ended),
            ("Disconnected\nYou have been removed from the meeting", ErrorPageMeaning::Unclear),
            ("Disconnected\nYou were disconnected due to a network problem.", ErrorPageMeaning::Unclear),
            ("Verification Failed!\nYour session has expired", ErrorPageMeaning::Unclear),
            ("Getrennt\nDie Sitzung wurde beendet.", ErrorPageMeaning::Unclear),
            ("Secure Connection Required\n…", ErrorPageMeaning::Unrecordable),
            ("Enter Security Key…", ErrorPageMeaning::Unrecordable),
        ] {
            assert_eq!(page(text).meaning(), meaning, "{text}");
        }
        // In another language it is the field that tells.
        let asks = ErrorPage { asks: true, ..page("Sicherheitsschlüssel eingeben") };
        assert_eq!(asks.meaning(), ErrorPageMeaning::Unrecordable);
        assert!(
            asks.cause().starts_with("Sicherheitsschlüssel eingeben (the meeting is encrypted"),
            "{}",
            asks.cause()
        );
    }

    #[test]
    fn the_cause_is_in_the_pages_own_words() {
        assert_eq!(
            page("  Session ended \n\n The room was  closed\nby its host.\n").cause(),
            "Session ended: The room was closed by its host."
        );
        assert_eq!(page("Disconnected:\nNO_USER_ONLINE").cause(), "Disconnected: NO_USER_ONLINE");
        assert_eq!(page("").cause(), "the meeting shows an error page without text");
        assert_eq!(page(&"x".repeat(5_000)).cause().len(), CAUSE_LIMIT);
        assert!(page("Secure Connection Required").cause().contains("plugNmeet_info.host"));
    }
}
