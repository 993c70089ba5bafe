//! Recordings that are encoded as their MP4 while they run: the MP4 is a copy of what was encoded then; and where that is
//! too much, the recording goes on with the fast encoder, without a gap.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use plugnmeet_recorder::capture::encoder::arguments::{EncoderSettings, EncoderTarget, arguments};
use plugnmeet_recorder::config::FfmpegOptions;
use plugnmeet_recorder::media::ffmpeg_arguments::FfmpegArguments;
use plugnmeet_recorder::media::final_encoding::FinalEncoding;
use plugnmeet_recorder::media::{decode_check, ffprobe, verification};
use rustix::process::Signal;
use serde_json::Value;

use crate::endurance::in_step;
use crate::measure::{self, Crop, picture, sound};
use crate::recorder::{Recorder, SOON, Setup, alone};
use crate::recording::{ENDED, FINISHED, mp4, record, standin, stop, wait_for};
use crate::rig::go_on;
use crate::standin::Meeting;
use crate::survival::faults::send;

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_that_is_too_slow_hands_over_to_the_fast_one_without_a_gap() {
    let turn = alone().await;
    let standin = standin().await;
    let recorder = Recorder::start(&standin, "node_01", &Setup::default()).await;
    let room = standin.meeting(Meeting { webcams: 1, ..Meeting::default() });
    let id = "RM_slow-1700133937567";
    record(&standin, &recorder, &room, id).await;
    room.wait_for_sound(1, SOON).await.unwrap();
    go_on(4.0).await;
    // It stands still for as long as it takes to lose some frames, and comes back.
    send(&recorder, "ffmpeg", Signal::STOP);
    go_on(1.5).await;
    send(&recorder, "ffmpeg", Signal::CONT);
    recorder.wait_for_log("it goes on with the fast encoder").await;
    let next = recorder.temporary_dir.join(format!("{id}_raw.part1.on.mkv"));
    recorder.wait_until("the recording goes on in its next file", || next.exists()).await;
    recorder.wait_until("one encoder is left", || recorder.children("ffmpeg").len() == 1).await;
    go_on(4.0).await;
    stop(&standin, &room, id).await;
    wait_for(&standin, &recorder, ENDED, id).await;
    drop(turn);
    assert_eq!(wait_for(&standin, &recorder, FINISHED, id).await, (true, "success".into()));

    let mp4 = mp4(&standin, &recorder, id);
    let sync = in_step(&mp4);
    let own = sync.without_page(&room.flashes());
    println!("{sync}; {own}: {:.1?}", own.offsets);
    assert!(sync.beeps >= 9 && own.offsets.len() >= 6 && own.worst().abs() <= 80.0, "{own}: {:.1?}", own.offsets);

    let summary = std::fs::read_to_string(recorder.state_dir().join(format!("summaries/{id}.json"))).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    // One part, without a gap.
    assert_eq!(
        (&summary["parts"], &summary["gaps"], &summary["sound_gaps"]),
        (&1.into(), &Value::Array(vec![]), &0.into())
    );
    let log = recorder.stop(&[]);
    assert!(log.contains("with the parameters of each part"), "{log}");
    // What was encoded before is copied.
    assert!(log.contains("how=\"splice\"") && !log.contains("how=\"convert\""), "{log}");
}

/// Records a page that ffmpeg draws and plays by these inputs, with an encoder as a recording node starts it.
pub fn record_page(inputs: &[&str], settings: &EncoderSettings, size: (u32, u32), file: &Path) {
    let mut page = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin"])
        .args(inputs)
        .args(["-fps_mode", "passthrough", "-enc_time_base:v", "1:1000", "-c:v", "rawvideo", "-pix_fmt", "yuv420p"])
        .args(["-c:a", "pcm_s16le", "-ac", "2", "-f", "matroska", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let recorded = Command::new("ffmpeg")
        .args(["-v", "error"])
        .args(arguments(settings, size, &EncoderTarget::File(file.to_owned()), None))
        .stdin(page.stdout.take().unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(page.wait().unwrap().success() && recorded.success());
}

/// What ffmpeg finds in the packets of a track, one after the other.
pub fn packets_of(path: &Path, track: &str) -> Vec<String> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(["-map", track, "-c", "copy", "-f", "framehash", "-hash", "sha256", "-"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    // Stream, dts, pts, duration, size, hash, and what else belongs to the packet.
    let hash = |line: &str| line.split(',').nth(5).unwrap_or_default().trim().to_owned();
    lines.lines().filter(|line| !line.starts_with('#')).map(hash).collect()
}

#[tokio::test]
async fn the_mp4_holds_what_was_encoded_while_recording_at_the_time_at_which_it_was_captured() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, mp4) = (dir.path().join("rec_raw.mkv"), dir.path().join("rec.mp4"));
    let options = FfmpegOptions::post_recording(None);
    let final_encoding = FinalEncoding::read(&options).ok().map(Arc::new);
    let settings = EncoderSettings { final_encoding, ..EncoderSettings::new(&[], &[]) };
    // A flash with each beep, a picture that stands still between, and 2 s in which nothing changes at the end.
    let picture = "color=black:s=640x360:r=25:d=8,drawbox=c=white:t=fill:enable='between(mod(t,1),0.479,0.679)*lt(t,6)',\
                   mpdecimate=max=25,format=yuv420p";
    let beep = "aevalsrc='0.5*sin(2*PI*1000*t)*between(mod(t,1),0.48,0.68)':s=48000:d=8:c=stereo";
    record_page(&["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", beep], &settings, (640, 360), &raw);

    let media = ffprobe::measure(&raw).await.unwrap();
    let finish = FfmpegArguments::finish(&options, &media).unwrap();
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin"])
        .args(&finish.pre_input)
        .arg("-i")
        .arg(&raw)
        .args(&finish.post_input)
        .arg(&mp4)
        .status()
        .unwrap();
    assert!(made.success());
    assert_eq!(measure::boxes(&mp4), measure::ROOM_WAS_LEFT);
    let result = ffprobe::measure(&mp4).await.unwrap();
    verification::compare(&result, &finish.expected(&media)).unwrap();
    decode_check::check(&mp4, &result, 0).await.unwrap();

    for (in_raw, in_mp4) in [("0:0", "0:v"), ("0:2", "0:a")] {
        let [raw, mp4] = [packets_of(&raw, in_raw), packets_of(&mp4, in_mp4)];
        let at = raw.iter().zip(&mp4).position(|(raw, mp4)| raw != mp4);
        assert!(
            at.is_none() && raw.len() == mp4.len(),
            "{in_mp4}: {} {}, not the same at {at:?}",
            raw.len(),
            mp4.len()
        );
    }
    // In the raw file the sound is as it was captured.
    let whole = Crop::new(0, 0, 640, 360);
    let look = |path: &Path| (sound::beeps(path, 1000.0).unwrap(), picture::flashes(path, whole).unwrap());
    let [captured, made] = [look(&raw), look(&mp4)];
    assert_eq!((captured.0.len(), captured.1.len(), made.0.len(), made.1.len()), (8, 6, 8, 6), "{captured:?} {made:?}");
    for (captured, made) in captured.0.iter().zip(&made.0).chain(captured.1.iter().zip(&made.1)) {
        assert!((captured - made).abs() < 0.004, "captured at {captured} s, played at {made} s");
    }
}
