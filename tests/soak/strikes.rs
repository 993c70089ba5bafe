//! The strikes of a soak: what breaks, and what comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::JoinSet;

use super::node::{self, Node};
use super::run::{ENDED, Entry, GENEROUS, Soak};
use super::schedule::{DiskFault, Fault, Place, Strike};
use crate::standin::notices::Mood;

/// A remux of a short recording is over soon.
const TRANSCODER_LOOK: Duration = Duration::from_millis(30);

impl Soak {
    pub(super) async fn strike(
        self: &Arc<Self>,
        strike: &Strike,
        node: &mut Node,
        lasting: &mut JoinSet<anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let fault = strike.fault;
        match fault {
            Fault::Kill(_) | Fault::Hang(_) | Fault::CrashPage | Fault::HangPage => self.strike_rig(strike, node),
            Fault::KillDaemon { away, convert } => {
                self.struck(fault, "");
                let now = self.now();
                self.book.lock().unwrap().kills.push(now);
                node.kill()?;
                tokio::time::sleep(away).await;
                self.next_life(node, convert)?;
            }
            Fault::EndDaemon { away, convert } => {
                self.struck(fault, "");
                let now = self.now();
                self.book.lock().unwrap().terms.push(now);
                let status = node.end(GENEROUS).await?;
                if !status.is_some_and(|status| status.success()) {
                    self.wrong(format!("on SIGTERM at {now:.1} s the recorder ended with {status:?}"));
                }
                tokio::time::sleep(away).await;
                self.next_life(node, convert)?;
            }
            Fault::NatsAway { lasts, killed } => {
                // Away already: once is enough.
                let Ok(held) = Arc::clone(&self.nats_away).try_lock_owned() else { return Ok(()) };
                self.struck(fault, "");
                if killed {
                    self.standin.kill_nats()?;
                } else {
                    self.standin.stop_nats()?;
                }
                let soak = Arc::clone(self);
                lasting.spawn(async move {
                    tokio::time::sleep(lasts).await;
                    soak.standin.start_nats().await?;
                    soak.say("NATS is back");
                    drop(held);
                    Ok(())
                });
            }
            Fault::HangDaemon { lasts } => self.hang_daemon(fault, lasts, node, lasting),
            Fault::HangNats { lasts } => self.hang_nats(fault, lasts, lasting),
            Fault::Disk { .. } => self.break_disk(fault, node, lasting),
            Fault::Unmount { lasts } => self.unmount(fault, lasts, node, lasting),
            Fault::ServerFails { lasts } => self.server_away(fault, Mood::Answer(500), lasts, lasting),
            Fault::ServerHangs { lasts } => self.server_away(fault, Mood::Hang, lasts, lasting),
            Fault::ProxyFails { lasts } => self.server_away(fault, Mood::Proxy(502), lasts, lasting),
            Fault::KillTranscoder => {
                let soak = Arc::clone(self);
                lasting.spawn(async move {
                    soak.next_transcoder(fault, Signal::KILL).await;
                    Ok(())
                });
            }
            Fault::HangTranscoder { lasts } => {
                let soak = Arc::clone(self);
                lasting.spawn(async move {
                    if let Some(transcoder) = soak.next_transcoder(fault, Signal::STOP).await {
                        tokio::time::sleep(lasts).await;
                        transcoder.signal(Signal::CONT);
                    }
                    Ok(())
                });
            }
        }
        Ok(())
    }

    fn hang_daemon(
        self: &Arc<Self>,
        fault: Fault,
        lasts: Duration,
        node: &Node,
        lasting: &mut JoinSet<anyhow::Result<()>>,
    ) {
        let daemon = node::process(node.pid()).filter(|daemon| daemon.signal(Signal::STOP));
        let Some(daemon) = daemon else { return };
        self.struck(fault, "");
        self.strike_all();
        let soak = Arc::clone(self);
        lasting.spawn(async move {
            tokio::time::sleep(lasts).await;
            daemon.signal(Signal::CONT);
            soak.say("the recorder goes on");
            Ok(())
        });
    }

    fn hang_nats(self: &Arc<Self>, fault: Fault, lasts: Duration, lasting: &mut JoinSet<anyhow::Result<()>>) {
        let Ok(held) = Arc::clone(&self.nats_away).try_lock_owned() else { return };
        self.struck(fault, "");
        self.standin.signal_nats(Signal::STOP);
        let soak = Arc::clone(self);
        lasting.spawn(async move {
            tokio::time::sleep(lasts).await;
            soak.standin.signal_nats(Signal::CONT);
            soak.say("NATS goes on");
            drop(held);
            Ok(())
        });
    }

    fn break_disk(self: &Arc<Self>, fault: Fault, node: &Node, lasting: &mut JoinSet<anyhow::Result<()>>) {
        let Fault::Disk { place, fault: how, lasts } = fault else { return };
        let Ok(disk) = Arc::clone(node.disk(place)).try_lock_owned() else { return };
        self.struck(fault, "");
        if place == Place::Temporary {
            self.strike_all();
        }
        if place == Place::State {
            let now = self.now();
            self.book.lock().unwrap().unwritten.push((now, now + lasts.as_secs_f64()));
        }
        if (place, how) == (Place::Temporary, DiskFault::Full) {
            let now = self.now();
            self.book.lock().unwrap().full.push(now);
        }
        disk.break_down(how);
        let soak = Arc::clone(self);
        // On a thread of its own. A child that is just being started closes the recorder's files on this disk, and until it
        // has, the kernel lets nobody read its environment: so whoever looks for the processes of a rig hangs too.
        lasting.spawn_blocking(move || {
            std::thread::sleep(lasts);
            disk.heal();
            soak.say(&format!("the disk of {place:?} is well again"));
            Ok(())
        });
    }

    fn unmount(
        self: &Arc<Self>,
        fault: Fault,
        lasts: Duration,
        node: &Node,
        lasting: &mut JoinSet<anyhow::Result<()>>,
    ) {
        let Ok(mut disk) = Arc::clone(node.disk(Place::Main)).try_lock_owned() else { return };
        self.struck(fault, "");
        disk.unmount();
        let soak = Arc::clone(self);
        lasting.spawn(async move {
            tokio::time::sleep(lasts).await;
            for path in disk.mount() {
                soak.wrong(format!("written while main_path was not mounted: {}", path.display()));
            }
            soak.say("main_path is mounted again");
            Ok(())
        });
    }

    fn strike_rig(&self, strike: &Strike, node: &Node) {
        let rigs = node.rigs();
        let picked = usize::try_from(strike.pick).unwrap_or(0).checked_rem(rigs.len());
        let Some(rig) = picked.and_then(|picked| rigs.get(picked)) else { return };
        let recording = rig.recording();
        let now = self.now();
        let hit = |part, signal| rig.part(part).is_some_and(|process| process.signal(signal));
        let renderers = |signal| rig.renderers().iter().filter(|process| process.signal(signal)).count() > 0;
        let struck = match strike.fault {
            Fault::Kill(part) => hit(part, Signal::KILL),
            Fault::Hang(part) => hit(part, Signal::STOP),
            Fault::HangPage => renderers(Signal::STOP),
            _ => renderers(Signal::KILL),
        };
        if !struck {
            return;
        }
        self.struck(strike.fault, recording.as_deref().unwrap_or("one that is being opened"));
        let mut book = self.book.lock().unwrap();
        if let Some(entry) = book.takes.iter_mut().find(|entry| Some(&entry.id) == recording.as_ref()) {
            entry.struck.push(now);
        }
    }

    fn server_away(
        self: &Arc<Self>,
        fault: Fault,
        mood: Mood,
        lasts: Duration,
        lasting: &mut JoinSet<anyhow::Result<()>>,
    ) {
        let Ok(held) = Arc::clone(&self.server_away).try_lock_owned() else { return };
        self.struck(fault, "");
        // A proxy answers for the page and the token checks too.
        if let Mood::Proxy(status) = mood {
            self.standin.proxy_answers(Some(status));
        }
        self.standin.notices.always(mood);
        let soak = Arc::clone(self);
        lasting.spawn(async move {
            tokio::time::sleep(lasts).await;
            soak.standin.proxy_answers(None);
            soak.standin.notices.always(Mood::Take);
            drop(held);
            Ok(())
        });
    }

    /// Signals the next one, whenever it comes.
    async fn next_transcoder(&self, fault: Fault, signal: Signal) -> Option<node::Process> {
        while Instant::now() < self.until {
            let daemon = self.book.lock().unwrap().lives.last().copied();
            if let Some(struck) = daemon.and_then(node::transcoder).filter(|process| process.signal(signal)) {
                self.struck(fault, "");
                return Some(struck);
            }
            tokio::time::sleep(TRANSCODER_LOOK).await;
        }
        None
    }

    /// Whatever is recorded now may lose something.
    fn strike_all(&self) {
        let now = self.now();
        let mut book = self.book.lock().unwrap();
        let running = |entry: &&mut Entry| !self.standin.notices.tasks_of(&entry.id).contains(&ENDED);
        book.takes.iter_mut().filter(running).for_each(|entry| entry.struck.push(now));
    }

    fn struck(&self, fault: Fault, whom: &str) {
        self.say(&format!("{fault:?} {whom}"));
        *self.book.lock().unwrap().faults.entry(fault.kind()).or_default() += 1;
    }
}
