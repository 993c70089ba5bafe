//! Texts that leave the operator's realm: users are shown why a recording has ended. Pure.

/// `text` with the last component only of each absolute path, `…/recording.mkv`: where a host keeps its files is not
/// for users. URLs stay as they are.
#[must_use]
pub fn without_directories(text: &str) -> String {
    let mut public = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('/') {
        let (before, path) = rest.split_at(at);
        public.push_str(before);
        let end = path.find(ends_path).unwrap_or(path.len());
        // A full stop or a colon behind a path belongs to the sentence.
        let (path, after) = path.split_at(path[..end].trim_end_matches(['.', ':']).len());
        let before = public.chars().next_back();
        let absolute = before.is_none_or(starts_path) && !(before == Some(':') && path.starts_with("//"));
        match path.trim_end_matches('/').rsplit_once('/') {
            Some((_, last)) if absolute => {
                public.push_str("…/");
                public.push_str(last);
            }
            _ => public.push_str(path),
        }
        rest = after;
    }
    public.push_str(rest);
    public
}

fn ends_path(c: char) -> bool {
    c.is_whitespace() || "\"'`()[]{}<>,;|".contains(c)
}

/// What stands before an absolute path, if anything.
fn starts_path(c: char) -> bool {
    ends_path(c) || matches!(c, '=' | ':')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn of_a_path_only_the_last_component_is_told() {
        for (text, public) in [
            ("cannot write to /srv/rec: Read-only file system", "cannot write to …/rec: Read-only file system"),
            ("/var/lib/x/a_raw.mkv: no such file.", "…/a_raw.mkv: no such file."),
            ("there is no /a/b.mp4, there is no /a/c.mp4", "there is no …/b.mp4, there is no …/c.mp4"),
            ("cannot start x (/opt/hooks/x.sh): gone", "cannot start x (…/x.sh): gone"),
            ("path=/srv/rec/ dir:/srv \"/a b\"", "path=…/rec dir:…/srv \"…/a b\""),
            ("https://meet.example.com/api: 502", "https://meet.example.com/api: 502"),
            ("rtmp://h:1935/[redacted] 5/min and I/O error", "rtmp://h:1935/[redacted] 5/min and I/O error"),
            ("in a/b/c.mp4, at / and //", "in a/b/c.mp4, at / and //"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(without_directories(text), public);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "[a/ :.\"é]{0,40}") {
            let public = without_directories(&text);
            prop_assert!(public.chars().filter(|c| *c == ' ').count() == text.chars().filter(|c| *c == ' ').count());
        }
    }
}
