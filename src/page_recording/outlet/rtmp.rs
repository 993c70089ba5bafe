//! `--rtmp`: a broadcast of what is recorded, beside the file.
//!
//! ffmpeg publishes to the relay, which knows the stream key ([`crate::capture::rtmp::relay`]).

use std::ffi::OsString;

use crate::page_recording::summary::Tracks;

/// What a raw file is encoded with besides, so that it can be broadcast as it is: a constant rate, a keyframe every 2 s,
/// and what `YouTube` and Twitch take in a second.
#[must_use]
pub fn encoding(fps: u32) -> Vec<String> {
    let fps = fps.to_string();
    let rate = ["-fps_mode", "cfr", "-r", &fps, "-force_key_frames", "expr:gte(t,n_forced*2)"];
    let limit = ["-maxrate", "4500k", "-bufsize", "9000k"];
    rate.into_iter().chain(limit).map(str::to_owned).collect()
}

/// ffmpeg's option before the input: it is sent as fast as it was recorded. The raw file grows by a second at a time.
pub const PACED: &str = "-re";

/// ffmpeg's options behind the input, but the address.
#[must_use]
pub fn arguments(tracks: Tracks) -> Vec<OsString> {
    let sound: &[&str] = if tracks.sound { &["-c:a", "aac", "-b:a", "128k", "-ar", "44100"] } else { &["-an"] };
    [&["-c:v", "copy"], sound, &["-flvflags", "no_duration_filesize", "-f", "flv"]]
        .concat()
        .into_iter()
        .map(OsString::from)
        .collect()
}
