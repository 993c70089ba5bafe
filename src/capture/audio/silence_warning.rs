//! Warns where a recording is silent although the page plays sound: logs the decisions of [`SilenceDetector`] and sends
//! its questions to PulseAudio, without waiting for the answers.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use libpulse_binding::callbacks::ListResult;
use libpulse_binding::context::{self, Context};

use crate::capture::audio::silence_detector::{SilenceDetector, SilenceNotice};
use crate::codes;

/// The silence warnings of one recording. It stays on the thread of PulseAudio's main loop.
#[derive(Debug)]
pub struct SilenceWarning {
    detector: SilenceDetector,
    /// PulseAudio's answer whether the page plays sound; set while the main loop runs.
    answer: Rc<Cell<Option<bool>>>,
}

impl SilenceWarning {
    /// `limit`: how long the recording may be silent.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { detector: SilenceDetector::new(limit), answer: Rc::default() }
    }

    /// The recording has been silent for `silent` at `now` (since the start). Must be called whenever the main loop has
    /// run.
    pub fn update(&mut self, now: Duration, silent: Duration, context: &Context) {
        let answered = self.answer.take();
        let answered = answered.and_then(|page_plays| self.detector.answered(now, silent, page_plays));
        for notice in [answered, self.detector.update(now, silent)].into_iter().flatten() {
            match notice {
                SilenceNotice::Ask => self.ask(context),
                SilenceNotice::Warn(silent) => tracing::warn!(
                    code = %codes::SILENT_MEETING,
                    silent_s = crate::telemetry::seconds(silent),
                    "the recording is silent although the page plays sound: either everybody in the meeting is muted or \
                     quiet, or their sound does not get here; check that somebody can be heard in the meeting, and that \
                     chrome_settings.flags do not mute Chrome"
                ),
                SilenceNotice::SoundIsBack => tracing::info!("there is sound again"),
            }
        }
    }

    /// Asks whether any stream plays.
    fn ask(&self, context: &Context) {
        // libpulse-binding panics in other states.
        if context.get_state() != context::State::Ready {
            return;
        }
        let (answer, mut plays) = (Rc::clone(&self.answer), false);
        // Drops the operation's handle only; the operation continues.
        let _ = context.introspect().get_sink_input_info_list(move |listed| match listed {
            // Chrome corks a stream that it keeps open but does not play.
            ListResult::Item(input) => plays |= !input.corked,
            ListResult::End => answer.set(Some(plays)),
            // No answer: the question is repeated later.
            ListResult::Error => {}
        });
    }
}
