//! Grabs the frames of a display: waits until the X server reports a change, fetches only the changed boxes, sends
//! frames.
//!
//! X11 extensions: DAMAGE reports that something has changed (once, until it is asked what), XFIXES holds the changes
//! as a region, MIT-SHM transfers pixels through shared memory.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use memmap2::Mmap;
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use x11rb::connection::Connection as _;
use x11rb::errors::ReplyError;
use x11rb::protocol::Event;
use x11rb::protocol::damage::{self, ConnectionExt as _, ReportLevel};
use x11rb::protocol::shm::{self, ConnectionExt as _};
use x11rb::protocol::xfixes::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{ConnectionExt as _, ImageFormat, Rectangle, Window};
use x11rb::rust_connection::RustConnection;

use crate::capture::component_error::ComponentError;
use crate::capture::encoder::counters::CaptureCounters;
use crate::capture::encoder::stream_queue::{FRAME_BUFFERS, StreamClosed, StreamSender};
use crate::capture::rig_thread::{Exchange, Pulse, RigThread};
use crate::capture::video::damage::{Box, boxes};
use crate::capture::video::display::DisplayAddress;
use crate::capture::video::drop_monitor::{DropMonitor, DropNotice, FrameCounts};
use crate::capture::video::frame::{Frame, InvalidBox, OutOfMemory};
use crate::capture::video::frame_pool::FramePool;
use crate::capture::video::pacer::{FramePacer, FramePacing};
use crate::capture::video::preview::Preview;
use crate::codes;

const COMPONENT: &str = "picture";
/// Bytes of a pixel at depth 24 in `ZPixmap` format.
const PIXEL: usize = 4;
/// After this long without a report of a change, the server is asked for changes all the same.
const ASK_ANYWAY: Duration = Duration::from_secs(1);

/// Frame buffers for somebody who looks, so that he takes none from ffmpeg. Their memory is touched only when they are
/// used.
const PREVIEW_BUFFERS: usize = 1;

/// The thread that grabs a display.
#[derive(Debug)]
pub struct Grabber {
    thread: RigThread,
    stop: OwnedFd,
    questions: Arc<Exchange>,
    preview: Preview,
}

impl Grabber {
    /// Starts to grab `width` × `height` pixels; frames are stamped with the time since `epoch`. `failed` is called when
    /// the thread ends by itself.
    ///
    /// # Errors
    /// Where the display is gone, lacks an extension, or no thread can be started.
    pub fn start(
        address: &DisplayAddress,
        (width, height): (u32, u32),
        pacing: FramePacing,
        epoch: Instant,
        sender: StreamSender,
        failed: impl FnOnce(ComponentError) + Send + 'static,
    ) -> Result<Self, ComponentError> {
        let connection = address.connect()?;
        let questions = Arc::<Exchange>::default();
        let source = GrabSource::open(connection, width, height, Arc::clone(&questions))
            .map_err(|error| ComponentError::new(COMPONENT, error))?;
        let stop =
            rustix::event::eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| ComponentError::new(COMPONENT, error))?;
        let stopped = stop.try_clone().map_err(|error| ComponentError::new(COMPONENT, error))?;
        let preview = Preview::default();
        let lent = preview.clone();
        let run = move |pulse: &Pulse| capture(&source, pacing, epoch, &sender, &stopped, &lent, pulse);
        let thread = RigThread::start("screen", COMPONENT, failed, run)?;
        Ok(Self { thread, stop, questions, preview })
    }

    /// Tells the thread to end, and waits for that up to `limit`. Where it has ended, the last frame has been sent.
    pub async fn stop(&mut self, limit: Duration) -> bool {
        // A write to an eventfd fails only if its counter is full.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        self.thread.ended_within(limit).await
    }

    #[must_use]
    pub fn pulse(&self) -> Arc<Pulse> {
        self.thread.pulse()
    }

    /// Lends the current frame.
    #[must_use]
    pub fn preview(&self) -> Preview {
        self.preview.clone()
    }

    /// The thread's questions to the X server.
    #[must_use]
    pub fn questions(&self) -> Arc<Exchange> {
        Arc::clone(&self.questions)
    }
}

pub(crate) fn root(connection: &RustConnection) -> Window {
    // Xvfb is started with exactly one screen.
    connection.setup().roots.first().map_or(x11rb::NONE, |screen| screen.root)
}

/// Errors of an X connection and of frames.
#[derive(Debug, thiserror::Error)]
enum GrabError {
    #[error("the display is gone: {0}")]
    Connection(#[from] x11rb::errors::ConnectionError),
    #[error("the display answered with an error: {0}")]
    Reply(#[from] ReplyError),
    #[error("no identifier left: {0}")]
    Id(#[from] x11rb::errors::ReplyOrIdError),
    #[error("shared memory: {0}")]
    Memory(#[from] std::io::Error),
    #[error("a box of the screen could not be converted: {0}")]
    Convert(#[from] InvalidBox),
    #[error(transparent)]
    Frames(#[from] OutOfMemory),
}

/// The changes and pixels of a display.
struct GrabSource {
    connection: RustConnection,
    root: Window,
    damage: damage::Damage,
    region: xfixes::Region,
    segment: shm::Seg,
    memory: Mmap,
    width: u32,
    height: u32,
    questions: Arc<Exchange>,
}

impl GrabSource {
    fn open(connection: RustConnection, width: u32, height: u32, questions: Arc<Exchange>) -> Result<Self, GrabError> {
        let root = root(&connection);
        connection.damage_query_version(1, 1)?.reply()?;
        connection.xfixes_query_version(5, 0)?.reply()?;
        connection.shm_query_version()?.reply()?;
        let len = width as usize * height as usize * PIXEL;
        let file =
            rustix::fs::memfd_create("pnm-screen", rustix::fs::MemfdFlags::CLOEXEC).map_err(std::io::Error::from)?;
        rustix::fs::ftruncate(&file, len as u64).map_err(std::io::Error::from)?;
        let memory = map(&file)?;
        let segment = connection.generate_id()?;
        connection.shm_attach_fd(segment, file, false)?.check()?;
        let region = connection.generate_id()?;
        connection.xfixes_create_region(region, &[])?.check()?;
        let damage = connection.generate_id()?;
        connection.damage_create(damage, root, ReportLevel::NON_EMPTY)?.check()?;
        Ok(Self { connection, root, damage, region, segment, memory, width, height, questions })
    }

    /// The whole screen.
    fn all(&self) -> Box {
        Box { x: 0, y: 0, width: self.width, height: self.height }
    }

    /// Whether the server has reported a change since the last call. Never blocks.
    fn changed(&self) -> Result<bool, GrabError> {
        let mut changed = false;
        while let Some(event) = self.connection.poll_for_event()? {
            changed |= matches!(event, Event::DamageNotify(_));
        }
        Ok(changed)
    }

    /// Updates `pool` with the changes since the last call, or with the whole screen. All pixels are of one moment,
    /// because the server is grabbed meanwhile. Returns whether anything was fetched.
    ///
    /// After an error the connection cannot be used any more; the server ends the grab with it.
    fn fetch(&self, pool: &mut FramePool, all: bool) -> Result<bool, GrabError> {
        self.questions.ask();
        self.connection.grab_server()?;
        self.connection.damage_subtract(self.damage, x11rb::NONE, self.region)?;
        let changed = self.connection.xfixes_fetch_region(self.region)?.reply()?;
        let changed = if all { vec![self.all()] } else { self.boxes(&changed.rectangles) };
        let request = |at: &Box, offset: u32| {
            let [x, y] = [at.x, at.y].map(|v| i16::try_from(v).unwrap_or(i16::MAX));
            let [w, h] = [at.width, at.height].map(|v| u16::try_from(v).unwrap_or(u16::MAX));
            let format = ImageFormat::Z_PIXMAP.into();
            self.connection.shm_get_image(self.root, x, y, w, h, !0, format, self.segment, offset)
        };
        // All requests are sent before the first reply is awaited.
        let mut offset = 0;
        let mut fetched = Vec::with_capacity(changed.len());
        for at in &changed {
            fetched.push((offset as usize, request(at, offset)?));
            offset += at.width * at.height * u32::try_from(PIXEL).unwrap_or(4);
        }
        self.connection.ungrab_server()?;
        self.connection.flush()?;
        let draw = |frame: &mut Frame| {
            for (at, (offset, cookie)) in changed.iter().zip(fetched) {
                cookie.reply()?;
                let len = at.width as usize * at.height as usize * PIXEL;
                frame.update(*at, self.memory.get(offset..offset + len).unwrap_or_default())?;
            }
            Ok::<_, GrabError>(())
        };
        if !changed.is_empty()
            && let Some(drawn) = pool.draw(&changed, draw)
        {
            drawn?;
        }
        self.questions.answer();
        Ok(!changed.is_empty())
    }

    fn boxes(&self, rectangles: &[Rectangle]) -> Vec<Box> {
        let rectangles: Vec<_> = rectangles
            .iter()
            .map(|r| (i32::from(r.x), i32::from(r.y), u32::from(r.width), u32::from(r.height)))
            .collect();
        boxes(&rectangles, self.width, self.height)
    }

    /// Waits for an event of the display, for `timeout`, or until `stop` is written to, which returns true.
    fn wait(&self, stop: &OwnedFd, timeout: Duration) -> std::io::Result<bool> {
        let timeout = rustix::event::Timespec::try_from(timeout).map_err(|_| std::io::ErrorKind::InvalidInput)?;
        let mut fds = [
            PollFd::new(self.connection.stream(), PollFlags::IN),
            PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
        ];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) => Ok(!fds[1].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Maps the memory that the X server writes pixels into.
#[expect(unsafe_code, reason = "memory shared with another process cannot be mapped otherwise")]
fn map(file: &OwnedFd) -> std::io::Result<Mmap> {
    // SAFETY: the file is an anonymous memfd of fixed length that only this process and the X server hold. The server
    // writes to it only between a GetImage request and its reply, and it is read only after the reply and before the
    // next request.
    unsafe { Mmap::map(file) }
}

fn capture(
    source: &GrabSource,
    pacing: FramePacing,
    epoch: Instant,
    sender: &StreamSender,
    stop: &OwnedFd,
    preview: &Preview,
    pulse: &Pulse,
) -> Result<(), ComponentError> {
    let run = || -> Result<(), GrabError> {
        let mut pool = FramePool::new(FRAME_BUFFERS + PREVIEW_BUFFERS, source.width, source.height)?;
        let first = epoch.elapsed();
        let mut pacer = FramePacer::begin(pacing, first);
        source.fetch(&mut pool, true)?;
        let mut fetched = first;
        if send(sender, first, &pool, true) == Err(StreamClosed) {
            return Ok(());
        }
        // Time of the first change that is not sent yet.
        let mut changed: Option<Duration> = None;
        let mut drop_monitor = DropMonitor::default();
        loop {
            pulse.beat();
            if source.changed()? && changed.is_none() {
                changed = Some(epoch.elapsed());
            }
            let due = pacer.due(changed.is_some());
            // Checked also where the next frame is overdue: a busy host must not miss the stop.
            if source.wait(stop, due.saturating_sub(epoch.elapsed()))? {
                break;
            }
            preview.offer(|| pool.current());
            let now = epoch.elapsed();
            if now < due {
                continue;
            }
            pacer.advance(now);
            log_lost_frames(&mut drop_monitor, now, sender.counters());
            let mut is_new = false;
            if let Some(since) = changed {
                let late = pacer.missed(due.max(since), now);
                sender.counters().frames_late.fetch_add(late, Ordering::Relaxed);
                // Changes stay with the server until there is a free buffer.
                if !(sender.has_room() && pool.has_free()) {
                    sender.count_dropped();
                    continue;
                }
                is_new = source.fetch(&mut pool, false)?;
                (changed, fetched) = (None, now);
            } else if now.saturating_sub(fetched) >= ASK_ANYWAY && sender.has_room() && pool.has_free() {
                // A server that hangs reports no change either.
                is_new = source.fetch(&mut pool, false)?;
                fetched = now;
            }
            if send(sender, now, &pool, is_new) == Err(StreamClosed) {
                return Ok(());
            }
        }
        // The last frame again at the end, so that the file is as long as the meeting.
        let _ = send(sender, epoch.elapsed(), &pool, false);
        Ok(())
    };
    run().map_err(|error| ComponentError::new(COMPONENT, error))
}

/// Logs when frames are lost and when that is over.
fn log_lost_frames(drop_monitor: &mut DropMonitor, now: Duration, counters: &CaptureCounters) {
    let [sent, dropped, late] = [&counters.frames_sent, &counters.frames_dropped, &counters.frames_late]
        .map(|counter| counter.load(Ordering::Relaxed));
    match drop_monitor.update(now, FrameCounts { sent, dropped, late }) {
        Some(DropNotice::Losing { due, dropped, late }) => tracing::warn!(
            code = %codes::FRAMES_LOST,
            due,
            dropped,
            late,
            "frames are being lost: ffmpeg cannot keep up (dropped) or the machine is overloaded (late); the picture jerks, \
             the sound is whole. Fewer recordings at once (max_limit), a faster -preset or a smaller picture would help"
        ),
        Some(DropNotice::Over) => tracing::info!("no frames are being lost any more"),
        None => {}
    }
}

/// Sends the current frame and, if it is not dropped, adds it to the quality statistics.
fn send(sender: &StreamSender, at: Duration, pool: &FramePool, is_new: bool) -> Result<bool, StreamClosed> {
    let Some(frame) = pool.current() else { return Ok(false) };
    let sent = sender.send_frame(at, Arc::clone(&frame))?;
    if sent {
        sender.counters().video().add_frame(at, is_new, || frame.is_black());
    }
    Ok(sent)
}
