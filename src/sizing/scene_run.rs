//! Measures one scene: has recordings run as [`Search`] wants them, and looks at what they do.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::capture::rig::{CaptureReport, RigSpec};
use crate::cli::size::Scene;
use crate::config::Config;
use crate::fleet::load;
use crate::fleet::recording_needs::MEASURED;
use crate::page_recording::console::{Console, REDRAW};
use crate::process::cgroup::Cgroups;
use crate::sizing::advice::{SceneResult, TranscodingResult};
use crate::sizing::meter::Meter;
use crate::sizing::others;
use crate::sizing::outcome::Interruption;
use crate::sizing::rigs::Rigs;
use crate::sizing::search::{Resources, Search, SearchEnd, SearchLimits, SearchStep};
use crate::sizing::transcodes::Transcodes;
use crate::sizing::window::{self, Progress, Window};
use crate::storage::disk_space::{self, DiskLevel};

/// From a change of the number of recordings until the machine is as busy as it stays.
const SETTLE: Duration = Duration::from_secs(3);
/// For reading `/proc` and for closing some.
const AROUND: Duration = Duration::from_secs(1);
/// Kept for closing them at the end.
const CLOSING: Duration = Duration::from_secs(8);
/// Kept for the search beside transcodes: two or three numbers.
const TRANSCODING: Duration = Duration::from_secs(26);
/// Memory that is kept free, never more than a quarter: a node is short of memory below it (`fleet/overload.rs`).
const MEMORY_RESERVE: u64 = 512 << 20;
/// Load from which a recording that does not open says that the machine is full, and not that something is broken.
const FULL: f64 = 0.9;

/// What all scenes share.
pub struct Surroundings<'a> {
    pub config: &'a Config,
    pub dir: &'a Path,
    pub most: u32,
    /// How long a number of recordings is looked at.
    pub window: Duration,
    /// The owner name of this process's rigs.
    pub owner: &'a str,
    pub cancel: &'a CancellationToken,
}

/// A scene that is measured.
struct SceneRun<'a> {
    around: &'a Surroundings<'a>,
    console: &'a mut Console,
    meter: &'a mut Meter,
    scene: Scene,
    rigs: Rigs,
    cores: f64,
    /// Frames that each should have in a window: what one alone has, and never less than the page shows.
    expected: u64,
    /// What one more takes to open.
    opening: Duration,
    /// Memory of each: at first what another machine has measured.
    memory: u64,
}

/// Measures a scene until `until` at the latest, and leaves no recording behind.
///
/// # Errors
/// What has stopped it.
pub async fn measure(
    around: &Surroundings<'_>,
    scene: Scene,
    spec: RigSpec,
    until: Instant,
    meter: &mut Meter,
    console: &mut Console,
) -> Result<SceneResult, Interruption> {
    let cores = load::total_cores();
    let mut run = SceneRun {
        around,
        console,
        meter,
        scene,
        rigs: Rigs::new(spec, around.dir, cores),
        cores: load::capacity(&Cgroups::of_this_process()),
        expected: u64::from(scene.frames_per_second()) * around.window.as_secs(),
        opening: Duration::ZERO,
        memory: MEASURED.memory,
    };
    let result = Box::pin(run.whole(until)).await;
    run.console.begin(&format!("{}: closing the recordings", scene.name()));
    if !run.rigs.close_to(0).await {
        run.console.note("Some programs of the recordings do not end: they are killed with this one.");
    }
    result
}

impl SceneRun<'_> {
    async fn whole(&mut self, until: Instant) -> Result<SceneResult, Interruption> {
        let until = until.checked_sub(CLOSING).unwrap_or(until);
        let transcodes = self.around.config.recorder.mode.transcodes();
        let search_until = if transcodes { until.checked_sub(TRANSCODING).unwrap_or(until) } else { until };
        let limits = SearchLimits {
            first: 1,
            most: self.around.most,
            cores: self.cores,
            look: SETTLE + self.around.window + AROUND,
        };
        let mut search = Search::new(limits);
        let end = self.search(&mut search, search_until).await?;
        let (held, failed) = (search.held().copied(), search.failed().copied());
        let transcoding = match held {
            Some(held) if transcodes => self.beside_transcodes(held.recordings, limits, until).await?,
            _ => None,
        };
        Ok(SceneResult { scene: self.scene, held, failed, end, transcoding })
    }

    /// How many hold while MP4s are made. `None`: none can be made, which was told.
    async fn beside_transcodes(
        &mut self,
        held: u32,
        limits: SearchLimits,
        until: Instant,
    ) -> Result<Option<TranscodingResult>, Interruption> {
        self.close_to(held).await;
        let Some(raw) = self.rigs.oldest_file() else { return Ok(None) };
        let name = self.scene.name();
        let untold = |why: String| format!("{name}: what transcoding leaves is not known: no MP4 can be made: {why}");
        let mut transcodes = match Transcodes::start(self.around.config, raw, self.around.dir).await {
            Ok(transcodes) => transcodes,
            Err(why) => {
                self.console.note(untold(why));
                return Ok(None);
            }
        };
        let jobs = transcodes.jobs();
        let mut search = Search::new(SearchLimits { first: held, most: held, ..limits });
        let mut speed = 0.0;
        let ended = loop {
            match search.next(&self.resources(until)) {
                SearchStep::End(_) => break Ok(()),
                SearchStep::Measure(number) => {
                    self.close_to(number).await;
                    let (begun, made) = (Instant::now(), transcodes.made());
                    let window = match Box::pin(self.look(number, true, " beside transcoding")).await {
                        Ok(window) => window,
                        Err(interruption) => break Err(interruption),
                    };
                    if window.holds() {
                        let made = transcodes.made().saturating_sub(made);
                        speed = made.as_secs_f64() / begun.elapsed().as_secs_f64().max(1e-3);
                    }
                    search.add(window);
                }
            }
        };
        let failure = transcodes.failure();
        transcodes.end().await;
        ended?;
        if let Some(why) = failure {
            self.console.note(untold(why));
            return Ok(None);
        }
        Ok(Some(TranscodingResult { held: search.held().copied(), failed: search.failed().copied(), jobs, speed }))
    }

    async fn search(&mut self, search: &mut Search, until: Instant) -> Result<SearchEnd, Interruption> {
        loop {
            let number = match search.next(&self.resources(until)) {
                SearchStep::Measure(number) => number,
                SearchStep::End(end) => return Ok(end),
            };
            let before = self.rigs.running();
            if number > before {
                match self.open(number - before).await {
                    Ok(()) => {}
                    Err(None) => return Err(Interruption::Signal),
                    Err(Some(cause)) if before > 0 && self.meter.busy() >= FULL => {
                        return Ok(SearchEnd::NotStarted(cause));
                    }
                    Err(Some(cause)) => {
                        let what =
                            if before == 0 { "no recording can be made here" } else { "one more cannot be opened" };
                        return Err(Interruption::Broke(format!("{what}: {cause}")));
                    }
                }
            }
            self.close_to(number).await;
            let window = Box::pin(self.look(number, number != before, "")).await?;
            search.add(window);
        }
    }

    fn resources(&self, until: Instant) -> Resources {
        let running = self.rigs.running();
        let room = match self.meter.memory() {
            Some((free, limit)) => {
                let spare = free.saturating_sub(MEMORY_RESERVE.min(limit / 4));
                running.saturating_add(u32::try_from(spare / self.memory.max(1)).unwrap_or(u32::MAX))
            }
            None => u32::MAX,
        };
        Resources { running, room, opening: self.opening, left: until.saturating_duration_since(Instant::now()) }
    }

    async fn close_to(&mut self, number: u32) {
        if number < self.rigs.running() {
            self.rigs.close_to(number).await;
        }
    }

    async fn open(&mut self, more: u32) -> Result<(), Option<String>> {
        let running = self.rigs.running();
        self.console.begin(&format!("{}: opening {more} more, {running} run", self.scene.name()));
        let begun = Instant::now();
        let opened = self.rigs.open(more, self.around.cancel).await;
        // The first one waits for itself; later ones are opened side by side, while others run.
        let at_once = if running == 0 { self.cores.max(2.0) / 1.5 } else { f64::from(more) };
        self.opening = begun.elapsed().div_f64(at_once);
        opened
    }

    /// Looks at the recordings that run. `settle`: they were others a moment ago.
    async fn look(&mut self, number: u32, settle: bool, how: &str) -> Result<Window, Interruption> {
        let what = format!("{}: {number} at once{how}", self.scene.name());
        if settle {
            self.pause(SETTLE, &what).await?;
        }
        self.meter.mark();
        let before = self.rigs.reports();
        self.pause(self.around.window, &what).await?;
        let after = self.rigs.reports();
        let busy = self.meter.busy();
        self.surroundings_are_calm().await?;
        let between = |(before, after): (&CaptureReport, &CaptureReport)| Progress::between(before, after);
        let progress: Vec<Progress> = before.iter().zip(&after).map(between).collect();
        let needs = self.meter.needs(number, progress.iter().map(|one| one.bytes).sum()).await;
        let window = window::window(&progress, self.expected, busy, needs);
        if let [one] = progress[..] {
            self.expected = self.expected.max(one.frames_sent + one.frames_lost);
        }
        self.memory = if needs.memory > 0 { needs.memory } else { self.memory };
        let verdict = if window.holds() { "hold".to_owned() } else { format!("lose {}", window.fault()) };
        self.console.note(format!("{what}: {verdict}, processors {:.0} % busy", busy * 100.0));
        Ok(window)
    }

    /// Waits while nothing breaks.
    async fn pause(&mut self, length: Duration, what: &str) -> Result<(), Interruption> {
        let end = tokio::time::Instant::now() + length;
        let cancel = self.around.cancel;
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Interruption::Signal),
                cause = self.rigs.broken() => return Err(Interruption::Broke(cause)),
                () = tokio::time::sleep_until(end) => return Ok(()),
                () = tokio::time::sleep(REDRAW) => {
                    let left = end.saturating_duration_since(tokio::time::Instant::now());
                    // A time of zero: a line on a terminal only.
                    self.console.progress(Duration::ZERO, || format!("{what}, {:.0} s more", left.as_secs_f64()));
                }
            }
        }
    }

    /// Whether nobody else records, and there is space.
    async fn surroundings_are_calm(&self) -> Result<(), Interruption> {
        let (owner, dir) = (self.around.owner.to_owned(), self.around.dir.to_owned());
        let reserve = self.around.config.recorder.min_free_space;
        let looking = tokio::task::spawn_blocking(move || {
            if let Some(why) = others::rigs(&owner) {
                return Err(Interruption::Disturbed(why));
            }
            let Ok(space) = disk_space::free(&dir) else { return Ok(()) };
            match disk_space::judge(space, reserve, DiskLevel::Enough) {
                DiskLevel::Enough => Ok(()),
                level => Err(Interruption::DiskFull(disk_space::reason("temporary_dir", &dir, space, reserve, level))),
            }
        });
        // A disk or /proc that does not answer is told by the rigs.
        tokio::time::timeout(SETTLE, looking).await.ok().and_then(Result::ok).unwrap_or(Ok(()))
    }
}
