//! The client's error page and its meaning (PROTOCOL 4): pure.

use serde::Deserialize;

/// Length limit of a cause taken from the page, in characters.
const CAUSE_LIMIT: usize = 300;

/// The content of the error page.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ErrorPage {
    /// The whole text.
    pub text: String,
    /// Whether the page has an input field: it asks for the key of an encrypted meeting.
    pub asks: bool,
    /// How long it has been shown after the meeting, in milliseconds. `None`: the page was not in the meeting before.
    pub since_ms: Option<f64>,
}

/// The meaning of an error page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorPageMeaning {
    /// The meeting has ended, or its last participant has left.
    Ended,
    /// The meeting cannot be recorded; a retry does not help.
    Unrecordable,
    /// The page is not loaded before an operator does something; a meeting that is on may wait for that.
    Refused,
    /// The text does not tell whether the meeting continues (it is in the client's language): ask the server.
    Unclear,
}

/// Texts of plugNmeet's client, in lower case: the same in all languages, or those of its English version.
const ENDED: &[&str] = &["no_user_online", "the meeting has ended", "this room is not active"];
const SECURITY_KEY: &str = "enter security key";
const NO_HTTPS: &str = "secure connection required";

impl ErrorPage {
    #[must_use]
    pub fn meaning(&self) -> ErrorPageMeaning {
        let text = self.text.to_lowercase();
        if self.asks || text.contains(SECURITY_KEY) || text.contains(NO_HTTPS) {
            ErrorPageMeaning::Unrecordable
        } else if ENDED.iter().any(|text_line| text.contains(text_line)) {
            ErrorPageMeaning::Ended
        } else {
            ErrorPageMeaning::Unclear
        }
    }

    /// The page's text as one line (heading, colon, text), with advice where there is a remedy.
    #[must_use]
    pub fn cause(&self) -> String {
        let text_line = text_line(&self.text);
        let text = self.text.to_lowercase();
        if text.contains(NO_HTTPS) {
            return format!(
                "{text_line} (the page works on https:// only, or on http://localhost: set plugNmeet_info.host or join_host)"
            );
        }
        if self.asks || text.contains(SECURITY_KEY) {
            return format!(
                "{text_line} (the meeting is encrypted with a key that its participants type: it cannot be recorded)"
            );
        }
        text_line
    }
}

fn text_line(text: &str) -> String {
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
    fn known_error_pages_have_their_meaning() {
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
        // In another language the input field decides.
        let asks = ErrorPage { asks: true, ..page("Sicherheitsschlüssel eingeben") };
        assert_eq!(asks.meaning(), ErrorPageMeaning::Unrecordable);
        assert!(
            asks.cause().starts_with("Sicherheitsschlüssel eingeben (the meeting is encrypted"),
            "{}",
            asks.cause()
        );
    }

    #[test]
    fn the_cause_quotes_the_pages_text() {
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
