//! Warns where a recording is silent although the page plays sound: says what [`SilenceDetector`] decides, and asks the
//! sound server for it, without ever waiting for the answer.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use libpulse_binding::callbacks::ListResult;
use libpulse_binding::context::{self, Context};

use crate::capture::audio::silence_detector::{SilenceDetector, SilenceNotice};

/// The warnings of one recording; it stays on the thread of the sound server's main loop.
#[derive(Debug)]
pub struct SilenceWarning {
    alarm: SilenceDetector,
    /// Whether the page plays sound, as the server has answered. It does while the main loop runs.
    answer: Rc<Cell<Option<bool>>>,
}

impl SilenceWarning {
    /// `limit`: how long it may be silent.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { alarm: SilenceDetector::new(limit), answer: Rc::default() }
    }

    /// At `now` (since the start) it has been silent for `silent`. To be called whenever the main loop has run.
    pub fn look(&mut self, now: Duration, silent: Duration, context: &Context) {
        let answered = self.answer.take();
        let answered = answered.and_then(|page_plays| self.alarm.answered(now, silent, page_plays));
        for alarm in [answered, self.alarm.heard(now, silent)].into_iter().flatten() {
            match alarm {
                SilenceNotice::Ask => self.ask(context),
                SilenceNotice::Warn(silent) => tracing::warn!(
                    silent_s = crate::telemetry::seconds(silent),
                    "the recording is silent although the page plays sound: either everybody in the meeting is muted or \
                     quiet, or their sound does not get here; check that somebody can be heard in the meeting, and that \
                     chrome_settings.flags do not mute Chrome"
                ),
                SilenceNotice::SoundIsBack => tracing::info!("there is sound again"),
            }
        }
    }

    /// Asks for everything that plays.
    fn ask(&self, context: &Context) {
        // libpulse-binding panics in any other state.
        if context.get_state() != context::State::Ready {
            return;
        }
        let (answer, mut plays) = (Rc::clone(&self.answer), false);
        // What is dropped here is the handle of the question, not the question.
        let _ = context.introspect().get_sink_input_info_list(move |listed| match listed {
            // Chrome corks a stream that it keeps open but does not play.
            ListResult::Item(input) => plays |= !input.corked,
            ListResult::End => answer.set(Some(plays)),
            // No answer: it is asked again.
            ListResult::Error => {}
        });
    }
}
