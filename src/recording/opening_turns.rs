//! The turns of openings: only so many rigs are opened at once, as many as the host has processors.
//!
//! A rig costs more than a processor while it opens. Thirty that open at once, as after a crash, would all be too slow
//! for the limits of their steps. Of those that wait, the one that missed its media last has the next turn: a capture
//! that broke just now and a recording that was asked for just now come before a meeting that was missed for minutes
//! already and may be over. So a meeting that cannot be joined, and is tried again and again, delays no new one.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The least number of openings at once: one that waits for a page keeps no other from opening.
const FEWEST: usize = 2;

/// The node's turns; clones share them.
#[derive(Clone, Debug)]
pub struct OpeningTurns {
    shared: Arc<Mutex<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    /// Turns that nobody has.
    free: usize,
    /// Who waits, in the order of the turns: since when the media are missed, then who came first.
    queue: BTreeMap<(Reverse<u64>, u64), oneshot::Sender<OpeningTurn>>,
    /// The number of the next one to wait.
    next: u64,
}

/// The right to open a rig; dropping it gives the turn to the next one.
#[derive(Debug)]
pub struct OpeningTurn {
    /// `None` only where it is dropped.
    turns: Option<OpeningTurns>,
}

impl OpeningTurns {
    /// `cores`: the processors of the host.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        let waiting = Waiting { free: cores.max(FEWEST), queue: BTreeMap::new(), next: 0 };
        Self { shared: Arc::new(Mutex::new(waiting)) }
    }

    /// Waits for a turn. `missed_since`: since when the media of this recording are missed, in Unix milliseconds.
    /// Cancel-safe: a dropped wait takes no turn.
    pub async fn take(&self, missed_since: u64) -> OpeningTurn {
        let wait = {
            let mut waiting = self.lock();
            if waiting.free > 0 {
                waiting.free -= 1;
                return OpeningTurn { turns: Some(self.clone()) };
            }
            let (sender, wait) = oneshot::channel();
            let place = (Reverse(missed_since), waiting.next);
            waiting.next += 1;
            waiting.queue.retain(|_, sender| !sender.is_closed());
            waiting.queue.insert(place, sender);
            tracing::info!(
                waiting = waiting.queue.len(),
                "other recordings are being opened: this one waits for its turn"
            );
            wait
        };
        match wait.await {
            Ok(turn) => turn,
            // Its sender is dropped only with its turn sent: this is never reached.
            Err(_) => std::future::pending().await,
        }
    }

    /// Gives a turn to the next one that waits.
    fn pass_on(self) {
        loop {
            let mut waiting = self.lock();
            let Some((_, sender)) = waiting.queue.pop_first() else {
                waiting.free += 1;
                return;
            };
            drop(waiting);
            match sender.send(OpeningTurn { turns: Some(self.clone()) }) {
                Ok(()) => return,
                // It waits no more.
                Err(mut turn) => turn.turns = None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Consistent at every point that could panic.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpeningTurn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    /// Waits in the queue when this returns.
    fn waits(turns: &OpeningTurns, missed_since: u64) -> futures::future::BoxFuture<'static, OpeningTurn> {
        let turns = turns.clone();
        let mut turn = async move { turns.take(missed_since).await }.boxed();
        assert!((&mut turn).now_or_never().is_none());
        turn
    }

    #[test]
    fn as_many_open_at_once_as_there_are_processors_and_the_latest_loss_is_next() {
        let turns = OpeningTurns::new(3);
        let mut held: Vec<_> = (0..3).map(|_| turns.take(5).now_or_never().unwrap()).collect();
        let mut old = waits(&turns, 100);
        let mut new = waits(&turns, 300);
        let mut second = waits(&turns, 300);
        drop(held.pop());
        let turn = (&mut new).now_or_never().expect("the latest is next");
        assert!((&mut second).now_or_never().is_none() && (&mut old).now_or_never().is_none());
        drop(turn);
        let turn = (&mut second).now_or_never().expect("of two, the first that came");
        assert!((&mut old).now_or_never().is_none());
        drop(turn);
        assert!(old.now_or_never().is_some());
    }

    #[test]
    fn who_waits_no_more_takes_no_turn() {
        let turns = OpeningTurns::new(0);
        let held = [1, 2].map(|at| turns.take(at).now_or_never().expect("two at least"));
        let gone = waits(&turns, 300);
        let granted = waits(&turns, 200);
        let last = waits(&turns, 100);
        drop(gone);
        let [first, second] = held;
        drop(first);
        // It has a turn that it never looks at.
        drop(granted);
        assert!(last.now_or_never().is_some());
        drop(second);
        assert_eq!(turns.lock().free, 2);
    }
}
