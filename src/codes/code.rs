//! What a code is, and how a table of them is written. Pure.

use std::fmt;

/// Names one kind of fault or refusal for ever: its number is never given to another one. Shown as `PNR-0123`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// 1 to 9999.
    pub number: u16,
    /// Its name in the source.
    pub name: &'static str,
    /// What has happened, in one sentence.
    pub means: &'static str,
    /// Whether recordings are safe, late or lost. `None` where this code concerns none.
    pub recordings: Option<&'static str>,
    pub cause: &'static str,
    /// What an operator does about it.
    pub remedy: &'static str,
}

/// The codes of one part of the program, by number.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub title: &'static str,
    pub codes: &'static [Code],
}

impl Code {
    /// What stands before the number.
    pub const PREFIX: &'static str = "PNR-";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:04}", Self::PREFIX, self.number)
    }
}

/// The one text that is there.
pub(super) const fn optional(texts: &[&'static str]) -> Option<&'static str> {
    match texts {
        [text] => Some(text),
        _ => None,
    }
}

/// A constant for each code of a room, and one for the room.
macro_rules! room {
    (
        $room:ident: $title:literal;
        $(
            $name:ident = $number:literal;
            means: $means:literal;
            $(recordings: $recordings:literal;)?
            cause: $cause:literal;
            remedy: $remedy:literal;
        )+
    ) => {
        $(
            pub const $name: $crate::codes::code::Code = $crate::codes::code::Code {
                number: $number,
                name: stringify!($name),
                means: $means,
                recordings: $crate::codes::code::optional(&[$($recordings)?]),
                cause: $cause,
                remedy: $remedy,
            };
        )+

        pub(super) const $room: $crate::codes::code::Room =
            $crate::codes::code::Room { title: $title, codes: &[$($name),+] };
    };
}

pub(super) use room;
