//! The pages that are recorded: slides, webcams as real VP8 videos, and a tone.
//!
//! The video is made once, by ffmpeg, and is part of each page. Were it made within the pages, those that are opened while
//! the machine is nearly full would get one with fewer frames, and cost less.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cli::size::Scene;
use crate::process::child::{self, ChildSpec};

/// Joined as a meeting is (PROTOCOL 4).
const PAGE: &str = concat!("data:text/html,", include_str!("scene.html"));
/// What a camera sends: 25 frames a second that move everywhere.
const SOURCE: &str = "testsrc2=size=320x180:rate=25:duration=6";
const FILTER: &str = "scroll=horizontal=0.004:vertical=0.003";
/// As browsers encode a small camera picture.
const ENCODER: [&str; 12] =
    ["-pix_fmt", "yuv420p", "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "400k", "-g", "50"];
/// Time limit for making it, which takes a second.
const LIMIT: Duration = Duration::from_secs(20);

/// Makes the video of a webcam, in `dir`, as a URL that holds it.
///
/// # Errors
/// Why there is none.
pub async fn webcam(dir: &Path) -> Result<String, String> {
    let file = dir.join("webcam.webm");
    let mut spec = ChildSpec::new("ffmpeg", "ffmpeg")
        .args(["-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", SOURCE, "-vf", FILTER])
        .args(ENCODER)
        // A file, not a pipe: only then does ffmpeg write duration and cues, which looping needs.
        .args([OsString::from("-f"), "webm".into(), file.clone().into_os_string()]);
    spec.log_level = tracing::Level::DEBUG;
    let failed = |why: String| format!("no video for the webcams of the scenes could be made: {why}");
    let mut child = child::spawn(&spec).await.map_err(|error| failed(error.to_string()))?;
    let Ok(exit) = tokio::time::timeout(LIMIT, child.wait()).await else {
        child.stop(rustix::process::Signal::KILL, Duration::from_secs(5)).await;
        return Err(failed(format!("ffmpeg hangs: it has not ended within {} s", LIMIT.as_secs())));
    };
    if !exit.success() {
        let last = child.tail().last_lines(2);
        return Err(failed(format!(
            "ffmpeg ends with {exit}: {last}; it needs libvpx, as that of Debian and Ubuntu has it"
        )));
    }
    let bytes = tokio::fs::read(&file).await.map_err(|error| failed(error.to_string()))?;
    Ok(format!("data:video/webm;base64,{}", STANDARD.encode(bytes)))
}

/// The address of a scene's page.
#[must_use]
pub fn page(scene: Scene, webcam: &str) -> String {
    let clip = if scene.webcams() == 0 { "" } else { webcam };
    PAGE.replace("/*WEBCAMS*/0", &scene.webcams().to_string()).replace("/*CLIP*/", clip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_a_url_as_it_stands() {
        let page = page(Scene::FourWebcams, "data:video/webm;base64,aGk=");
        assert!(!page.contains(['#', '%']), "both have a meaning of their own in a URL");
        assert!(!PAGE.contains("//"), "its lines may be joined");
        assert!(page.contains("WEBCAMS = 4, CLIP = \"data:video/webm;base64,aGk=\""), "{page}");
        assert!(super::page(Scene::Slides, "data:x").contains("WEBCAMS = 0, CLIP = \"\""));
    }
}
