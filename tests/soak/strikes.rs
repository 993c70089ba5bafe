//! The strikes of a soak: what breaks, and what comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::JoinSet;

use super::node::{self, Node};
use super::run::{GENEROUS, Soak};
use super::schedule::{Fault, Part, Strike};
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
            Fault::Kill(_) | Fault::HangChrome | Fault::CrashPage => self.strike_rig(strike, node),
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
            Fault::ServerFails { lasts } => self.server_away(fault, Mood::Answer(500), lasts, lasting),
            Fault::ServerHangs { lasts } => self.server_away(fault, Mood::Hang, lasts, lasting),
            Fault::KillTranscoder => {
                let soak = Arc::clone(self);
                lasting.spawn(async move { soak.kill_transcoder(fault).await });
            }
        }
        Ok(())
    }

    fn strike_rig(&self, strike: &Strike, node: &Node) {
        let rigs = node.rigs();
        let picked = usize::try_from(strike.pick).unwrap_or(0).checked_rem(rigs.len());
        let Some(rig) = picked.and_then(|picked| rigs.get(picked)) else { return };
        let recording = rig.recording();
        let now = self.now();
        let hit = |part| rig.part(part).is_some_and(|process| process.signal(Signal::KILL));
        let struck = match strike.fault {
            Fault::Kill(part) => hit(part),
            Fault::HangChrome => rig.part(Part::Chrome).is_some_and(|process| process.signal(Signal::STOP)),
            _ => rig.renderers().iter().filter(|process| process.signal(Signal::KILL)).count() > 0,
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
        self.standin.notices.always(mood);
        let soak = Arc::clone(self);
        lasting.spawn(async move {
            tokio::time::sleep(lasts).await;
            soak.standin.notices.always(Mood::Take);
            drop(held);
            Ok(())
        });
    }

    /// The next one, whenever it comes.
    async fn kill_transcoder(&self, fault: Fault) -> anyhow::Result<()> {
        while Instant::now() < self.until {
            let daemon = self.book.lock().unwrap().lives.last().copied();
            if daemon.and_then(node::transcoder).is_some_and(|process| process.signal(Signal::KILL)) {
                self.struck(fault, "");
                break;
            }
            tokio::time::sleep(TRANSCODER_LOOK).await;
        }
        Ok(())
    }

    fn struck(&self, fault: Fault, whom: &str) {
        self.say(&format!("{fault:?} {whom}"));
        let text = format!("{fault:?}");
        // `Kill(Chrome)`, but of `NatsAway { … }` only the name.
        let kind = text.split(" {").next().unwrap_or_default().to_owned();
        *self.book.lock().unwrap().faults.entry(kind).or_default() += 1;
    }
}
