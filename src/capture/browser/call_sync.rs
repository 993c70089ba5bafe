//! Keeps the picture of WebRTC calls in step with their sound: a script in the page holds the picture back
//! (`call_sync.js`) and tells once a second by how much.
//!
//! The page cannot see it, and nothing that it says is relied on: its numbers are for the operator alone.

use std::sync::{Arc, Mutex, PoisonError};

use chromiumoxide::Page;
use chromiumoxide::cdp::browser_protocol::page::{self, AddScriptToEvaluateOnNewDocumentParams};
use chromiumoxide::cdp::js_protocol::runtime::{self, AddBindingParams, EventBindingCalled};
use chromiumoxide::error::CdpError;
use futures::StreamExt as _;
use serde::Deserialize;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

const SCRIPT: &str = include_str!("call_sync.js");
/// The function by which the script tells: it takes it away before the page's own code can see it.
const BINDING: &str = "pnmRecorderCallSync";
/// The script's own limit. What says more is no word of the script's.
const LIMIT_MS: f64 = 1_000.0;
/// From here on a correction is worth a line, in milliseconds: less is seen by nobody.
const WORTH_A_LINE_MS: f64 = 20.0;

/// By how much the picture of WebRTC calls was held back to be in step with their sound.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CallOffset {
    /// Seconds in which there was a call with picture and sound; none: nothing is known of the others.
    pub seconds: u64,
    /// On average over these seconds and all pictures of the call, in milliseconds.
    pub mean_ms: f64,
    /// The most in one of these seconds, in milliseconds.
    pub max_ms: f64,
}

impl CallOffset {
    fn add(&mut self, held_ms: f64) {
        *self += Self { seconds: 1, mean_ms: held_ms, max_ms: held_ms };
    }
}

impl std::ops::AddAssign for CallOffset {
    #[expect(clippy::cast_precision_loss, reason = "seconds of a recording")]
    fn add_assign(&mut self, other: Self) {
        let seconds = self.seconds + other.seconds;
        if seconds > 0 {
            let sum = self.mean_ms * self.seconds as f64 + other.mean_ms * other.seconds as f64;
            self.mean_ms = sum / seconds as f64;
        }
        self.seconds = seconds;
        self.max_ms = self.max_ms.max(other.max_ms);
    }
}

/// What the script says once a second.
#[derive(Clone, Copy, Debug, Deserialize)]
struct CallSample {
    /// How many pictures of calls are shown and have a sound.
    pictures: u32,
    /// How much later their sound still is, on average.
    late_ms: f64,
    /// By how much they are held back, on average.
    held_ms: f64,
}

/// Listens to the script of one page.
#[derive(Debug)]
pub struct CallSync {
    offset: Arc<Mutex<CallOffset>>,
    _listener: AbortOnDropHandle<()>,
}

impl CallSync {
    /// Puts the script into every document that the page will load. One that it has loaded already is left alone.
    ///
    /// # Errors
    /// Where Chrome does not take it.
    pub async fn install(page: &Page) -> Result<Self, CdpError> {
        let events = page.event_listener::<EventBindingCalled>().await?;
        // Chrome takes binding and script along into the process of the page that is opened next only where both domains
        // are enabled by then. chromiumoxide enables them too, at some time of its own.
        page.execute(page::EnableParams::default()).await?;
        page.execute(runtime::EnableParams::default()).await?;
        page.execute(AddBindingParams::new(BINDING)).await?;
        let script = SCRIPT.replace("BINDING", BINDING);
        page.execute(AddScriptToEvaluateOnNewDocumentParams::new(script)).await?;
        let offset = Arc::<Mutex<CallOffset>>::default();
        let told = Arc::clone(&offset);
        let listener = async move {
            let mut events = events;
            let mut is_told = false;
            while let Some(event) = events.next().await {
                let Some(look) = read(&event.payload).filter(|_| event.name == BINDING) else { continue };
                tracing::trace!(pictures = look.pictures, late_ms = look.late_ms, held_ms = look.held_ms, "call");
                told.lock().unwrap_or_else(PoisonError::into_inner).add(look.held_ms);
                if look.held_ms >= WORTH_A_LINE_MS && !is_told {
                    is_told = true;
                    tracing::info!(
                        held_ms = look.held_ms.round(),
                        pictures = look.pictures,
                        "the sound of the call comes later than its picture, which is held back for it"
                    );
                }
            }
        };
        let listener = AbortOnDropHandle::new(tokio::spawn(listener.in_current_span()));
        Ok(Self { offset, _listener: listener })
    }

    /// What was done so far.
    #[must_use]
    pub fn offset(&self) -> CallOffset {
        *self.offset.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A look that may be one.
fn read(payload: &str) -> Option<CallSample> {
    let look: CallSample = serde_json::from_str(payload).ok()?;
    ((0.0..=LIMIT_MS).contains(&look.held_ms) && look.late_ms.is_finite()).then_some(look)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_that_of_all_seconds_and_the_parts_add_up() {
        let of = |values: &[f64]| {
            let mut offset = CallOffset::default();
            for held in values {
                offset.add(*held);
            }
            offset
        };
        let mut all = of(&[10.0, 20.0, 90.0]);
        assert_eq!(all, CallOffset { seconds: 3, mean_ms: 40.0, max_ms: 90.0 });
        all += CallOffset::default();
        all += of(&[80.0]);
        assert_eq!(all, CallOffset { seconds: 4, mean_ms: 50.0, max_ms: 90.0 });
        assert_eq!(of(&[]), CallOffset::default());
    }

    #[test]
    fn what_cannot_be_a_look_is_not_taken_for_one() {
        assert!(read(r#"{"pictures":2,"late_ms":-3.5,"held_ms":68}"#).is_some());
        for payload in [
            "",
            "{}",
            r#"{"pictures":2,"late_ms":1,"held_ms":-1}"#,
            r#"{"pictures":2,"late_ms":1,"held_ms":1e9}"#,
            r#"{"pictures":2,"late_ms":null,"held_ms":3}"#,
        ] {
            assert!(read(payload).is_none(), "{payload}");
        }
    }
}
