//! Another encoder for a capture that runs: of a broadcast with another bit rate, of a recording with other options into
//! its next file. It is ready before the one that runs ends.
//!
//! ```text
//! start: ffmpeg and its thread; it publishes to the relay, or writes its file's header, and waits for the next frame
//! switch: frames and sound go to it from one time on; the old one gets what is earlier, and the end
//! retire: the old one ends, and the relay goes on with the new one
//! ```

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::capture::component_error::ComponentError;
use crate::capture::encoder::arguments::{EncoderSettings, EncoderTarget};
use crate::capture::encoder::ffmpeg::{Encoder, KILL_LIMIT, STILL_THERE};
use crate::capture::encoder::matroska::Tracks;
use crate::capture::encoder::next_file;
use crate::capture::encoder::stream::{self, StreamWriter};
use crate::capture::encoder::stream_queue::{StreamQueue, StreamSwitch};
use crate::capture::rtmp::bit_rate::BitRate;
use crate::capture::rtmp::encoder_turn::Successor;
use crate::capture::rtmp::relay::RelayEntrance;
use crate::codes;
use crate::storage::detached;
use crate::storage::directory_check::DirectoryCheck;

/// From ffmpeg's start until it publishes to the relay or has written its file's header: half a second, more on a busy machine.
pub const READY_LIMIT: Duration = Duration::from_secs(15);
/// How long the old encoder may take for what it still gets, and for its end.
#[derive(Clone, Copy, Debug)]
pub struct RetirementLimits {
    last_items: Duration,
    end: Duration,
}

impl RetirementLimits {
    /// The far end of a broadcast waits.
    pub const BROADCAST: Self = Self { last_items: Duration::from_secs(5), end: Duration::from_secs(5) };
    /// The one of a recording was too slow already, and what it still gets holds sound. Nobody waits but the end.
    pub const FILE: Self = Self { last_items: Duration::from_secs(30), end: Duration::from_secs(10) };
}

/// What every further encoder of a capture is started with.
#[derive(Clone, Debug)]
pub struct EncoderReplacement {
    pub settings: EncoderSettings,
    pub target: EncoderTarget,
    pub tracks: Tracks,
    /// The rig's directory.
    pub dir: PathBuf,
}

/// An encoder that waits for its first frame.
#[derive(Debug)]
pub struct NextEncoder {
    encoder: Encoder,
    writer: StreamWriter,
    queue: StreamQueue,
    /// For the relay of a broadcast.
    begins_at: Arc<OnceLock<Duration>>,
}

/// An encoder has not become ready.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct NotReady {
    pub why: ComponentError,
    /// Ends when nothing of it can touch its file any more; `None`: that is so.
    pub rest: Option<AbortOnDropHandle<()>>,
}

impl From<ComponentError> for NotReady {
    fn from(why: ComponentError) -> Self {
        Self { why, rest: None }
    }
}

impl NotReady {
    fn until(why: ComponentError, end: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { why, rest: Some(AbortOnDropHandle::new(tokio::spawn(end))) }
    }
}

impl EncoderReplacement {
    /// Starts one that writes a file, which is ready when its header is in the file. `limit`: how long that may take.
    /// `failed` is called when its thread panics.
    ///
    /// # Errors
    /// Where ffmpeg cannot be started, ends, or does not write its file, or the file is one with media already.
    pub async fn start_file(
        self,
        switch: StreamSwitch,
        limit: Duration,
        failed: impl FnOnce(ComponentError) + Send + 'static,
    ) -> Result<NextEncoder, NotReady> {
        let unready = |why: String| ComponentError::new("ffmpeg", why);
        let EncoderTarget::File(file) = self.target.clone() else {
            return Err(unready("a broadcast has no file".to_owned()).into());
        };
        // On threads of their own, which a disk that hangs may keep.
        let next = file.clone();
        let mut removed = detached::start("next-file", move || next_file::remove_unused(&next));
        match timeout(limit, &mut removed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => return Err(unready(error.to_string()).into()),
            Ok(Err(_)) => return Err(unready("no thread could be started".to_owned()).into()),
            Err(_) => {
                let why = unready(format!("the disk of {} does not answer within {limit:?}", file.display()));
                return Err(NotReady::until(why, async move { drop(removed.await) }));
            }
        }
        let size = (self.tracks.width, self.tracks.height);
        let settings = EncoderSettings { first_is_trial: true, ..self.settings };
        let (mut encoder, stdin) = Encoder::spawn(&settings, size, &self.target, None, &self.dir).await?;
        let (queue, writer) = stream::start_writer(stdin, self.tracks, failed)?;
        queue.begin().map_err(|_| unready("it takes no input".to_owned()))?;
        switch.try_with_next_frame(&queue);
        // ffmpeg does not always say that a disk has refused its header.
        let disk = self.target.directory().map(DirectoryCheck::start);
        let mut written = detached::start("next-file", move || next_file::has_bytes_within(&file, limit));
        tokio::select! {
            written = timeout(limit, &mut written) => if matches!(written, Ok(Ok(true))) {
                return Ok(NextEncoder { encoder, writer, queue, begins_at: Arc::default() });
            },
            ended = encoder.ended() => {
                return Err(ended.err().unwrap_or_else(|| unready("it ended at once".to_owned())).into());
            }
        }
        // Killed first: it would complete its file once it has no input any more.
        let disk = disk.as_ref().and_then(DirectoryCheck::failure);
        let disk = disk.map(|failure| format!("; recorder.temporary_dir {failure}")).unwrap_or_default();
        let why = format!("it has not begun to write its file within {limit:?}{}{disk}", encoder.state());
        encoder.kill(why.clone());
        drop((writer, queue));
        // That it was killed is its error.
        let _ = timeout(limit.min(KILL_LIMIT), encoder.ended()).await;
        if encoder.has_ended() {
            return Err(unready(why).into());
        }
        let why = unready(format!("{why}; it was killed{STILL_THERE}"));
        Err(NotReady::until(why, async move {
            let _ = encoder.ended().await;
            let _ = written.await;
        }))
    }

    /// Starts one for a broadcast. `failed` is called when its thread panics.
    ///
    /// # Errors
    /// Where ffmpeg cannot be started, ends, or does not reach the relay.
    pub async fn start(
        self,
        bit_rate: BitRate,
        relay: RelayEntrance,
        failed: impl FnOnce(ComponentError) + Send + 'static,
    ) -> Result<NextEncoder, ComponentError> {
        let settings = self.settings.with_bit_rate(bit_rate);
        let size = (self.tracks.width, self.tracks.height);
        let (ready, is_ready) = oneshot::channel();
        let begins_at = Arc::<OnceLock<Duration>>::default();
        let successor = Successor { ready, begins_at: Arc::clone(&begins_at) };
        let unready = |why: String| ComponentError::new("ffmpeg", why);
        relay.successors.send(successor).await.map_err(|_| unready("the relay has ended".to_owned()))?;
        let started = Encoder::spawn(&settings, size, &self.target, Some(&relay.address), &self.dir).await;
        let (mut encoder, stdin) = started?;
        let (queue, writer) = stream::start_writer(stdin, self.tracks, failed)?;
        queue.begin().map_err(|_| unready("it takes no input".to_owned()))?;
        let published = timeout(READY_LIMIT, async {
            tokio::select! {
                published = is_ready => published.map_err(|_| unready("the relay does not take it".to_owned())),
                ended = encoder.ended() => Err(ended.err().unwrap_or_else(|| unready("it ended at once".to_owned()))),
            }
        });
        let limit = READY_LIMIT.as_secs();
        published.await.map_err(|_| unready(format!("it has not reached the relay within {limit} s")))??;
        Ok(NextEncoder { encoder, writer, queue, begins_at })
    }
}

impl NextEncoder {
    /// Frames and sound go to this encoder from `at` on, a time of the capture that is not in the future. It is rounded
    /// down to a millisecond, the unit of a file's times.
    #[must_use]
    pub fn take_over(self, switch: &StreamSwitch, at: Duration) -> (Encoder, StreamWriter) {
        let at = Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
        // Nobody else sets it.
        let _ = self.begins_at.set(at);
        switch.switch(self.queue, at);
        (self.encoder, self.writer)
    }
}

/// Ends the encoder that was replaced; how many bytes it has written.
pub async fn retire(
    mut encoder: Encoder,
    mut writer: StreamWriter,
    switch: StreamSwitch,
    limits: RetirementLimits,
) -> u64 {
    if !writer.ended_within(limits.last_items).await {
        switch.complete();
        writer.abandon().await;
    }
    if let Err(error) = encoder.finish(limits.end).await {
        tracing::warn!(
            code = %codes::ENCODER_REPLACED_BADLY, %error,
            "the encoder that was replaced did not end well: a moment may be missing"
        );
    }
    encoder.progress().bytes
}
