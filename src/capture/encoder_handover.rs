//! Leads a running capture from one encoder to the next: a broadcast whose bit rate is to change, a recording that can no
//! longer be encoded as its MP4. The capture goes on.

use futures::FutureExt as _;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use crate::capture::component_error::ComponentError;
use crate::capture::encoder::ffmpeg::Encoder;
use crate::capture::encoder::replacement::{EncoderReplacement, NextEncoder, NotReady, RetirementLimits, retire};
use crate::capture::encoder::stream::StreamWriter;
use crate::capture::encoder::stream_queue::StreamSwitch;
use crate::capture::encoder_fallback::EncoderFallback;
use crate::capture::rtmp::bit_rate::BitRate;
use crate::capture::rtmp::relay::{Relay, RelayEntrance};
use crate::codes;

type Started = Result<NextEncoder, NotReady>;

/// What another encoder is for.
#[derive(Debug)]
enum Occasion {
    /// Another bit rate of a broadcast, each time it changes.
    BitRate { bit_rate: watch::Receiver<BitRate>, entrance: RelayEntrance },
    /// The recording's fast encoder, once.
    Fallback(EncoderFallback),
    /// No more.
    Over,
}

/// The change of encoders of one capture, one at a time.
#[derive(Debug)]
pub struct EncoderHandover {
    replacement: EncoderReplacement,
    occasion: Occasion,
    switch: StreamSwitch,
    /// Told where the thread of an encoder panics.
    failed: mpsc::UnboundedSender<ComponentError>,
    starting: Option<AbortOnDropHandle<Started>>,
    /// What is left of one that could not be started: no other writes to its file before this has ended.
    rest: Option<AbortOnDropHandle<()>>,
    /// Ends the encoder that was replaced.
    retiring: Option<AbortOnDropHandle<u64>>,
    /// Bytes of all encoders that were replaced.
    written: u64,
}

impl EncoderHandover {
    /// Of a broadcast.
    #[must_use]
    pub fn of_broadcast(
        replacement: EncoderReplacement,
        relay: &Relay,
        switch: StreamSwitch,
        failed: mpsc::UnboundedSender<ComponentError>,
    ) -> Self {
        let occasion = Occasion::BitRate { bit_rate: relay.bit_rate(), entrance: relay.entrance() };
        Self { replacement, occasion, switch, failed, starting: None, rest: None, retiring: None, written: 0 }
    }

    /// Of a recording that is encoded as its MP4, as long as the node can.
    #[must_use]
    pub fn of_recording(
        replacement: EncoderReplacement,
        fallback: EncoderFallback,
        switch: StreamSwitch,
        failed: mpsc::UnboundedSender<ComponentError>,
    ) -> Self {
        let occasion = Occasion::Fallback(fallback);
        Self { replacement, occasion, switch, failed, starting: None, rest: None, retiring: None, written: 0 }
    }

    /// Resolves with an encoder that is ready to take over. Cancel-safe.
    pub async fn ready(&mut self) -> NextEncoder {
        loop {
            if let Some(starting) = &mut self.starting {
                let started = starting.await;
                self.starting = None;
                let why = match started {
                    Ok(Ok(next)) => {
                        if matches!(self.occasion, Occasion::Fallback(_)) {
                            tracing::info!("the fast encoder takes over");
                            self.occasion = Occasion::Over;
                        }
                        return next;
                    }
                    Ok(Err(NotReady { why, rest })) => {
                        self.rest = rest;
                        why.to_string()
                    }
                    Err(error) => error.to_string(),
                };
                self.not_started(&why);
            }
            if let Some(retiring) = &mut self.retiring {
                // How it ended is logged.
                self.written += retiring.await.unwrap_or_default();
                self.retiring = None;
            }
            if let Some(rest) = &mut self.rest {
                // A panic ends it as well.
                let _ = rest.await;
                self.rest = None;
            }
            let failed = self.failed.clone();
            let failed = move |error| {
                // The receiver is gone once the rig is closed.
                let _ = failed.send(error);
            };
            let replacement = self.replacement.clone();
            let start = match &mut self.occasion {
                Occasion::BitRate { bit_rate, entrance } => {
                    if bit_rate.changed().await.is_err() {
                        // The relay has ended, and the encoder says so.
                        return std::future::pending().await;
                    }
                    let bit_rate = *bit_rate.borrow_and_update();
                    let entrance = entrance.clone();
                    let start = async move { Ok(replacement.start(bit_rate, entrance, failed).await?) };
                    start.in_current_span().boxed()
                }
                Occasion::Fallback(fallback) => {
                    fallback.needed().await;
                    let (switch, limit) = (self.switch.clone(), fallback.ready_limit());
                    replacement.start_file(switch, limit, failed).in_current_span().boxed()
                }
                Occasion::Over => return std::future::pending().await,
            };
            self.starting = Some(AbortOnDropHandle::new(tokio::spawn(start)));
        }
    }

    fn not_started(&mut self, why: &str) {
        match &mut self.occasion {
            Occasion::Fallback(fallback) => {
                let retry = fallback.not_started();
                tracing::warn!(
                    code = %codes::FALLBACK_NOT_STARTED, why, retry_s = retry.as_secs(),
                    "the recording goes on with the encoder it has, which may be too slow: the fast one could not be started"
                );
            }
            Occasion::BitRate { .. } | Occasion::Over => tracing::warn!(
                code = %codes::BIT_RATE_NOT_CHANGED,
                why,
                "the broadcast goes on as it is: no encoder with another bit rate could be started"
            ),
        }
    }

    #[must_use]
    pub fn switch(&self) -> &StreamSwitch {
        &self.switch
    }

    /// Ends the encoder that was replaced, beside all else.
    pub fn retire(&mut self, encoder: Encoder, writer: StreamWriter) {
        let limits = match self.occasion {
            Occasion::BitRate { .. } => RetirementLimits::BROADCAST,
            Occasion::Fallback(_) | Occasion::Over => RetirementLimits::FILE,
        };
        let retiring = retire(encoder, writer, self.switch.clone(), limits);
        self.retiring = Some(AbortOnDropHandle::new(tokio::spawn(retiring.in_current_span())));
    }

    /// Waits for the end of the encoder that was replaced, within its limits; starts no other. Returns the bytes of all
    /// encoders that were replaced.
    pub async fn finish(self) -> u64 {
        drop(self.starting);
        match self.retiring {
            Some(retiring) => self.written + retiring.await.unwrap_or_default(),
            None => self.written,
        }
    }
}
