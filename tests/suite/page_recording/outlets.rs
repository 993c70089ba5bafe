//! `record --hls` and `--rtmp`: they cost the file nothing, and come to what they are to be when what fails is well again.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::{Ended, FLASH, IN_STEP, Place, Running, SIZE, header};
use crate::measure::{self, picture, sound, sync};
use crate::mounts::Mount;
use crate::recorder::{SOON, command_lines, turn};
use crate::standin::faulty_fs::{Abilities, Fault, FaultyFs, Requests};
use crate::standin::https::{Authority, Behind, Https};
use crate::standin::nginx_rtmp::NginxRtmp;
use crate::standin::plain_page::{COOKIE, PlainPage};
use crate::standin::rtmp::RtmpReceiver;
use crate::standin::rtmp_server::{Manner, RtmpServer};

const KEY: &str = "s3cret-stream-key";

/// How many beeps have their flash.
fn in_step(path: &Path) -> usize {
    let duration = measure::probe(path).unwrap().duration;
    let (beeps, flashes) = (sound::beeps(path, 1000.0).unwrap(), picture::flashes(path, FLASH).unwrap());
    let steps = sync::pair(&beeps, &flashes, sync::expected(&beeps, duration));
    // One may be late on a busy machine; `lip_sync` measures what it really is.
    assert!(steps.late().abs() < IN_STEP, "{}: {steps:?}", path.display());
    steps.times.len()
}

/// Beeps and flashes, however far apart: a far end that is another ffmpeg keeps a small machine busy.
fn shows_and_sounds(path: &Path, at_least: usize) {
    let (beeps, flashes) = (sound::beeps(path, 1000.0).unwrap(), picture::flashes(path, FLASH).unwrap());
    assert!(beeps.len() >= at_least && flashes.len() >= at_least, "{}: {beeps:?} {flashes:?}", path.display());
}

/// The arguments that lead to beeps and flashes.
fn live<'a>(url: &'a str, header: &'a str, outlets: &[&'a str]) -> Vec<&'a str> {
    let visit = [url, "--click", "#start", "--click", "#more", "--cookie", COOKIE, "--header", header];
    [&visit[..], &["--size", "640x360", "--summary"], outlets].concat()
}

fn summary(ended: &Ended) -> Value {
    serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

#[tokio::test]
async fn a_full_disk_and_a_far_end_that_is_down_cost_the_file_nothing_and_are_made_up_for() {
    let _turn = turn().await;
    let (page, place) = (PlainPage::start().await.unwrap(), Place::new());
    let authority = Authority::new(30).unwrap();
    let https = Https::start(&authority.issue("localhost", 30).unwrap(), Behind::Server(page.address())).await.unwrap();
    let (url, ca) = (format!("{}/?closes", https.url()), authority.file());
    let header = header();

    // Nobody that Chrome knows vouches for the page.
    let refused = place.run(&[&url, "-o", "page.mp4"]).await;
    assert_eq!(refused.code, Some(4), "{refused:?}");
    let wanted =
        "vouches for its certificate; name the certificate of your CA by --ca-file (net::ERR_CERT_AUTHORITY_INVALID)";
    assert!(refused.err.contains(wanted), "{refused:?}");
    let missing = place.run(&[&url, "-o", "page.mp4", "--ca-file", "none.pem"]).await;
    assert!(missing.code == Some(2) && missing.err.contains("error: --ca-file: cannot read none.pem"), "{missing:?}");

    // The disk of the segments is full, and nobody listens at the far end.
    let mut far_end = NginxRtmp::start(place.temp.path()).await.unwrap();
    far_end.kill();
    std::fs::write(place.path("live.url"), far_end.url(KEY)).unwrap();
    let segments = place.path("segments");
    std::fs::create_dir(&segments).unwrap();
    let disk = Mount::small(&segments, 8 << 20);
    let filler = segments.join("filler");
    assert!(std::fs::write(&filler, vec![0; 9 << 20]).is_err());
    let outlets = ["-o", "page.mp4", "--ca-file", ca.to_str().unwrap(), "--hls", "segments", "--rtmp", "@live.url"];
    let mut running = Running::start(&place, &live(&url, &header, &outlets)).await;
    running.says("--hls: segments cannot be written to: No space left on device").await;
    running.says("--rtmp: rtmp://127.0.0.1:").await;
    std::fs::remove_file(filler).unwrap();
    far_end.resume().await.unwrap();
    running.says("--rtmp works again").await;
    running.says("--hls works again").await;
    assert!(!command_lines().contains(KEY), "no list of processes shows the stream key");
    page.close();
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");

    let summary = summary(&ended);
    assert_eq!(summary["ended_by"], "the page was closed", "{summary}");
    for (outlet, to) in [("hls", "segments/index.m3u8"), ("rtmp", "rtmp://127.0.0.1:")] {
        let outlet = &summary[outlet];
        assert!(outlet["to"].as_str().unwrap().starts_with(to) && outlet["complete"] == true, "{summary}");
        assert!(outlet["interruptions"].as_u64().unwrap() >= 1, "{summary}");
    }
    assert!(!ended.err.contains(KEY) && !ended.out.contains(KEY), "{ended:?}");
    // The playlist has all of the recording: also what came while its disk was full. The broadcast has what came later.
    let (mp4, playlist) = (place.path("page.mp4"), segments.join("index.m3u8"));
    let text = std::fs::read_to_string(&playlist).unwrap();
    assert!(text.contains("#EXT-X-PLAYLIST-TYPE:EVENT") && text.trim_end().ends_with("#EXT-X-ENDLIST"), "{text}");
    let (file, made) = (measure::probe(&mp4).unwrap(), measure::probe(&playlist).unwrap());
    assert!((file.duration - made.duration).abs() < 0.5, "{} {}", file.duration, made.duration);
    let (saved, segmented) = (in_step(&mp4), in_step(&playlist));
    assert!(saved >= 4 && segmented.abs_diff(saved) <= 1, "{saved} {segmented}");
    let received = far_end.received(KEY);
    assert!(in_step(received.last().unwrap()) >= 1, "{received:?}");
    drop(disk);
    drop(far_end);
    std::fs::remove_dir_all(place.temp.path().join("nginx")).unwrap();
    place.assert_no_rig();
    let mut files = place.files();
    files.sort();
    assert_eq!(files, ["live.url", "page.mp4", "segments"]);
}

#[tokio::test]
async fn what_has_no_way_out_is_told_with_a_code_of_its_own() {
    let place = Place::new();
    for (arguments, wanted) in [
        (&["--rtmp", "rtmp://h/live/s3 cret"][..], "--rtmp: the address"),
        (&["--rtmp", "@none.url"], "--rtmp: none.url: No such file"),
        (&["--hls", "/proc/none"], "--hls: nothing can be written into /proc/none"),
    ] {
        let ended = place.run(&[&["http://127.0.0.1:9/"], arguments].concat()).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.err.contains(wanted) && !ended.err.contains("s3 cret"), "{ended:?}");
    }
    assert_eq!(place.files(), [] as [String; 0]);

    let _turn = turn().await;
    let (page, header) = (PlainPage::start().await.unwrap(), header());
    nobody_listens(&place, &page, &header).await;
    a_broadcast_alone(&Place::new(), &page, &header).await;
}

/// Nobody listens at the far end of a recording without MP4.
async fn nobody_listens(place: &Place, page: &PlainPage, header: &str) {
    let broadcast = ["--rtmp", "rtmp://127.0.0.1:9/live/an0ther-stream-key"];
    let mut running = Running::start(place, &live(&page.url, header, &broadcast)).await;
    running.says("--rtmp: rtmp://127.0.0.1:9").await;
    running.signal(Signal::INT);
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.err.contains("error: --rtmp rtmp://127.0.0.1:9 is not complete: "), "{ended:?}");
    let summary = summary(&ended);
    assert_eq!((&summary["file"], &summary["rtmp"]["complete"]), (&Value::Null, &Value::Bool(false)), "{summary}");
    assert_eq!(summary["rtmp"]["code"], "PNR-1236", "{summary}");
    assert!(!ended.err.contains("an0ther") && !ended.out.contains("an0ther"), "{ended:?}");
    assert_eq!(place.files(), [] as [String; 0], "no MP4 was asked for");
    place.assert_no_rig();
}

/// A far end that takes a recording without MP4 has picture and sound of it.
async fn a_broadcast_alone(place: &Place, page: &PlainPage, header: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut far_end = RtmpReceiver::start(dir.path(), "alone").await.unwrap();
    let running = Running::start(place, &live(&page.url, header, &["--rtmp", &far_end.url()])).await;
    far_end.wait_for_bytes(60_000, SOON).await.unwrap();
    running.signal(Signal::INT);
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.err.contains("Sent to rtmp://127.0.0.1:"), "{ended:?}");
    let summary = summary(&ended);
    assert_eq!((&summary["file"], &summary["rtmp"]["complete"]), (&Value::Null, &Value::Bool(true)), "{summary}");
    far_end.wait_until_over(SOON).await.unwrap();
    let media = measure::probe(far_end.file()).unwrap();
    let video = media.video().unwrap();
    assert_eq!((video.codec.as_str(), (video.width, video.height)), ("h264", SIZE));
    assert_eq!(media.audio().unwrap().codec, "aac");
    shows_and_sounds(far_end.file(), 1);
    assert_eq!(place.files(), [] as [String; 0]);
    place.assert_no_rig();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_and_a_far_end_that_reads_no_more_cost_the_file_nothing_and_hold_up_no_end() {
    let _turn = turn().await;
    let (page, header, place) = (PlainPage::start().await.unwrap(), header(), Place::new());
    let url = format!("{}?noise", page.url);
    // It keeps the connection.
    let far_end = RtmpServer::start(Manner::StopReadingAt(5000)).await.unwrap();
    // Other tests look for theirs in the list of processes, which shows this one.
    let key = "an0ther-stream-key";
    let to = format!("rtmp://127.0.0.1:{}/live/{key}", far_end.port());
    let disk = FaultyFs::mount(&place.path("backing"), &place.path("segments"), Abilities::ALL);
    let outlets = ["-o", "page.mp4", "--hls", "segments", "--rtmp", &to];
    let mut running = Running::start(&place, &live(&url, &header, &outlets)).await;
    // Its directory was found in order.
    let begun = async {
        while !command_lines().contains(&format!("{}/segment%05d.ts", place.path("segments").display())) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, begun).await.unwrap();
    disk.break_down(Requests::All, Fault::Hang);
    running.says("--hls: segments does not answer: its disk or share hangs, check it; it is written anew").await;
    far_end.wait_until(SOON, |seen| seen.media >= 5000).await.unwrap();
    running.signal(Signal::INT);
    running.says("error: --rtmp ").await;
    running.wait_until_over().await;
    // The kernel ends a process only when its disk has answered.
    disk.heal();
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(6), "{ended:?}");
    let hls = "PNR-1236 error: --hls segments/index.m3u8 is not complete: segments does not answer: its disk or share \
               hangs, check it; make it of the MP4 when its disk is well: ffmpeg -i 'page.mp4' -c copy";
    let name = format!("rtmp://127.0.0.1:{}", far_end.port());
    let rtmp =
        format!("PNR-1236 error: --rtmp {name} is not complete: {name}: has taken nothing for 10 s; are address");
    assert!(ended.err.contains(hls) && ended.err.contains(&rtmp) && !ended.err.contains(key), "{ended:?}");
    let (summary, mp4) = (summary(&ended), place.path("page.mp4"));
    for outlet in ["hls", "rtmp"] {
        let told = (&summary[outlet]["complete"], &summary[outlet]["code"]);
        assert_eq!(told, (&Value::Bool(false), &"PNR-1236".into()), "{summary}");
    }
    assert_eq!((&summary["file"], &summary["error"]), (&"page.mp4".into(), &Value::Null), "{summary}");
    let media = measure::probe(&mp4).unwrap();
    let [duration, recorded] = [media.duration, summary["duration_s"].as_f64().unwrap()];
    assert!((duration - recorded).abs() < 0.1 && duration >= 4.0, "{duration} {recorded}");
    assert!(in_step(&mp4) >= 3);
    drop(disk);
    place.assert_no_rig();
}
