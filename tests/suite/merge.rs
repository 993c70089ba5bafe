//! Merge jobs with the real ffmpeg: MP4s that are alike and MP4s that are not, under names of every kind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plugnmeet_recorder::protocol::job::{Job, Work};
use plugnmeet_recorder::protocol::notice::NoticeEvent;
use plugnmeet_recorder::transcode::job::{FilesToRemove, JobOutcome};

use crate::measure;
use crate::transcode::{Node, ffmpeg, job_for, names};

/// As this program and a reference transcoder make them.
const USUAL: &str =
    "-c:v libx264 -profile:v baseline -pix_fmt yuv420p -preset veryfast -c:a aac -movflags faststart -f mp4";

/// An MP4 of 320x180 with a tone.
fn mp4(path: &Path, seconds: u32, rate: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let source =
        format!("-f lavfi -i testsrc2=s=320x180:r={rate}:d={seconds} -f lavfi -i sine=d={seconds}:r=48000 -ac 2");
    ffmpeg(&format!("{source} {USUAL}"), path);
}

fn merge_of(node: &Node, paths: &[&str]) -> Job {
    Job { work: Work::Merge { paths: paths.iter().map(PathBuf::from).collect() }, ..job_for(&node.room(), "x.mkv") }
}

fn is_done(verdict: &JobOutcome) -> bool {
    matches!(verdict, JobOutcome::Done(FilesToRemove { raw: None, claim: Some(_), remuxed: false, object: None }))
}

/// Why the job was given up.
async fn cause(node: &Node, job: &Job) -> String {
    assert_eq!(node.run(job, 3).await, JobOutcome::GivenUp);
    let told = node.told();
    let [NoticeEvent::Finished(Err(cause))] = &told[..] else { panic!("{told:?}") };
    cause.clone()
}

fn frames(path: &Path) -> u64 {
    measure::probe(path).unwrap().video().unwrap().packets
}

#[tokio::test]
async fn mp4s_that_are_alike_are_joined_as_they_are_whatever_their_names() {
    let node = Node::new(true);
    let main = &node.settings.main_path;
    let names = ["a b/it's one.mp4", "ü/' duration 99 #%03d.mp4", "-i two.mp4", "q\"uo\\te$(x).mp4"];
    for (name, seconds) in names.iter().zip([3, 2, 4, 2]) {
        mp4(&main.join(name), seconds, 25);
    }
    let job = merge_of(&node, &names);
    let verdict = node.run(&job, 1).await;
    assert!(is_done(&verdict), "{verdict:?}");
    let result = main.join("a b/rec-1.mp4");
    let made = measure::probe(&result).unwrap();
    assert!((made.duration - 11.0).abs() < 0.2, "{made:?}");
    let expected: u64 = names.iter().map(|name| frames(&main.join(name))).sum();
    assert_eq!((frames(&result), expected), (275, 275));
    // Every packet of the picture is one of an input: nothing was encoded.
    let sizes = |path: &Path| -> Vec<u64> {
        measure::packets(path).unwrap().iter().filter(|packet| packet.is_video).map(|packet| packet.size).collect()
    };
    assert_eq!(sizes(&result), names.iter().flat_map(|name| sizes(&main.join(name))).collect::<Vec<_>>());
    assert_eq!(measure::decode(&result).unwrap(), [] as [String; 0]);
    let size = fs::metadata(&result).unwrap().len();
    let proceeded =
        NoticeEvent::Proceeded { file_path: "a b/rec-1.mp4".into(), file_size: size, variant: 0, note: None };
    assert_eq!(node.told(), [proceeded.clone(), NoticeEvent::Finished(Ok(()))]);
    // Its inputs stay, and a job that comes again is only announced again.
    assert!(names.iter().all(|name| main.join(name).exists()));
    let made = fs::metadata(&result).unwrap().modified().unwrap();
    assert!(is_done(&node.run(&job, 3).await));
    assert_eq!(node.told(), [proceeded, NoticeEvent::Finished(Ok(()))]);
    assert_eq!(fs::metadata(&result).unwrap().modified().unwrap(), made);
}

#[tokio::test]
async fn mp4s_that_differ_are_normalised() {
    let node = Node::new(true);
    let main = node.settings.main_path.clone();
    let names = ["r/one.mp4", "r/two\nfile 'file:/etc/passwd'.mp4", "r/three.mp4", "r/four.mp4", "r/five.mp4"];
    mp4(&main.join(names[0]), 3, 25);
    mp4(&main.join(names[1]), 2, 10);
    ffmpeg(
        "-f lavfi -i testsrc2=s=640x480:r=30:d=2 -c:v libx265 -preset ultrafast -x265-params log-level=none -f mp4",
        &main.join(names[2]),
    );
    ffmpeg(
        "-f lavfi -i testsrc2=s=160x120:r=12:d=2 -f lavfi -i sine=d=2:r=22050 -c:v mpeg4 -c:a libmp3lame -ac 1 -f mp4",
        &main.join(names[3]),
    );
    ffmpeg("-f lavfi -i sine=d=2:r=44100 -c:a aac -f mp4", &main.join(names[4]));
    let verdict = node.run(&merge_of(&node, &names), 1).await;
    assert!(is_done(&verdict), "{verdict:?}");
    let made = measure::probe(&main.join("r/rec-1.mp4")).unwrap();
    let (video, audio) = (made.video().unwrap(), made.audio().unwrap());
    assert!((made.duration - 11.0).abs() < 0.3, "{made:?}");
    assert_eq!((video.codec.as_str(), video.width, video.height), ("h264", 320, 180));
    assert_eq!((audio.codec.as_str(), audio.sample_rate, audio.channels), ("aac", 48_000, 2));
    assert_eq!(measure::decode(&main.join("r/rec-1.mp4")).unwrap(), [] as [String; 0]);
}

#[tokio::test]
async fn what_cannot_be_merged_is_named() {
    let node = Node::new(true);
    let main = node.settings.main_path.clone();
    mp4(&main.join("r/one.mp4"), 2, 25);
    let secret = node.dir.path().join("secret.mp4");
    fs::copy(main.join("r/one.mp4"), &secret).unwrap();
    std::os::unix::fs::symlink(&secret, main.join("r/link.mp4")).unwrap();
    fs::write(main.join("r/garbage.mp4"), "no film").unwrap();
    let merge = |second| merge_of(&node, &["r/one.mp4", second]);
    assert_eq!(node.run(&merge("r/gone.mp4"), 1).await, JobOutcome::Again(Duration::from_secs(30)));
    let said = cause(&node, &merge_of(&node, &["r/gone.mp4", "r/one.mp4", "r/also.mp4"])).await;
    assert!(said.contains("r/gone.mp4") && said.contains("r/also.mp4") && !said.contains("/one.mp4"), "{said}");
    let said = cause(&node, &merge("r/link.mp4")).await;
    assert!(said.contains("link.mp4") && said.contains("symbolic link"), "{said}");
    let said = cause(&node, &merge("r/garbage.mp4")).await;
    assert!(said.contains("garbage.mp4"), "{said}");
    assert!(cause(&node, &merge_of(&node, &[])).await.contains("no file"));
    fs::copy(&secret, main.join("r/rec-1.mp4")).unwrap();
    let said = cause(&node, &merge("r/rec-1.mp4")).await;
    assert!(said.contains("name of one of the files"), "{said}");
    assert_eq!(fs::read(main.join("r/rec-1.mp4")).unwrap(), fs::read(&secret).unwrap(), "no input is written over");
    assert_eq!(names(&main.join("r")), ["garbage.mp4", "link.mp4", "one.mp4", "rec-1.mp4"]);
}
