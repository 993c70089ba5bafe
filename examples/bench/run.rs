//! One pipeline on one scene for some seconds: what it cost, by program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::measure::cost::{Meter, resident};
use crate::scene::Scene;
use crate::standin::call::Guest;
use crate::standin::{Meeting, Room, Standin};
use crate::worker::{Done, Pipeline, Said};

/// Chrome's start and the join, on a machine that may be full.
const START_LIMIT: Duration = Duration::from_secs(90);
const END_LIMIT: Duration = Duration::from_secs(60);
/// From the first frame on, until everything runs as it goes on.
const SETTLE: Duration = Duration::from_secs(3);

/// Processor seconds of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds measured.
    pub seconds: f64,
    /// Everything but Chrome and the page server, by program; `recorder` is our own capture side.
    pub parts: BTreeMap<String, f64>,
    pub chrome: f64,
    /// Frames that were recorded, and lost ones; only ours knows.
    pub frames: u64,
    pub lost: u64,
}

impl Cost {
    pub fn total(&self) -> f64 {
        self.parts.values().sum()
    }

    pub fn without_pulseaudio(&self) -> f64 {
        self.parts.iter().filter(|(name, _)| *name != "pulseaudio").map(|(_, seconds)| seconds).sum()
    }
}

/// A recording that runs in a process of its own.
pub struct Recording {
    process: Child,
    stdin: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
    pipeline: Pipeline,
    file: PathBuf,
    room: Room,
}

impl Recording {
    /// What its page said of each flash.
    pub fn flashes(&self) -> Vec<(f64, f64)> {
        self.room.flashes()
    }

    /// Starts it; media flows when this returns.
    pub async fn start(standin: &Standin, meeting: Meeting, pipeline: Pipeline, name: &str) -> anyhow::Result<Self> {
        let room = standin.meeting(meeting);
        let file = standin.dir().join(format!("{name}.mkv"));
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["worker", "--pipeline", pipeline.name(), "--url"])
            .arg(format!("{}/?access_token={}", standin.host(), room.token))
            .arg("--file")
            .arg(&file)
            .env("TMPDIR", standin.dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut process = command.spawn()?;
        let stdin = process.stdin.take().context("no standard input")?;
        let said = BufReader::new(process.stdout.take().context("no standard output")?).lines();
        let mut recording = Self { process, stdin, said, pipeline, file, room };
        match tokio::time::timeout(START_LIMIT, recording.hear()).await.context("it does not start")?? {
            Said::Recording => Ok(recording),
            Said::Done(_) => bail!("it ended at its start"),
        }
    }

    async fn hear(&mut self) -> anyhow::Result<Said> {
        let line = self.said.next_line().await?;
        let line = line.with_context(|| format!("the {} pipeline ended unasked", self.pipeline.name()))?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Memory of our own capture side that is in use, in bytes.
    pub fn resident(&self) -> u64 {
        self.process.id().map_or(0, resident)
    }

    /// Follows what it costs from now on.
    pub fn meter(&self) -> Meter {
        Meter::start(self.process.id().unwrap_or_default())
    }

    /// What it has done so far.
    pub async fn so_far(&mut self) -> anyhow::Result<Done> {
        self.stdin.write_all(b"\n").await?;
        match tokio::time::timeout(END_LIMIT, self.hear()).await.context("it does not answer")?? {
            Said::Done(done) => Ok(done),
            Said::Recording => bail!("it answered something else"),
        }
    }

    /// Ends it; the file is whole when this returns.
    pub async fn stop(mut self) -> anyhow::Result<PathBuf> {
        drop(self.stdin);
        let ended = async {
            let line = self.said.next_line().await?;
            line.with_context(|| format!("the {} pipeline ended badly", self.pipeline.name()))?;
            self.process.wait().await?;
            anyhow::Ok(self.file)
        };
        tokio::time::timeout(END_LIMIT, ended).await.context("it does not end")?
    }
}

/// Measures one run.
pub async fn measure(standin: &Standin, scene: Scene, pipeline: Pipeline, seconds: u32) -> anyhow::Result<Cost> {
    let mut recording = Recording::start(standin, scene.meeting(), pipeline, "measured").await?;
    let guest = match scene.call() {
        Some(content) => {
            let guest = Guest::join(standin, &recording.room, content).await?;
            recording.room.wait_for_sound(1, START_LIMIT).await?;
            Some(guest)
        }
        None => None,
    };
    tokio::time::sleep(SETTLE).await;
    let before = recording.so_far().await?;
    let began = Instant::now();
    let mut meter = recording.meter();
    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    let cost = meter.read();
    let seconds = began.elapsed().as_secs_f64();
    let after = recording.so_far().await?;
    drop(guest);
    let file = recording.stop().await?;
    let media = crate::measure::probe(&file)?;
    ensure!(media.video()?.packets > 0 && media.audio()?.packets > 0, "there is nothing in its file");
    std::fs::remove_file(&file)?;
    let (frames, lost) = (after.frames_sent - before.frames_sent, after.frames_lost - before.frames_lost);
    Ok(Cost { frames, lost, ..by_program(&cost, pipeline, seconds) })
}

/// The worker of a foreign pipeline is this benchmark and not part of it.
fn by_program(cost: &crate::measure::cost::Cost, pipeline: Pipeline, seconds: f64) -> Cost {
    let mut parts = BTreeMap::new();
    for (name, seconds) in &cost.parts {
        let name = match name.as_str() {
            "bench" if !matches!(pipeline, Pipeline::Reference | Pipeline::Egress) => "recorder",
            "bench" => continue,
            name => name,
        };
        *parts.entry(name.to_owned()).or_default() += seconds;
    }
    Cost { seconds, parts, chrome: cost.browser, frames: 0, lost: 0 }
}

/// Whether the machine has what the pipeline needs.
pub fn is_there(pipeline: Pipeline) -> bool {
    let program = Path::new(match pipeline {
        Pipeline::Reference | Pipeline::Ours | Pipeline::Once | Pipeline::Lossless => "ffmpeg",
        Pipeline::Egress => "gst-launch-1.0",
    });
    plugnmeet_recorder::process::programs::find_program(program).is_some()
}
