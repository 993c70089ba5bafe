//! Replaces the placeholder names in an encoder's commands with the real ones (RTMP 1.0, 7.2; "Action Message Format --
//! AMF 0"). Pure.

use crate::capture::rtmp::amf::{OBJECT, OBJECT_BYTE, OBJECT_END, STRING, push_string, push_text};
use crate::capture::rtmp::chunk_stream::{ByteReader, COMMAND, RtmpError, RtmpMessage};

/// The placeholders, and the names that replace them.
#[derive(Clone)]
pub struct StreamNames {
    /// As passed to the encoder.
    pub placeholder_app: String,
    pub placeholder_key: String,
    pub app: String,
    /// The stream key: a secret.
    pub key: String,
    /// `rtmp://host:port/app`.
    pub tc_url: String,
}

impl StreamNames {
    /// Whether this is the `connect` of the encoder that got the placeholders.
    #[must_use]
    pub fn is_connect(&self, message: &RtmpMessage) -> bool {
        let wanted = format!("\0\u{3}app\u{2}\0{}{}", char::from(self.length()), self.placeholder_app);
        command(message) == Some("connect")
            && message.payload.windows(wanted.len()).any(|window| window == wanted.as_bytes())
    }

    fn length(&self) -> u8 {
        u8::try_from(self.placeholder_app.len()).unwrap_or(u8::MAX)
    }

    /// Replaces the placeholders in a command; other messages stay unchanged.
    ///
    /// # Errors
    /// Where a command cannot be parsed.
    pub fn fill_in(&self, message: &mut RtmpMessage) -> Result<(), RtmpError> {
        if message.kind != COMMAND {
            return Ok(());
        }
        let is_connect = command(message) == Some("connect");
        let mut values = ByteReader { bytes: &message.payload, at: 0 };
        let mut filled = Vec::with_capacity(message.payload.len());
        while values.at < values.bytes.len() {
            let begun = values.at;
            match values.number(1).ok_or(RtmpError::Command)? {
                OBJECT if is_connect => {
                    filled.push(OBJECT_BYTE);
                    self.fill_in_object(&mut values, &mut filled).ok_or(RtmpError::Command)?;
                }
                STRING => {
                    let text = values.text().ok_or(RtmpError::Command)?;
                    if text == self.placeholder_key.as_bytes() {
                        push_string(self.key.as_bytes(), &mut filled);
                    } else {
                        push_string(text, &mut filled);
                    }
                }
                _ => {
                    values.at = begun;
                    filled.extend_from_slice(values.value(0).ok_or(RtmpError::Command)?);
                }
            }
        }
        message.payload = filled;
        Ok(())
    }

    fn fill_in_object(&self, values: &mut ByteReader<'_>, filled: &mut Vec<u8>) -> Option<()> {
        loop {
            let name = values.text()?;
            push_text(name, filled);
            if name.is_empty() && values.bytes.get(values.at) == Some(&OBJECT_END) {
                values.at += 1;
                filled.push(OBJECT_END);
                return Some(());
            }
            let value = values.value(0)?;
            match name {
                b"app" => push_string(self.app.as_bytes(), filled),
                b"tcUrl" => push_string(self.tc_url.as_bytes(), filled),
                _ => filled.extend_from_slice(value),
            }
        }
    }
}

/// The name of a command.
pub(super) fn command(message: &RtmpMessage) -> Option<&str> {
    let mut values = ByteReader { bytes: &message.payload, at: 0 };
    if message.kind != COMMAND || values.number(1)? != STRING {
        return None;
    }
    std::str::from_utf8(values.text()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capture::rtmp::chunk_stream::ChunkReader;

    fn names(key: &str) -> StreamNames {
        StreamNames {
            placeholder_app: "a".repeat(32),
            placeholder_key: "k".repeat(32),
            app: "live/inst".into(),
            key: key.into(),
            tc_url: "rtmp://h:1935/live/inst".into(),
        }
    }

    fn connect(app: &str) -> RtmpMessage {
        let mut payload = Vec::new();
        push_string(b"connect", &mut payload);
        payload.extend_from_slice(&[0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, OBJECT_BYTE]);
        for (name, value) in [("app", app), ("type", "nonprivate"), ("tcUrl", "rtmp://127.0.0.1:1/x")] {
            push_text(name.as_bytes(), &mut payload);
            push_string(value.as_bytes(), &mut payload);
        }
        payload.extend_from_slice(&[0, 0, OBJECT_END]);
        RtmpMessage { chunk_stream: 3, kind: COMMAND, payload, ..RtmpMessage::default() }
    }

    fn contains(message: &RtmpMessage, text: &str) -> bool {
        message.payload.windows(text.len()).any(|window| window == text.as_bytes())
    }

    #[test]
    fn placeholders_are_replaced_by_names_of_any_length() {
        let key = "s3cret?x=".repeat(900);
        let names = names(&key);
        let mut message = connect(&names.placeholder_app);
        assert!(names.is_connect(&message) && !names.is_connect(&connect("other")));
        names.fill_in(&mut message).unwrap();
        assert!(contains(&message, "\0\u{3}app\u{2}\0\u{9}live/inst") && contains(&message, &names.tc_url));
        assert!(contains(&message, "nonprivate") && !contains(&message, &names.placeholder_app));
        for command in ["releaseStream", "FCPublish", "publish", "FCUnpublish"] {
            let mut payload = Vec::new();
            push_string(command.as_bytes(), &mut payload);
            payload.extend_from_slice(&[0, 0x40, 0, 0, 0, 0, 0, 0, 0, 5]);
            push_string(names.placeholder_key.as_bytes(), &mut payload);
            push_string(b"live", &mut payload);
            let mut message = RtmpMessage { chunk_stream: 8, kind: COMMAND, payload, ..RtmpMessage::default() };
            names.fill_in(&mut message).unwrap();
            assert!(
                contains(&message, &key) && contains(&message, command) && message.payload.ends_with(b"\0\x04live")
            );
        }
        let mut media =
            RtmpMessage { kind: 9, payload: names.placeholder_key.clone().into(), ..RtmpMessage::default() };
        let before = media.clone();
        names.fill_in(&mut media).unwrap();
        assert_eq!(media, before);
        for broken in [&b"\x02\0\x07conn"[..], b"\x02\0\x07connect\x03\0\x03app", b"\x02\0\x01x\x63"] {
            let mut message = RtmpMessage { kind: COMMAND, payload: broken.to_vec(), ..RtmpMessage::default() };
            assert_eq!(names.fill_in(&mut message), Err(RtmpError::Command), "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut reader = ChunkReader::default();
            reader.push(&bytes);
            while let Ok(Some(mut message)) = reader.read() {
                let _ = names("k").fill_in(&mut message);
            }
        }
    }
}
