//! The live stream, byte by byte: against a golden file, and as ffprobe and ffmpeg read it from a pipe.
//!
//! `PNM_BLESS=1` writes the golden file anew, for a change of the bytes that is meant.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use plugnmeet_recorder::capture::encoder::matroska::{MatroskaStream, Tracks, header};
use serde_json::{Value, json};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/stream.hex");
const TRACKS: Tracks = Tracks { width: 16, height: 8, framerate: 25, sample_rate: 48_000, channels: 2 };
/// Samples of one chunk.
const CHUNK: usize = 6;

/// What goes into the stream: a block of one of the two tracks.
struct Block {
    is_picture: bool,
    /// Milliseconds.
    at: u64,
    payload: Vec<u8>,
}

/// Three frames and five chunks. The second and the last chunk are older than the frame that began their cluster.
fn blocks() -> Vec<Block> {
    let order =
        [(true, 7), (false, 0), (false, 20), (true, 47), (false, 40), (true, 5_107), (false, 5_100), (false, 5_120)];
    let block = |(n, (is_picture, at)): (u8, (bool, u64))| {
        let len = if is_picture { TRACKS.frame_len() } else { CHUNK * 4 };
        // No two bytes in a row are the same, and no two payloads.
        let payload = (0..251u8).cycle().take(len).map(|i| i ^ (n << 5) ^ n).collect();
        Block { is_picture, at, payload }
    };
    (0..).zip(order).map(block).collect()
}

fn stream(blocks: &[Block]) -> Vec<u8> {
    let mut stream = MatroskaStream::default();
    let mut bytes = header(&TRACKS);
    for block in blocks {
        let (at, len) = (Duration::from_millis(block.at), block.payload.len());
        bytes.extend(if block.is_picture { stream.frame_header(at, len) } else { stream.audio_header(at, len) });
        bytes.extend_from_slice(&block.payload);
    }
    bytes
}

/// Runs a program with the stream as its standard input: a live one, in which nobody can seek.
fn read_by(program: &str, arguments: &[&str], bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = Command::new(program)
        .args(["-v", "error", "-f", "matroska", "-probesize", "32", "-analyzeduration", "0", "-i", "pipe:0"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It all fits into the pipe, so nothing waits for a reader.
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{program}: {}\n{said}", output.status);
    output.stdout
}

#[test]
fn the_stream_is_the_same_bytes_as_ever() {
    let bytes = stream(&blocks());
    let lines = bytes.chunks(32).map(|line| hex::encode(line) + "\n").collect::<String>();
    if std::env::var_os("PNM_BLESS").is_some() {
        std::fs::create_dir_all(Path::new(GOLDEN).parent().unwrap()).unwrap();
        std::fs::write(GOLDEN, &lines).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap();
    for (n, (found, golden)) in lines.lines().zip(golden.lines()).enumerate() {
        assert_eq!(found, golden, "from byte {} on; PNM_BLESS=1 takes it over", n * 32);
    }
    assert_eq!(lines.len(), golden.len(), "PNM_BLESS=1 takes it over");
}

#[test]
fn ffprobe_reads_both_tracks_and_every_time_as_they_were_given() {
    let blocks = blocks();
    let arguments = ["-show_streams", "-show_packets", "-of", "json"];
    let found: Value = serde_json::from_slice(&read_by("ffprobe", &arguments, &stream(&blocks))).unwrap();

    let streams = found["streams"].as_array().unwrap();
    let expect = |stream: &Value, expected: Value| {
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&stream[key], value, "{key}: {stream}");
        }
    };
    assert_eq!(streams.len(), 2, "{found}");
    expect(
        &streams[0],
        json!({
            "codec_name": "rawvideo", "pix_fmt": "yuv420p", "width": 16, "height": 8, "color_range": "tv",
            "color_space": "bt709", "color_transfer": "bt709", "color_primaries": "bt709", "field_order": "progressive",
            "time_base": "1/1000", "r_frame_rate": "25/1",
        }),
    );
    expect(
        &streams[1],
        json!({
            "codec_name": "pcm_s16le", "sample_fmt": "s16", "sample_rate": "48000", "channels": 2,
            "time_base": "1/1000",
        }),
    );

    let packet = |packet: &Value| {
        let size: usize = packet["size"].as_str().unwrap().parse().unwrap();
        (
            packet["stream_index"] == 0,
            packet["pts"].as_u64().unwrap(),
            size,
            packet["flags"].as_str().unwrap().starts_with('K'),
        )
    };
    let packets: Vec<_> = found["packets"].as_array().unwrap().iter().map(packet).collect();
    let given: Vec<_> = blocks.iter().map(|block| (block.is_picture, block.at, block.payload.len(), true)).collect();
    assert_eq!(packets, given);
}

#[test]
fn ffmpeg_gets_every_byte_of_picture_and_sound_back() {
    let blocks = blocks();
    let bytes = stream(&blocks);
    let payload = |is_picture: bool| -> Vec<u8> {
        blocks.iter().filter(|block| block.is_picture == is_picture).flat_map(|block| block.payload.clone()).collect()
    };
    let picture = ["-map", "0:v", "-fps_mode", "passthrough", "-f", "rawvideo", "-"];
    assert_eq!(read_by("ffmpeg", &picture, &bytes), payload(true));
    assert_eq!(read_by("ffmpeg", &["-map", "0:a", "-f", "s16le", "-"], &bytes), payload(false));
}
