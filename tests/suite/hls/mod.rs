//! Recordings as HLS: what is in the files, read by an independent parser of playlists and by ffprobe, and what becomes of
//! them on a node with a store.

mod browser;
mod killed;
mod live;
mod node;
mod packages;
mod player;
mod throttled;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use m3u8_rs::{MasterPlaylist, MediaPlaylist, Playlist};

use crate::transcode::ffmpeg;

/// Seconds of the recording.
pub const SECONDS: f64 = 22.0;

/// An MP4 as this program makes it: 25 frames a second for 6 s, then a picture that stands still for 10 s, then one frame a
/// second; AAC. `keyframes`: where they are. A beep and a flash come every two seconds of the movement. `heavy`: on a
/// ground that costs bits.
pub fn mp4(path: &Path, keyframes: &str, heavy: bool) {
    let ground = if heavy { "null" } else { "drawbox=c=black:t=fill" };
    let picture = format!(
        "testsrc2=s=640x360:r=25:d={SECONDS},{ground},\
         drawbox=c=white:t=fill:enable='lt(mod(t\\,2)\\,0.2)',select='lt(t\\,6)+eq(n\\,150)+gte(t\\,16)*not(mod(n\\,25))'"
    );
    // The last frame is shown to the end, as in every MP4 of this program.
    let last = format!("setts=pts=PTS:dts=DTS:duration=if(eq(NEXT_DTS\\,NOPTS)\\,{SECONDS}/TB-PTS\\,DURATION)");
    let sound = format!("sine=f=1000:r=48000:d={SECONDS},volume='lt(mod(t,2),0.2)':eval=frame");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound])
        .args("-fps_mode vfr -enc_time_base:v 1:90000 -c:v libx264 -preset ultrafast -bf 0 -pix_fmt yuv420p".split(' '))
        .args(["-force_key_frames", keyframes, "-bsf:v", &last, "-c:a", "aac", "-movflags", "faststart", "-y"])
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
}

/// A directory of HLS as an independent parser reads it.
pub struct Parsed {
    pub master: MasterPlaylist,
    /// By name.
    pub media: BTreeMap<String, MediaPlaylist>,
}

/// Every playlist of the directory.
pub fn parse(dir: &Path) -> Parsed {
    let (mut master, mut media) = (None, BTreeMap::new());
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "m3u8") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let (rest, playlist) = m3u8_rs::parse_playlist(&bytes).unwrap();
        assert!(rest.is_empty(), "{}", path.display());
        match playlist {
            Playlist::MasterPlaylist(found) => master = Some(found),
            Playlist::MediaPlaylist(found) => {
                media.insert(path.file_name().unwrap().to_string_lossy().into_owned(), found);
            }
        }
    }
    Parsed { master: master.unwrap(), media }
}

/// A raw file of which a job makes such an MP4.
pub fn raw(path: &Path) {
    let picture = "testsrc2=s=640x360:r=5:d=9";
    ffmpeg(
        &format!(
            "-f lavfi -i {picture} -f lavfi -i sine=d=9 -c:v libx264 -preset ultrafast -bf 0 -g 20 -keyint_min 20 \
             -pix_fmt yuv420p -c:a aac -f matroska"
        ),
        path,
    );
}
