//! A broadcast outlives its far end: a real ffmpeg, the relay, and nginx with its RTMP module. No Chrome.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use plugnmeet_recorder::capture::encoder::arguments::{EncoderSettings, EncoderTarget};
use plugnmeet_recorder::capture::encoder::ffmpeg::Encoder;
use plugnmeet_recorder::protocol::ids::RtmpUrl;

use crate::logs::Logs;
use crate::measure::{self, Crop, picture, sound, sync};
use crate::relay::feed;
use crate::standin::nginx_rtmp::NginxRtmp;

const SOON: Duration = Duration::from_secs(20);
/// All of the picture is white for a tenth of a second when the beep begins.
const FLASH: Crop = Crop::new(0, 0, 320, 180);
/// A frame at 30 a second, and the time in which a tone is recognised.
pub const IN_STEP_MS: f64 = 45.0;

/// A live Matroska stream of so many seconds, with a beep and a flash each second.
fn media(dir: &Path, seconds: u32) -> Vec<u8> {
    let file = dir.join("beeps.mkv");
    let flash = "geq=lum='if(lt(mod(T,1),0.1),235,16)':cb=128:cr=128";
    let beep = "aevalsrc='if(lt(mod(t,1),0.1),sin(2*PI*1000*t),0)':s=48000";
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", &format!("color=s=320x180:r=30:d={seconds},{flash}")])
        .args(["-f", "lavfi", "-t", &seconds.to_string(), "-i", beep])
        .args(["-c:v", "rawvideo", "-pix_fmt", "yuv420p", "-c:a", "pcm_s16le", "-f", "matroska"])
        .arg(&file)
        .status();
    assert!(made.unwrap().success());
    fs::read(file).unwrap()
}

/// Sound and picture of a publication are in step, and it begins with a keyframe at 0.
pub fn assert_in_step(file: &Path, flash: Crop, at_least: usize, limit_ms: f64) {
    assert_sync(file, flash, at_least, limit_ms);
    let packets = measure::packets(file).unwrap();
    let first = packets.iter().find(|packet| packet.is_video).unwrap();
    assert!(first.is_key && first.at < 0.1, "{first:?}");
    assert!(packets.iter().all(|packet| packet.at < 60.0), "times begin anew");
}

/// Sound and picture are in step.
pub fn assert_sync(file: &Path, flash: Crop, at_least: usize, limit_ms: f64) {
    let beeps = sound::beeps(file, 1000.0).unwrap();
    let sync = sync::pair(&beeps, &picture::flashes(file, flash).unwrap(), at_least);
    assert!(sync.offsets.len() >= at_least, "{}: {sync}", file.display());
    assert!(sync.late().abs() <= limit_ms, "{}: {sync}", file.display());
}

/// Keyframes are 2 s apart, and frames 1/30 s.
pub fn assert_constant(file: &Path) {
    let packets = measure::packets(file).unwrap();
    let pictures: Vec<_> = packets.iter().filter(|packet| packet.is_video).collect();
    let apart = |times: &[f64]| times.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>();
    let frames = apart(&pictures.iter().map(|packet| packet.at).collect::<Vec<_>>());
    assert!(frames.iter().all(|gap| (0.030..0.037).contains(gap)), "{}: {frames:?}", file.display());
    let keys = apart(&pictures.iter().filter(|packet| packet.is_key).map(|packet| packet.at).collect::<Vec<_>>());
    assert!(!keys.is_empty() && keys.iter().all(|gap| (gap - 2.0).abs() < 0.01), "{}: {keys:?}", file.display());
}

#[tokio::test]
async fn a_far_end_that_goes_away_gets_the_broadcast_again_in_step_from_a_keyframe_on() {
    let logs = Logs::capture();
    let dir = tempfile::tempdir().unwrap();
    let mut nginx = NginxRtmp::start(dir.path()).await.unwrap();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let post_input = words("-c:v libx264 -preset ultrafast -x264-params keyint=120:scenecut=0 -c:a aac");
    let settings = EncoderSettings::new(&words("-loglevel error -re"), &post_input);
    let url = RtmpUrl::parse(&nginx.url("key-1")).unwrap();
    let target = EncoderTarget::Rtmp { url, reconnect_for: Duration::from_secs(60), adaptive: false };
    let (mut encoder, stdin) = Encoder::start(&settings, (320, 180), &target, dir.path()).await.unwrap();
    let media = media(dir.path(), 60);
    let enough = feed(stdin, media);
    let first = nginx.wait_until_accepted("key-1", SOON).await.unwrap();
    nginx.kill();
    // It refuses the connection, and is there again a moment later.
    let refused = async {
        while logs.lines("cannot be reached yet").is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, refused).await.unwrap();
    nginx.resume().await.unwrap();
    let second = nginx.wait_for_media("key-1", 2, 4200, SOON).await.unwrap();
    enough.send(()).unwrap();
    tokio::time::timeout(SOON, encoder.ended()).await.unwrap().unwrap();
    for file in [&first, &second] {
        assert_in_step(file, FLASH, 4, IN_STEP_MS);
        assert_constant(file);
    }
    assert_eq!(nginx.received("key-1").len(), 2);
    for (line, part) in [("is lost", "closed the connection|broke off"), ("again, from the next keyframe on", "tries=")]
    {
        let [found] = &logs.lines(line)[..] else { panic!("{line}: {}", logs.text()) };
        assert!(part.split('|').any(|part| found.contains(part)) && !found.contains("key-1"), "{found}");
    }
}
