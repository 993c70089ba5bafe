//! What an MP4 of the default options shows and plays, against its raw file: sounds when they were heard, and a faint line when
//! it was drawn, among repetitions that are not encoded again.

use std::path::Path;

use crate::measure::{self, Crop};
use crate::transcode::{Node, REFERENCE_OPTIONS, ffmpeg, job_for, remove};

/// The beep of the sources here, in Hz: the default's filters let it pass.
const BEEP: f64 = 1000.0;

/// Converts what `source`, ffmpeg's inputs, gives, and looks at the raw file and the MP4.
async fn convert<T>(source: &str, options: &str, look: impl Fn(&Path) -> T) -> [T; 2] {
    let node = Node::with_options(true, options);
    let raw = node.room().join("rec-1_raw.mkv");
    let recorded = "-c:v libx264 -preset ultrafast -crf 23 -bf 0 -g 100 -c:a pcm_s16le -ac 2 -f matroska";
    ffmpeg(&format!("{source} {recorded}"), &raw);
    let was = look(&raw);
    assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw));
    [was, look(&node.mp4())]
}

#[tokio::test]
async fn sounds_stay_where_they_were_whatever_the_filters_delay() {
    let source = "-f lavfi -i color=gray:s=320x180:r=5:d=5 -f lavfi -i \
                  aevalsrc='0.4*sin(2*PI*1000*t)*between(mod(t,1),0.3,0.4)':s=48000:d=5";
    let twice = "-c:v libx264 -preset ultrafast -c:a aac -filter:a afftdn,volume=2,afftdn=nr=6";
    for options in [REFERENCE_OPTIONS, twice, "-c:v libx264 -preset ultrafast -c:a aac"] {
        let look = |file: &Path| (measure::sound::beeps(file, BEEP).unwrap(), measure::probe(file).unwrap().duration);
        let [(raw, raw_lasts), (made, lasts)] = convert(source, options, look).await;
        assert_eq!((raw.len(), made.len()), (5, 5), "{options}: {raw:?} {made:?}");
        for (raw, made) in raw.iter().zip(&made) {
            assert!((raw - made).abs() < 0.004, "{options}: heard at {raw}, played at {made}");
        }
        assert!((raw_lasts - lasts).abs() < 0.002, "{options}: {raw_lasts} {lasts}");
    }
}

#[tokio::test]
async fn a_still_picture_is_encoded_now_and_then_and_a_faint_line_at_once() {
    const LINE: &str = "drawbox=x=600:y=200:w=1:h=24:c=0xd7d7d7:t=fill:enable='gte(t,2)'";
    const AROUND_THE_LINE: Crop = Crop::new(600, 208, 2, 8);
    let source = format!(
        "-f lavfi -i color=white:s=1280x720:r=25:d=4,format=rgb24,drawbox=x=80:y=80:w=400:h=300:c=navy:t=fill,{LINE},\
         format=yuv420p -f lavfi -i sine=d=4:r=48000"
    );
    let look = |file: &Path| measure::picture::luma(file, AROUND_THE_LINE).unwrap();
    let [raw, made] = convert(&source, REFERENCE_OPTIONS, look).await;
    assert_eq!(raw.len(), 100);
    // One in ten, and the line.
    assert!((10..=14).contains(&made.len()), "{made:?}");
    for (at, luma) in &made {
        let there = raw.iter().find(|(raw, _)| (raw - at).abs() < 0.002).unwrap().1;
        assert!((there - luma).abs() < 4.0, "at {at} s it was {there} and is {luma}");
    }
    let drawn = made.iter().find(|(_, luma)| *luma < 228.0).unwrap().0;
    assert!((drawn - 2.0).abs() < 0.002, "{drawn} s: {made:?}");
}

#[tokio::test]
async fn there_is_a_keyframe_every_few_seconds_of_a_picture_that_hardly_changes() {
    let source = "-f lavfi -i testsrc=s=320x180:r=1:d=40 -f lavfi -i sine=d=40:r=48000";
    let keyframes = |file: &Path| {
        let packets = measure::packets(file).unwrap();
        packets.iter().filter(|packet| packet.is_video && packet.is_key).map(|packet| packet.at).collect::<Vec<_>>()
    };
    let [_, made] = convert(source, REFERENCE_OPTIONS, keyframes).await;
    assert!(made.len() >= 5 && made[0] < 0.01, "{made:?}");
    assert!(made.windows(2).all(|pair| pair[1] - pair[0] < 8.1) && made[made.len() - 1] > 31.9, "{made:?}");
}

#[tokio::test]
async fn the_picture_lasts_as_long_as_the_sound_though_its_last_repetitions_are_left_out() {
    let source = "-f lavfi -i smptebars=s=320x180:r=1:d=17 -f lavfi -i sine=d=17:r=48000";
    let with_b_frames = "-c:v libx264 -preset veryfast -c:a aac";
    for options in [REFERENCE_OPTIONS, with_b_frames] {
        let [raw, made] = convert(source, options, |file: &Path| measure::probe(file).unwrap()).await;
        let (video, sound) = (made.video().unwrap(), made.audio().unwrap());
        assert_eq!((raw.video().unwrap().packets, video.packets), (17, 2), "{options}");
        let (lasts, heard) = (video.duration.unwrap(), sound.duration.unwrap());
        assert!((lasts - 17.0).abs() < 0.002 && (heard - 17.0).abs() < 0.002, "{options}: {lasts} {heard}");
    }
}
