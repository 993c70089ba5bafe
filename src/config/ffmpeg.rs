//! The section `ffmpeg_settings`. The defaults are the reference's, word by word: operators copy and change them.

use super::reader::Section;
use super::{FfmpegConfig, FfmpegOptions};

/// Options before and after `-i` as they are written in the file.
struct Default {
    pre_input: &'static str,
    post_input: &'static str,
}

const RECORDING: Default = Default {
    pre_input: "-loglevel error -thread_queue_size 512 -draw_mouse 0 -threads 1",
    post_input: "-c:v libx264 -bf 0 -x264-params keyint=120:scenecut=0 -preset ultrafast -crf 23 -c:a copy \
                 -movflags frag_keyframe+empty_moov+default_base_moof -flush_packets 1 -tune zerolatency -y",
};

const POST_RECORDING: Default = Default {
    pre_input: "-loglevel error",
    post_input: "-c:v libx264 -profile:v baseline -pix_fmt yuv420p -preset veryfast -movflags faststart -y -c:a aac \
                 -af highpass=f=200,lowpass=f=4000,afftdn",
};

const RTMP: Default = Default {
    pre_input: "-loglevel error -draw_mouse 0 -threads 1",
    post_input: "-c:v libx264 -profile:v baseline -bf 0 -x264-params keyint=120:scenecut=0 -b:v 2500k \
                 -video_size 1920x1080 -c:a aac -b:a 128k -ar 44100 -preset ultrafast -crf 23 \
                 -movflags frag_keyframe+empty_moov+default_base_moof -bufsize 5000k -flush_packets 1 \
                 -tune zerolatency -f flv",
};

pub(super) fn read(root: &Section<'_>) -> FfmpegConfig {
    let section = root.section("ffmpeg_settings");
    let options = |key: &str, default: &Default| {
        let section = section.section(key);
        FfmpegOptions {
            pre_input: section.words("pre_input", default.pre_input),
            post_input: section.words("post_input", default.post_input),
        }
    };
    FfmpegConfig {
        recording: options("recording", &RECORDING),
        post_recording: options("post_recording", &POST_RECORDING),
        rtmp: options("rtmp", &RTMP),
    }
}
