//! Poster and thumbnails beside a delivered MP4: what they show, and that nothing waits for them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use plugnmeet_recorder::config::StorageConfig;
use plugnmeet_recorder::config::store_url::StoreUrl;
use plugnmeet_recorder::media::thumbnails;
use plugnmeet_recorder::store::uploads::MakePictures;
use rustix::fs::{CWD, FileType, mknodat};

use super::{Sender, pictures, tree};
use crate::transcode::ffmpeg;

/// 30 s with a keyframe a second: black for 12 s, then red on the left and blue on the right.
fn make_mp4(path: &Path) {
    let line = "-f lavfi -i color=black:s=640x360:r=5:d=12 -f lavfi -i color=red:s=640x360:r=5:d=18 -filter_complex \
                [1:v]drawbox=x=320:w=320:h=360:color=blue:t=fill[c];[0:v][c]concat[v] -map [v] -c:v libx264 -preset \
                ultrafast -pix_fmt yuv420p -g 5 -f mp4";
    ffmpeg(line, path);
}

/// A decoded picture.
struct Decoded {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Decoded {
    fn of(jpeg: &Path) -> Self {
        let size = Command::new("ffprobe")
            .args(["-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0"])
            .arg(jpeg)
            .output()
            .unwrap();
        let size = String::from_utf8(size.stdout).unwrap();
        let (width, height) = size.trim().split_once(',').unwrap();
        let raw = jpeg.with_extension("rgb");
        ffmpeg(&format!("-i {} -f rawvideo -pix_fmt rgb24", jpeg.display()), &raw);
        Self { width: width.parse().unwrap(), height: height.parse().unwrap(), rgb: std::fs::read(raw).unwrap() }
    }

    /// `r`, `b` or `-` for black, at this place.
    fn colour(&self, x: usize, y: usize) -> char {
        assert!(x < self.width && y < self.height, "{x},{y} is not in {}x{}", self.width, self.height);
        let at = 3 * (y * self.width + x);
        match self.rgb[at..at + 3] {
            [red, _, blue] if red > 180 && blue < 70 => 'r',
            [red, _, blue] if blue > 180 && red < 70 => 'b',
            [red, green, blue] if red.max(green).max(blue) < 40 => '-',
            ref other => panic!("{other:?} at {x},{y}"),
        }
    }
}

fn seconds(time: &str) -> f64 {
    time.split(':').fold(0.0, |sum, part| 60.0 * sum + part.parse::<f64>().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_poster_is_no_empty_picture_and_each_cue_names_the_tile_of_its_time() {
    let disk = tempfile::tempdir().unwrap();
    let mut sender = Sender::start(&format!("file://{}", disk.path().display()));
    sender.with_pictures = true;
    make_mp4(&sender.mp4("rec"));
    sender.add("rec", None).await;
    sender.wait_until_done().await;
    let at = |extension: &str| disk.path().join(format!("node_01/room01/rec.{extension}"));
    let expected: Vec<String> = super::ALL.iter().map(|extension| format!("node_01/room01/rec.{extension}")).collect();
    assert_eq!(tree(disk.path()), expected);
    let poster = Decoded::of(&at("jpg"));
    assert_eq!((poster.width, poster.height), (640, 360));
    assert_eq!((poster.colour(100, 180), poster.colour(540, 180)), ('r', 'b'));
    let sprite = Decoded::of(&at("thumbnails.jpg"));
    let text = std::fs::read_to_string(at("vtt")).unwrap();
    let mut blocks = text.split("\n\n");
    assert_eq!(blocks.next(), Some("WEBVTT"));
    let (mut end, mut shown) = (0.0, Vec::new());
    for block in blocks {
        let (times, place) = block.trim().split_once('\n').unwrap();
        let (from, to) = times.split_once(" --> ").unwrap();
        assert!((seconds(from) - end).abs() < 0.01, "{text}");
        end = seconds(to);
        let (name, region) = place.split_once("#xywh=").unwrap();
        assert_eq!(name, "rec.thumbnails.jpg");
        let region: Vec<usize> = region.split(',').map(|number| number.parse().unwrap()).collect();
        let [x, y, width, height] = region[..] else { panic!("{region:?}") };
        assert!(x + width <= sprite.width && y + height <= sprite.height, "{region:?}");
        shown.push([sprite.colour(x + width / 4, y + height / 2), sprite.colour(x + 3 * width / 4, y + height / 2)]);
    }
    assert!((end - 30.0).abs() < 0.3, "{end}");
    assert_eq!(shown, [['-', '-'], ['r', 'b'], ['r', 'b']]);
    sender.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_waits_for_pictures_that_hang_but_the_removal_of_the_local_file_also_across_a_restart() {
    let disk = tempfile::tempdir().unwrap();
    let url = format!("file://{}", disk.path().display());
    let storage = StorageConfig { deliver: Some(StoreUrl::parse(&url).unwrap()), ..StorageConfig::default() };
    let dir = Arc::new(tempfile::tempdir().unwrap());
    // What reads it waits for a writer, which never comes.
    let fifo = dir.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, 0o600.into(), 0).unwrap();
    let hanging: MakePictures = Arc::new(move |_, sprite, stop| {
        let fifo = fifo.clone();
        Box::pin(async move {
            let made = thumbnails::make(&fifo, &sprite, &stop).await;
            made.map(|_| None).map_err(|error| error.to_string())
        })
    });
    let mut sender = Sender::start_with(Arc::clone(&dir), storage.clone(), hanging);
    sender.with_pictures = true;
    for id in ["one", "two"] {
        make_mp4(&sender.mp4(id));
        sender.add(id, Some(Duration::ZERO)).await;
    }
    sender.wait_until("the server is told of both", || sender.told().len() == 4).await;
    // The number is counted anew every few seconds.
    sender.wait_until("neither waits for its store", || sender.waiting() < 1.0).await;
    assert_eq!(sender.records().len(), 2);
    assert!(sender.mp4("one").exists() && sender.mp4("two").exists());
    let dir = sender.stop().await;
    assert_eq!(tree(disk.path()).len(), 4, "each MP4 with its summary");
    let sender = Sender::start_with(dir, storage, pictures());
    sender.wait_until_done().await;
    assert_eq!(tree(disk.path()).len(), 2 * super::ALL.len());
    assert!(!sender.mp4("one").exists() && !sender.mp4("two").exists() && sender.told().is_empty());
    sender.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_which_no_picture_can_be_made_is_delivered_without() {
    let disk = tempfile::tempdir().unwrap();
    let mut sender = Sender::start(&format!("file://{}", disk.path().display()));
    sender.with_pictures = true;
    sender.make("noise", 1000);
    sender.add("noise", Some(Duration::ZERO)).await;
    ffmpeg("-f lavfi -i sine=d=2 -c:a aac -f mp4", &sender.mp4("sound"));
    sender.add("sound", Some(Duration::ZERO)).await;
    sender.wait_until_done().await;
    let names = ["noise.json", "noise.mp4", "sound.json", "sound.mp4"];
    assert_eq!(tree(disk.path()), names.map(|name| format!("node_01/room01/{name}")));
    assert!(!sender.mp4("noise").exists() && !sender.mp4("sound").exists());
    sender.stop().await;
}
