//! How many recordings at once a whole node carries, encoded as their MP4 while they run where its processors allow it
//! (`ffmpeg_settings.one_pass`), and all of them encoded fast: that the node falls back is to cost no frame.
//!
//! One recording more every few seconds. A number of recordings holds where, in the time in which exactly so many ran,
//! less than 1 % of the frames were lost that were due, of all of them together.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::daemon::{Daemon, NodeOptions};
use crate::density::{IDLE_LIMIT, LOST_LIMIT, PATIENCE, SETTLE, idle_and_all, share};
use crate::machine::Machine;
use crate::measure::sound;
use crate::scene::{BEEP_HZ, Scene};
use crate::standin::{Deployment, Room, Standin};
use plugnmeet_recorder::protocol::messages::RecordingTasks;

const NODE: &str = "density";
const START_LIMIT: Duration = Duration::from_secs(90);
/// For the jobs of all recordings together.
const MP4_LIMIT: Duration = Duration::from_secs(900);
/// Seconds at each end of an MP4 in which a beep may be missing.
const MARGIN: f64 = 2.0;
/// From one beep to the next, in seconds; a longer one has lost a beep.
const BEEP_APART: f64 = 1.5;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// How long each number of recordings runs.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    #[arg(long, default_value = "one-webcam")]
    scene: Scene,
    /// The most that are tried.
    #[arg(long, default_value_t = 20)]
    most: u32,
}

/// The time in which a number of recordings ran.
struct Window {
    recordings: u32,
    idle: f64,
    frames_lost: f64,
}

/// What the node's metrics count, of all its recordings.
#[derive(Clone, Copy)]
struct Frames {
    sent: f64,
    lost: f64,
}

pub async fn run(options: &Options) -> anyhow::Result<()> {
    // For the client that asks for metrics.
    plugnmeet_recorder::tls::provide_crypto();
    println!("{}", Machine::look().line());
    for one_pass in [false, true] {
        println!("{}, one_pass: {one_pass}", options.scene.name());
        let standin = Standin::start(Deployment::default()).await?;
        let main_path = standin.dir().join("recordings");
        let node = NodeOptions { max_limit: options.most, one_pass, admin_port: free_port()? };
        let mut daemon = Daemon::start(&standin, NODE, &main_path, &node)?;
        let outcome = fill(options, &standin, &main_path, node.admin_port).await;
        let tail = daemon.tail();
        let [fast, changed] =
            ["encoded fast while it runs", "goes on with the fast encoder"].map(|words| daemon.count(words));
        daemon.stop()?;
        let windows = outcome.with_context(|| tail)?;
        for Window { recordings, idle, frames_lost } in &windows {
            println!(
                "  {recordings:2} at once: {:4.1} % idle, {:5.2} % of the frames lost",
                idle * 100.0,
                frames_lost * 100.0
            );
        }
        let holds = windows.iter().take_while(|window| window.frames_lost < LOST_LIMIT).last();
        let holds = holds.map_or(0, |window| window.recordings);
        println!("  holds {holds}; {fast} began with the fast encoder, {changed} changed to it");
    }
    Ok(())
}

/// Adds recordings until frames are lost or the machine is full; then all end, and their MP4s are looked at.
async fn fill(options: &Options, standin: &Standin, main_path: &Path, port: u16) -> anyhow::Result<Vec<Window>> {
    standin.fleet.wait_selectable(NODE, START_LIMIT).await?;
    let mut rooms: Vec<(String, Room)> = Vec::new();
    let mut windows = Vec::new();
    let mut full = 0;
    for recordings in 1..=options.most {
        let (room, id) = (standin.meeting(options.scene.meeting()), format!("RM_{recordings}"));
        let answer = standin.fleet.start_recording(&room, &id, NODE).await?.response.context("no answer")?;
        if !answer.status {
            println!("  one more is refused: {}", answer.msg);
            break;
        }
        standin.notices.wait_for(RecordingTasks::StartRecording, &id, START_LIMIT).await?;
        rooms.push((id, room));
        tokio::time::sleep(SETTLE).await;
        let window = watch(recordings, options.seconds, port).await?;
        full = if window.idle < IDLE_LIMIT || window.frames_lost >= LOST_LIMIT { full + 1 } else { 0 };
        windows.push(window);
        if full >= PATIENCE {
            break;
        }
    }
    for (id, room) in &rooms {
        standin.fleet.stop(RecordingTasks::StopRecording, room, id).await?;
    }
    for (id, _) in &rooms {
        let told = standin.notices.wait_for(RecordingTasks::RecordingProceeded, id, MP4_LIMIT).await?;
        let mp4 = main_path.join(told.message.file_path.trim_start_matches('/'));
        let missing = tokio::task::block_in_place(|| beeps_missing(&mp4))?;
        println!("  {id}: {missing} beeps missing");
    }
    Ok(windows)
}

/// Between two beeps of the MP4 that are further apart than a second.
fn beeps_missing(mp4: &Path) -> anyhow::Result<usize> {
    let beeps = sound::beeps(mp4, BEEP_HZ)?;
    let (first, last) = (beeps.first(), beeps.last());
    ensure!(first.is_some_and(|first| *first < MARGIN) && last.is_some(), "{} has no beeps", mp4.display());
    Ok(beeps.windows(2).filter(|pair| pair[1] - pair[0] > BEEP_APART).count())
}

async fn watch(recordings: u32, seconds: u32, port: u16) -> anyhow::Result<Window> {
    let (idle, before) = (idle_and_all(), frames(port).await?);
    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    let (idle_now, now) = (idle_and_all(), frames(port).await?);
    let (sent, lost) = (now.sent - before.sent, now.lost - before.lost);
    let idle = share(idle_now.0.saturating_sub(idle.0), idle_now.1.saturating_sub(idle.1));
    Ok(Window { recordings, idle, frames_lost: lost / (sent + lost).max(1.0) })
}

async fn frames(port: u16) -> anyhow::Result<Frames> {
    let text = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await?.text().await?;
    let counter = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("plugnmeet_recorder_{name}_total ")));
        line.and_then(|value| value.parse().ok()).with_context(|| format!("the node has no metric {name}"))
    };
    Ok(Frames { sent: counter("frames")?, lost: counter("frames_dropped")? })
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
