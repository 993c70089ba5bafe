//! The outlets of a recording: each is tried until it works, and costs the recording nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::capture::rtmp::relay::Relay;
use crate::codes;
use crate::page_recording::outlet::raw_feed::{Begin, FeedError, RawFeed, STALL_LIMIT};
use crate::page_recording::outlet::{hls, rtmp};
use crate::page_recording::summary::{OutletSummary, Tracks};
use crate::process::child::{self, Child, ChildSpec};
use crate::protocol::ids::RtmpUrl;
use crate::retry::Backoff;
use crate::storage::directory_check::DirectoryCheck;

/// Waits before an outlet is begun anew.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// An outlet that has worked for so long is begun anew after the first of these waits.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);
/// How often the directory of `--hls` is checked: ffmpeg does not say that its disk is full.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Looks that find it well, after which it counts as working again.
const WELL: u32 = 2;
/// Time limit for an ffmpeg that has all of the recording, or has closed its input.
const END_LIMIT: Duration = STALL_LIMIT;
/// Lines for the operator that wait to be told.
const NEWS: usize = 32;
/// What to look at where a far end has not all of a broadcast.
const FAR_END: &str = "are address and stream key right, is the server up, and does the line take 5 Mbit/s?";
/// ffmpeg's last lines in a cause.
const CAUSE_LINES: usize = 2;

/// What else becomes of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlet {
    Hls(PathBuf),
    Rtmp(RtmpUrl),
}

impl Outlet {
    /// As it is named to the operator: without the stream key.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Hls(dir) => hls::playlist(dir).display().to_string(),
            Self::Rtmp(url) => url.origin(),
        }
    }

    /// What to tell of one that is not complete. `mp4`: the file, where there is one.
    #[must_use]
    pub fn remedy(&self, why: &str, mp4: Option<&Path>) -> String {
        let (code, option) = (codes::RECORD_OUTLET, self.option());
        let said = format!("{code} error: {option} {} is not complete: {why}", self.name());
        match (self, mp4) {
            (Self::Hls(dir), Some(mp4)) => format!(
                "{said}; make it of the MP4 when its disk is well: ffmpeg -i '{}' -c copy -f hls -hls_list_size 0 '{}'",
                mp4.display(),
                hls::playlist(dir).display()
            ),
            (Self::Hls(_), None) => format!("{said}; free space there, or name another directory"),
            (Self::Rtmp(_), Some(mp4)) => format!("{said}; {FAR_END} '{}' is whole", mp4.display()),
            (Self::Rtmp(_), None) => format!("{said}; {FAR_END}"),
        }
    }

    /// What became of it; `error`: why it is not complete.
    fn summary(&self, interruptions: u32, error: Option<String>) -> OutletSummary {
        let code = error.as_ref().map(|_| codes::RECORD_OUTLET.to_string());
        OutletSummary { to: self.name(), complete: error.is_none(), interruptions, error, code }
    }

    fn option(&self) -> &'static str {
        match self {
            Self::Hls(_) => "--hls",
            Self::Rtmp(_) => "--rtmp",
        }
    }
}

/// The outlets of a recording that runs. Dropped, they end at once.
#[derive(Debug)]
pub struct Outlets {
    tasks: Vec<(Outlet, AbortOnDropHandle<OutletSummary>)>,
    complete: CancellationToken,
    news: mpsc::Receiver<String>,
}

impl Outlets {
    /// Begins to feed them with this raw file, which is there. `releases`: see [`RawFeed`].
    #[must_use]
    pub fn start(outlets: &[Outlet], raw: &Path, tracks: Tracks, releases: bool) -> Self {
        let complete = CancellationToken::new();
        let (sender, news) = mpsc::channel(NEWS);
        let start = |outlet: &Outlet| {
            let run = OutletRun {
                outlet: outlet.clone(),
                feed: RawFeed::new(raw, complete.clone(), releases),
                tracks,
                news: sender.clone(),
                fails: watch::Sender::new(false),
            };
            (outlet.clone(), AbortOnDropHandle::new(tokio::spawn(run.run())))
        };
        Self { tasks: outlets.iter().map(start).collect(), complete, news }
    }

    /// What the operator is to be told.
    pub fn news(&mut self) -> Option<String> {
        self.news.try_recv().ok()
    }

    /// Waits until they have all of the raw file, which is complete.
    pub async fn finish(self) -> Vec<(Outlet, OutletSummary)> {
        self.complete.cancel();
        let mut summaries = Vec::new();
        for (outlet, task) in self.tasks {
            let summary = task.await.unwrap_or_else(|error| outlet.summary(0, Some(error.to_string())));
            summaries.push((outlet, summary));
        }
        summaries
    }
}

/// An outlet at work.
struct OutletRun {
    outlet: Outlet,
    feed: RawFeed,
    tracks: Tracks,
    news: mpsc::Sender<String>,
    /// The last attempt has failed, and no other one works yet.
    fails: watch::Sender<bool>,
}

impl OutletRun {
    async fn run(mut self) -> OutletSummary {
        let (mut backoff, mut interruptions) = (Backoff::new(FIRST_WAIT, LONGEST_WAIT), 0);
        let error = loop {
            // One that begins when all is recorded is the last.
            let (last, begun) = (self.feed.is_complete(), Instant::now());
            let Err(why) = self.attempt().await else { break None };
            let is_live = matches!(self.outlet, Outlet::Rtmp(_));
            if last || (is_live && self.feed.is_complete()) {
                break Some(why);
            }
            interruptions += 1;
            if !self.fails.send_replace(true) {
                let again = if is_live {
                    "it is connected to again"
                } else {
                    "it is written anew, from the start of the recording"
                };
                self.tell(format!("{}: {why}; {again}, and the recording goes on", self.outlet.option()));
            }
            if begun.elapsed() > HEALTHY_AFTER {
                backoff.reset();
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.wait()) => {}
                () = self.feed.complete() => {}
            }
            if is_live && self.feed.is_complete() {
                break Some(why);
            }
        };
        self.outlet.summary(interruptions, error)
    }

    fn tell(&self, line: String) {
        // Where nobody has read the lines before it, it is of no use.
        let _ = self.news.try_send(line);
    }

    fn works(&self) {
        if self.fails.send_replace(false) {
            self.tell(format!("{} works again: {}", self.outlet.option(), self.outlet.name()));
        }
    }

    async fn attempt(&mut self) -> Result<(), String> {
        match self.outlet.clone() {
            Outlet::Hls(dir) => self.segments(&dir).await,
            Outlet::Rtmp(url) => self.broadcast(&url).await,
        }
    }

    async fn segments(&mut self, dir: &Path) -> Result<(), String> {
        let named = |why: String| format!("{} {why}", dir.display());
        DirectoryCheck::start(dir).answer().await.map_err(named)?;
        // ffmpeg reads a relative path with a colon as an address.
        let absolute = std::path::absolute(dir).map_err(|error| format!("{} {error}", dir.display()))?;
        let mut arguments = hls::arguments(&absolute, self.tracks);
        arguments.push(hls::playlist(&absolute).into());
        let mut ffmpeg = start(&[], arguments).await?;
        let mut feed = self.feed.clone();
        let fails = async {
            let mut looks = 0;
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                if let Err(why) = DirectoryCheck::start(dir).answer().await {
                    return named(why);
                }
                looks += 1;
                if looks == WELL {
                    self.works();
                }
            }
        };
        run_to_end(&mut ffmpeg, &mut feed, Begin::AtStart, fails).await?;
        hls::check(dir, self.feed.path(), self.tracks).await
    }

    async fn broadcast(&mut self, url: &RtmpUrl) -> Result<(), String> {
        // Connected to again by this outlet.
        let relay = Relay::start(url, Duration::ZERO, None).await;
        let mut relay = relay.map_err(|error| format!("no port of this host can be listened to: {error}"))?;
        let mut arguments = rtmp::arguments(self.tracks);
        arguments.push(relay.address().url().into());
        let mut ffmpeg = start(&[rtmp::PACED], arguments).await?;
        let (mut waits, mut feed) = (relay.waits(), self.feed.clone());
        let works = async {
            // The far end accepts the stream some time after ffmpeg has connected.
            let accepted = async {
                waits.wait_for(|waits| *waits).await?;
                waits.wait_for(|waits| !*waits).await.map(|_| ())
            };
            if accepted.await.is_ok() {
                self.works();
            }
            std::future::pending().await
        };
        let sent = run_to_end(&mut ffmpeg, &mut feed, Begin::Now, works).await;
        self.feed = feed;
        // The relay knows more than ffmpeg, whose connection it has closed.
        relay.finished().await?;
        sent.map_err(|why| relay.translate(&why))
    }
}

/// An ffmpeg that reads a raw file.
async fn start(before: &[&str], arguments: Vec<OsString>) -> Result<Child, String> {
    let ours = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "error"];
    let input = ["-f", "matroska", "-probesize", "32", "-analyzeduration", "0", "-fpsprobesize", "0", "-i", "pipe:0"];
    let mut spec = ChildSpec::new("ffmpeg", "ffmpeg").args(ours).args(before.iter().copied()).args(input);
    spec = spec.args(arguments);
    spec.pipe_stdin = true;
    spec.log_level = tracing::Level::WARN;
    child::spawn(&spec).await.map_err(|error| error.to_string())
}

/// Feeds ffmpeg until it has all and has ended. It is reaped when this returns, unless a disk holds it.
async fn run_to_end(
    ffmpeg: &mut Child,
    feed: &mut RawFeed,
    begin: Begin,
    fails: impl Future<Output = String>,
) -> Result<(), String> {
    let Some(input) = ffmpeg.stdin.take() else { return Err("ffmpeg has no standard input".to_owned()) };
    let ended = async {
        let taken = feed.feed(input, begin).await;
        // One that takes nothing does not end either.
        let limit = if matches!(taken, Err(FeedError::Stalled)) { Duration::ZERO } else { END_LIMIT };
        let exit = ffmpeg.end_within(limit).await;
        match taken {
            Ok(()) if exit.success() => Ok(()),
            Ok(()) | Err(FeedError::Ended) => {
                Err(format!("ffmpeg ended with {exit}: {}", ffmpeg.tail().last_lines(CAUSE_LINES)))
            }
            Err(error) => Err(error.to_string()),
        }
    };
    let failed = tokio::select! {
        ended = ended => return ended,
        why = fails => why,
    };
    ffmpeg.end_within(Duration::ZERO).await;
    Err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_ffmpeg_that_has_all_and_does_not_end_is_waited_for_with_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("raw");
        std::fs::write(&raw, "all of it").unwrap();
        let complete = CancellationToken::new();
        complete.cancel();
        let mut feed = RawFeed::new(&raw, complete, false);
        let mut spec = ChildSpec::new("ffmpeg", "/bin/sh").args(["-c", "cat > /dev/null; exec sleep 1000"]);
        spec.pipe_stdin = true;
        let mut ffmpeg = child::spawn(&spec).await.unwrap();
        tokio::time::pause();
        let (begun, never) = (Instant::now(), std::future::pending());
        let ended =
            tokio::time::timeout(10 * END_LIMIT, run_to_end(&mut ffmpeg, &mut feed, Begin::AtStart, never)).await;
        let why = ended.expect("it ends").unwrap_err();
        assert!(why.starts_with("ffmpeg ended with ") && begun.elapsed() >= END_LIMIT, "{why}");
    }

    #[test]
    fn what_is_not_complete_is_told_with_a_code_and_what_to_do() {
        let rtmp = Outlet::Rtmp(RtmpUrl::parse("rtmp://h/live/s3cret-stream-key").unwrap());
        let line = rtmp.remedy("rtmp://h: has taken nothing for 10 s", Some(Path::new("a.mp4")));
        assert!(line.starts_with("PNR-1236 error: --rtmp rtmp://h") && line.ends_with("? 'a.mp4' is whole"), "{line}");
        assert!(line.contains("is the server up") && !line.contains("s3cret"), "{line}");
        let line = Outlet::Hls("/a".into()).remedy("/a is full", None);
        assert!(line.starts_with("PNR-1236 error: --hls /a/index.m3u8 is not complete: /a is full; free"), "{line}");
    }
}
