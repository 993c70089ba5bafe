//! Values of RTMP's commands ("Action Message Format -- AMF 0"). Pure.

use crate::capture::rtmp::chunk_stream::ByteReader;

/// Type markers (2.1).
const NUMBER: u32 = 0;
pub const STRING: u32 = 2;
pub const OBJECT: u32 = 3;
pub const OBJECT_BYTE: u8 = 3;
pub const OBJECT_END: u8 = 9;
const NULL: u8 = 5;
/// Limit of nested objects.
const DEPTH_LIMIT: u32 = 8;

impl<'a> ByteReader<'a> {
    /// A text with its length before it.
    pub fn text(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number(2)?).ok()?;
        self.take(length)
    }

    /// A string with its marker.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        if self.number(1)? == STRING { self.text() } else { None }
    }

    /// A number with its marker.
    pub fn float(&mut self) -> Option<f64> {
        if self.number(1)? == NUMBER { Some(f64::from_be_bytes(self.take(8)?.try_into().ok()?)) } else { None }
    }

    /// The bytes of one value.
    pub fn value(&mut self, depth: u32) -> Option<&'a [u8]> {
        let begun = self.at;
        match self.number(1)? {
            NUMBER => {
                self.take(8)?;
            }
            1 => {
                self.take(1)?;
            }
            STRING => {
                self.text()?;
            }
            kind @ (OBJECT | 8) if depth < DEPTH_LIMIT => {
                if kind == 8 {
                    self.take(4)?;
                }
                while !self.text()?.is_empty() || self.bytes.get(self.at) != Some(&OBJECT_END) {
                    self.value(depth + 1)?;
                }
                self.at += 1;
            }
            5 | 6 => {}
            10 if depth < DEPTH_LIMIT => {
                for _ in 0..self.number(4)? {
                    self.value(depth + 1)?;
                }
            }
            11 => {
                self.take(10)?;
            }
            12 => {
                let length = usize::try_from(self.number(4)?).ok()?;
                self.take(length)?;
            }
            _ => return None,
        }
        Some(&self.bytes[begun..self.at])
    }

    /// The string of a property of the next value, where that is an object that has it.
    pub fn property(&mut self, wanted: &str) -> Option<&'a [u8]> {
        let kind = self.number(1)?;
        if kind == 8 {
            self.take(4)?;
        } else if kind != OBJECT {
            return None;
        }
        loop {
            let name = self.text()?;
            if name.is_empty() && self.bytes.get(self.at) == Some(&OBJECT_END) {
                return None;
            }
            if name == wanted.as_bytes() {
                return self.string();
            }
            self.value(1)?;
        }
    }
}

pub fn push_text(text: &[u8], to: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(&text[..usize::from(length)]);
}

pub fn push_string(text: &[u8], to: &mut Vec<u8>) {
    to.push(2);
    push_text(text, to);
}

pub fn push_number(number: f64, to: &mut Vec<u8>) {
    to.push(0);
    to.extend_from_slice(&number.to_be_bytes());
}

pub fn push_null(to: &mut Vec<u8>) {
    to.push(NULL);
}

/// An object of strings.
pub fn push_object(properties: &[(&str, &str)], to: &mut Vec<u8>) {
    to.push(OBJECT_BYTE);
    for (name, value) in properties {
        push_text(name.as_bytes(), to);
        push_string(value.as_bytes(), to);
    }
    to.extend_from_slice(&[0, 0, OBJECT_END]);
}
