//! Synchronises the picture of WebRTC calls with their sound: a script in the page (`call_sync.js`) delays the picture
//! and reports the delay once a second.
//!
//! The page cannot see the script, and nothing relies on the reports: they are for the operator only.

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
/// The binding through which the script reports. The script removes it before code of the page can see it.
const BINDING: &str = "pnmRecorderCallSync";
/// The script's own limit; a larger value does not come from the script.
const LIMIT_MS: f64 = 1_000.0;
/// The delay in milliseconds from which a line is logged; smaller ones are not visible.
const LOGGED_FROM_MS: f64 = 20.0;

/// The delay of the picture of WebRTC calls, applied to match their sound.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CallOffset {
    /// Seconds with a call that had picture and sound; the other fields cover these seconds only.
    pub seconds: u64,
    /// Average delay over these seconds and all pictures of calls, in milliseconds.
    pub mean_ms: f64,
    /// The largest delay of one second, in milliseconds.
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

/// The script's report, sent once a second.
#[derive(Clone, Copy, Debug, Deserialize)]
struct CallSample {
    /// Number of call pictures that are shown and have a sound.
    pictures: u32,
    /// Average time by which the sound is still late.
    late_ms: f64,
    /// Average delay of the pictures.
    held_ms: f64,
}

/// Receives the reports of the script in one page.
#[derive(Debug)]
pub struct CallSync {
    offset: Arc<Mutex<CallOffset>>,
    _listener: AbortOnDropHandle<()>,
}

impl CallSync {
    /// Adds the script to every document that the page will load; the loaded document is not changed.
    ///
    /// # Errors
    /// Where Chrome refuses the script.
    pub async fn install(page: &Page) -> Result<Self, CdpError> {
        let events = page.event_listener::<EventBindingCalled>().await?;
        // Chrome applies binding and script in the process of the next page only if both domains are enabled by then.
        // chromiumoxide enables them too, but at an unknown time.
        page.execute(page::EnableParams::default()).await?;
        page.execute(runtime::EnableParams::default()).await?;
        page.execute(AddBindingParams::new(BINDING)).await?;
        let script = SCRIPT.replace("BINDING", BINDING);
        page.execute(AddScriptToEvaluateOnNewDocumentParams::new(script)).await?;
        let offset = Arc::<Mutex<CallOffset>>::default();
        let total = Arc::clone(&offset);
        let listener = async move {
            let mut events = events;
            let mut is_logged = false;
            while let Some(event) = events.next().await {
                let Some(sample) = parse(&event.payload).filter(|_| event.name == BINDING) else { continue };
                tracing::trace!(pictures = sample.pictures, late_ms = sample.late_ms, held_ms = sample.held_ms, "call");
                total.lock().unwrap_or_else(PoisonError::into_inner).add(sample.held_ms);
                if sample.held_ms >= LOGGED_FROM_MS && !is_logged {
                    is_logged = true;
                    tracing::info!(
                        held_ms = sample.held_ms.round(),
                        pictures = sample.pictures,
                        "the sound of the call comes later than its picture, which is held back for it"
                    );
                }
            }
        };
        let listener = AbortOnDropHandle::new(tokio::spawn(listener.in_current_span()));
        Ok(Self { offset, _listener: listener })
    }

    /// The delay up to now.
    #[must_use]
    pub fn offset(&self) -> CallOffset {
        *self.offset.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Parses a report; `None` where its values are impossible.
fn parse(payload: &str) -> Option<CallSample> {
    let sample: CallSample = serde_json::from_str(payload).ok()?;
    ((0.0..=LIMIT_MS).contains(&sample.held_ms) && sample.late_ms.is_finite()).then_some(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_covers_all_seconds_and_offsets_of_parts_add_up() {
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
    fn impossible_samples_are_rejected() {
        assert!(parse(r#"{"pictures":2,"late_ms":-3.5,"held_ms":68}"#).is_some());
        for payload in [
            "",
            "{}",
            r#"{"pictures":2,"late_ms":1,"held_ms":-1}"#,
            r#"{"pictures":2,"late_ms":1,"held_ms":1e9}"#,
            r#"{"pictures":2,"late_ms":null,"held_ms":3}"#,
        ] {
            assert!(parse(payload).is_none(), "{payload}");
        }
    }
}
