//! Masks secrets in everything that is logged. It works on finished lines, so secrets of any program or library are
//! masked.
//!
//! Two kinds are masked: registered secrets, complete and in pieces, and patterns that are always secret: JSON web
//! tokens, `access_token=…`, user and password in a URL, the stream key of an RTMP URL.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

/// Replacement of a secret.
const MASK: &str = "[redacted]";

/// Minimum length of a registered secret in bytes; masking a shorter one would mask half the log.
const SHORTEST: usize = 6;

/// Pieces of a secret of this length in bytes are masked as well, because programs cut long lines. The shorter rest of
/// a key of 20 letters leaves too much to guess (70 bits and more of a random one), and natural words are hardly ever
/// longer.
pub const PIECE: usize = 12;

static REGISTRY: RwLock<SecretRegistry> = RwLock::new(SecretRegistry::new());

/// Masks a secret as long as it lives.
#[derive(Debug)]
#[must_use = "the secret is masked only while the registration lives"]
pub struct SecretRegistration {
    forms: Vec<String>,
}

/// Masks `secret` in every line from now on, also if escaped (JSON, Rust's `{:?}`) or URL-encoded. A secret may be
/// registered several times. A secret of less than 6 bytes is not masked.
pub fn register(secret: &str) -> SecretRegistration {
    let forms = if secret.len() < SHORTEST { Vec::new() } else { forms_of(secret) };
    if !forms.is_empty() {
        REGISTRY.write().unwrap_or_else(PoisonError::into_inner).add(&forms);
    }
    SecretRegistration { forms }
}

impl Drop for SecretRegistration {
    fn drop(&mut self) {
        if !self.forms.is_empty() {
            REGISTRY.write().unwrap_or_else(PoisonError::into_inner).remove(&self.forms);
        }
    }
}

/// `text` with every secret masked. Takes one pass over the text, and no allocation if it has no secret.
pub fn scrub(text: &str) -> Cow<'_, str> {
    let mut secrets = Vec::new();
    REGISTRY.read().unwrap_or_else(PoisonError::into_inner).find(text, &mut secrets);
    find_web_tokens(text, &mut secrets);
    find_access_tokens(text, &mut secrets);
    find_in_urls(text, &mut secrets);
    if secrets.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(mask(text, secrets)) }
}

fn mask(text: &str, mut secrets: Vec<Range<usize>>) -> String {
    secrets.sort_by_key(|secret| secret.start);
    let mut clean = String::with_capacity(text.len());
    let mut done = 0;
    for secret in secrets {
        // Secrets that touch or overlap get one mask.
        if secret.start > done || done == 0 {
            clean.push_str(&text[done..secret.start]);
            clean.push_str(MASK);
        }
        done = done.max(secret.end);
    }
    clean.push_str(&text[done..]);
    clean
}

/// The spellings of a secret in a log: plain, URL-encoded, and quoted, which JSON may quote again.
fn forms_of(secret: &str) -> Vec<String> {
    let mut forms = vec![
        secret.to_owned(),
        in_json(secret),
        in_json(&in_json(secret)),
        secret.escape_debug().to_string(),
        in_json(&secret.escape_debug().to_string()),
        url::form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
    ];
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// `text` as between the quotes of a JSON string.
fn in_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(&quoted).to_owned()
}

/// The registered secrets. Every piece of a long secret is masked, and so the whole of it.
#[derive(Debug)]
struct SecretRegistry {
    /// Number of registrations of each text shorter than [`PIECE`].
    short: BTreeMap<String, usize>,
    /// Number of occurrences of each piece in the longer texts, by its hash.
    pieces: BTreeMap<u64, usize>,
    /// One bit per hash (of its highest bits), which rules out almost every position of a line by one lookup.
    bits: Vec<u64>,
}

/// Multiplier of the rolling hash: any large odd number.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// `FACTOR` to the power of [`PIECE`]: the weight of a piece's first byte when the next byte is added.
const FIRST_FACTOR: u64 = {
    let (mut factor, mut n) = (1_u64, 0);
    while n < PIECE {
        factor = factor.wrapping_mul(FACTOR);
        n += 1;
    }
    factor
};

/// The hashes of all pieces of a text, in order.
fn hashes(text: &[u8]) -> impl Iterator<Item = u64> {
    let mut hash = 0_u64;
    text.iter().enumerate().filter_map(move |(at, byte)| {
        hash = hash.wrapping_mul(FACTOR).wrapping_add(u64::from(*byte) + 1);
        if let Some(left) = at.checked_sub(PIECE) {
            hash = hash.wrapping_sub((u64::from(text[left]) + 1).wrapping_mul(FIRST_FACTOR));
        }
        (at + 1 >= PIECE).then_some(hash)
    })
}

/// Word and bit of a hash in an index of `words` words, a power of two.
fn hash_bit(hash: u64, words: usize) -> (usize, u64) {
    // The low bits of a hash depend on the last bytes only.
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(FACTOR) >> 24;
    (usize::try_from(mixed >> 6).unwrap_or(0) & (words - 1), 1 << (mixed & 63))
}

/// Extends a piece to character boundaries.
fn whole_characters(text: &str, mut piece: Range<usize>) -> Range<usize> {
    while !text.is_char_boundary(piece.start) {
        piece.start -= 1;
    }
    while !text.is_char_boundary(piece.end) {
        piece.end += 1;
    }
    piece
}

impl SecretRegistry {
    const fn new() -> Self {
        Self { short: BTreeMap::new(), pieces: BTreeMap::new(), bits: Vec::new() }
    }

    fn add(&mut self, forms: &[String]) {
        for form in forms {
            if form.len() < PIECE {
                *self.short.entry(form.clone()).or_insert(0) += 1;
            } else {
                hashes(form.as_bytes()).for_each(|hash| *self.pieces.entry(hash).or_insert(0) += 1);
            }
        }
        self.index();
    }

    fn remove(&mut self, forms: &[String]) {
        for form in forms {
            if form.len() < PIECE {
                remove_one(&mut self.short, form);
            } else {
                hashes(form.as_bytes()).for_each(|hash| remove_one(&mut self.pieces, &hash));
            }
        }
        self.index();
    }

    fn index(&mut self) {
        self.bits.clear();
        if self.pieces.is_empty() {
            return;
        }
        // 16 bits per hash.
        self.bits.resize((self.pieces.len() / 4).next_power_of_two().max(16), 0);
        let size = self.bits.len();
        for hash in self.pieces.keys() {
            let (word, bit) = hash_bit(*hash, size);
            self.bits[word] |= bit;
        }
    }

    fn find(&self, text: &str, secrets: &mut Vec<Range<usize>>) {
        for form in self.short.keys().map(String::as_bytes) {
            let places = text.as_bytes().windows(form.len()).enumerate().filter(|(_, window)| *window == form);
            secrets.extend(places.map(|(at, _)| at..at + form.len()));
        }
        if self.bits.is_empty() {
            return;
        }
        for (at, hash) in hashes(text.as_bytes()).enumerate() {
            if self.may_hold(hash) && self.pieces.contains_key(&hash) {
                secrets.push(whole_characters(text, at..at + PIECE));
            }
        }
    }

    fn may_hold(&self, hash: u64) -> bool {
        let (word, bit) = hash_bit(hash, self.bits.len());
        self.bits[word] & bit != 0
    }
}

fn remove_one<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// JSON web tokens (RFC 7519): `eyJ` is `{"` in base64url. A token without signature is masked too.
fn find_web_tokens(text: &str, secrets: &mut Vec<Range<usize>>) {
    // Minimum length of a token's header or payload, to ignore `eyJ` within words.
    const PART: usize = 8;
    if !text.contains("eyJ") {
        return;
    }
    let bytes = text.as_bytes();
    let part =
        |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_alphanumeric() || b"-_".contains(b)).count();
    let mut from = 0;
    while let Some(found) = text[from..].find("eyJ") {
        let start = from + found;
        let header = start + part(start);
        from = header;
        if header - start < PART || bytes.get(header) != Some(&b'.') {
            continue;
        }
        let payload = header + 1 + part(header + 1);
        if payload - header <= PART {
            continue;
        }
        let end = if bytes.get(payload) == Some(&b'.') { payload + 1 + part(payload + 1) } else { payload };
        secrets.push(start..end);
        from = end;
    }
}

/// The value of `access_token=…` up to the next parameter, also URL-encoded and as a JSON member.
fn find_access_tokens(text: &str, secrets: &mut Vec<Range<usize>>) {
    const NAME: &str = "access_token";
    if !text.contains(NAME) {
        return;
    }
    for (at, _) in text.match_indices(NAME) {
        let rest = &text[at + NAME.len()..];
        let quoted = rest.trim_start_matches(['"', '\'', '\\']);
        let value = if let Some(value) = quoted.strip_prefix('=').or_else(|| quoted.strip_prefix("%3D")) {
            value
        } else if let Some(value) = quoted.strip_prefix(':').filter(|_| quoted.len() < rest.len()) {
            value.trim_start()
        } else {
            continue;
        };
        let value = value.trim_start_matches(['"', '\'', '\\']);
        let len = value.find(|c: char| c.is_whitespace() || "&\"'\\<>".contains(c)).unwrap_or(value.len());
        let start = text.len() - value.len();
        if len > 0 {
            secrets.push(start..start + len);
        }
    }
}

/// User and password (or a token) of any URL, and the stream key of an RTMP URL.
fn find_in_urls(text: &str, secrets: &mut Vec<Range<usize>>) {
    if !text.contains("://") {
        return;
    }
    for (at, separator) in text.match_indices("://") {
        let start = at + separator.len();
        let rest = &text[start..];
        let end = rest.find(|c: char| c.is_whitespace() || "\"'\\<>".contains(c)).unwrap_or(rest.len());
        let url = &rest[..end];
        let authority = url.find(['/', '?', '#']).unwrap_or(url.len());
        if let Some(userinfo) = url[..authority].rfind('@').filter(|len| *len > 0) {
            secrets.push(start..start + userinfo);
        }
        if text[..at].ends_with("rtmp") || text[..at].ends_with("rtmps") {
            let path = url.find('?').unwrap_or(url.len());
            // rtmp://host/application/key: all after the last slash, unless that is the application.
            if let Some(key) = url[..path].rfind('/').filter(|slash| *slash > authority && slash + 1 < url.len()) {
                secrets.push(start + key + 1..start + url.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registered_secret_is_masked_until_its_last_registration_ends() {
        let line = "signed with open-sesame-1 and again open-sesame-1";
        let first = register("open-sesame-1");
        let second = register("open-sesame-1");
        assert_eq!(scrub(line), "signed with [redacted] and again [redacted]");
        drop(first);
        assert_eq!(scrub(line), "signed with [redacted] and again [redacted]");
        drop(second);
        assert!(matches!(scrub(line), Cow::Borrowed(same) if same == line));
    }

    #[test]
    fn other_spellings_of_a_secret_are_masked() {
        let secret = "p\"ss wörd/&\\2";
        let _registration = register(secret);
        let json = serde_json::json!({ "k": secret }).to_string();
        let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        for line in [format!("x {secret} y"), json, format!("{secret:?}"), format!("?k={encoded}&z=1")] {
            let clean = scrub(&line);
            assert!(clean.contains(MASK) && !clean.contains("rd/") && !clean.contains("rd%2F"), "{clean}");
        }
    }

    #[test]
    fn the_longest_secret_wins_and_overlapping_ones_leave_nothing() {
        let _registrations = [register("alpha-beta"), register("alpha-beta-gamma"), register("gamma-delta")];
        assert_eq!(scrub("<alpha-beta-gamma-delta>"), "<[redacted]>");
        assert_eq!(scrub("alpha-beta-gamm"), "[redacted]");
        assert_eq!(scrub("alpha-beta gamma"), "[redacted] gamma");
        assert_eq!(scrub("alpha-betaalpha-beta"), "[redacted]");
    }

    #[test]
    fn a_piece_of_a_secret_is_masked_wherever_it_was_cut() {
        let key: String = hex::encode((0..1500_u32).map(|n| (n * 37 + n / 7).to_le_bytes()[0]).collect::<Vec<_>>());
        let _registration = register(&key);
        for (from, to) in [(0, 3000), (0, 985), (985, 3000), (985, 1970), (2988, 3000), (0, PIECE), (100, 100 + PIECE)]
        {
            let line = format!("unknown option '{}' in x", &key[from..to]);
            assert_eq!(scrub(&line), "unknown option '[redacted]' in x", "{from}..{to}");
        }
        assert_eq!(scrub(&key[..PIECE - 1]), &key[..PIECE - 1]);
        let _other = register("pässwörter-mit-umlauten-und-ß");
        let half = "s: pässwörter-mit-uml".to_owned();
        assert_eq!(scrub(&half), "s: [redacted]");
        // Cut by bytes, within a character.
        let cut = String::from_utf8_lossy(&"pässwörter-mit-umlauten".as_bytes()[2..]).into_owned();
        assert!(!scrub(&cut).contains("mit"), "{}", scrub(&cut));
    }

    #[test]
    fn a_short_secret_is_not_registered() {
        let _registration = register("five5");
        assert_eq!(scrub("five5 words"), "five5 words");
    }

    #[test]
    fn web_tokens_are_masked_wherever_they_stand() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJub2RlXzAxIn0.c2lnbmF0dXJlLV8";
        assert_eq!(scrub(&format!("Bearer {token}, done")), "Bearer [redacted], done");
        assert_eq!(scrub(&format!("cut {}", &token[..50])), "cut [redacted]");
        for harmless in ["heyJude", "eyJ", "eyJ.x", "eyJabc.def", "monkeyJungle.eyJ"] {
            assert_eq!(scrub(harmless), harmless);
        }
    }

    #[test]
    fn access_tokens_are_masked_up_to_the_next_parameter() {
        for (line, clean) in [
            ("GET /?access_token=abc&custom=1 ok", "GET /?access_token=[redacted]&custom=1 ok"),
            ("url=\"http://h/?access_token=abc\"", "url=\"http://h/?access_token=[redacted]\""),
            ("access_token%3Dabc", "access_token%3D[redacted]"),
            ("access_token=\"abc\"", "access_token=\"[redacted]\""),
            ("{\"access_token\":\"abc\"}", "{\"access_token\":\"[redacted]\"}"),
            ("{\\\"access_token\\\": \\\"abc\\\"}", "{\\\"access_token\\\": \\\"[redacted]\\\"}"),
            ("access_token is empty", "access_token is empty"),
            ("access_token: empty", "access_token: empty"),
            ("no access_token=", "no access_token="),
        ] {
            assert_eq!(scrub(line), clean);
        }
    }

    #[test]
    fn passwords_and_stream_keys_in_urls_are_masked() {
        for (line, clean) in [
            ("to nats://user:pass@h:4222.", "to nats://[redacted]@h:4222."),
            ("tls://token@h,nats://h2", "tls://[redacted]@h,nats://h2"),
            ("http://h/a@b", "http://h/a@b"),
            ("rtmp://h:1935/live/k3y?x=1: refused", "rtmp://h:1935/live/[redacted] refused"),
            ("'rtmps://h/app/inst/k3y'", "'rtmps://h/app/inst/[redacted]'"),
            ("rtmp://h/live", "rtmp://h/live"),
            ("https://h/a/b", "https://h/a/b"),
        ] {
            assert_eq!(scrub(line), clean);
        }
    }

    #[test]
    fn many_threads_may_register_and_scrub_at_once() {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for round in 0..200 {
                        let secret = format!("secret-{thread}-{round}");
                        let registration = register(&secret);
                        assert_eq!(scrub(&format!("a {secret} b")), "a [redacted] b");
                        drop(registration);
                        assert_eq!(scrub("nothing to hide"), "nothing to hide");
                    }
                });
            }
        });
    }

    /// Hundreds of secrets and a long line must cost little, because every log line is scrubbed: hardly any position of
    /// a line may need more than one lookup.
    #[test]
    fn a_line_without_secrets_is_cheap() {
        let mut registry = SecretRegistry::new();
        (0..200).for_each(|n| registry.add(&forms_of(&format!("eyJsecret-number-{n}"))));
        let line = "2026-08-01T10:00:00.000Z  INFO recording{recording_id=a}: a key of the keyboard ".repeat(4);
        let pieces = hashes(line.as_bytes()).filter(|hash| registry.may_hold(*hash)).count();
        assert!(pieces * 10 <= line.len(), "{pieces} of {} bytes", line.len());
        let mut secrets = Vec::new();
        registry.find(&line, &mut secrets);
        assert_eq!((secrets.len(), secrets.capacity()), (0, 0), "nothing was found, and no memory taken");
    }
}
