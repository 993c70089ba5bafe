//! Leads a running broadcast from one encoder to the next, where its bit rate is to change. The capture goes on.

use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use crate::capture::component_error::ComponentError;
use crate::capture::encoder::ffmpeg::Encoder;
use crate::capture::encoder::replacement::{EncoderReplacement, NextEncoder, retire};
use crate::capture::encoder::stream::StreamWriter;
use crate::capture::encoder::stream_queue::StreamSwitch;
use crate::capture::rtmp::bit_rate::BitRate;
use crate::capture::rtmp::relay::{Relay, RelayEntrance};
use crate::codes;

type Started = Result<NextEncoder, ComponentError>;

/// The change of encoders of one broadcast, one at a time.
#[derive(Debug)]
pub struct EncoderHandover {
    replacement: EncoderReplacement,
    bit_rate: watch::Receiver<BitRate>,
    entrance: RelayEntrance,
    switch: StreamSwitch,
    /// Told where the thread of an encoder panics.
    failed: mpsc::UnboundedSender<ComponentError>,
    starting: Option<AbortOnDropHandle<Started>>,
    /// Ends the encoder that was replaced.
    retiring: Option<AbortOnDropHandle<()>>,
}

impl EncoderHandover {
    #[must_use]
    pub fn new(
        replacement: EncoderReplacement,
        relay: &Relay,
        switch: StreamSwitch,
        failed: mpsc::UnboundedSender<ComponentError>,
    ) -> Self {
        let (bit_rate, entrance) = (relay.bit_rate(), relay.entrance());
        Self { replacement, bit_rate, entrance, switch, failed, starting: None, retiring: None }
    }

    /// Resolves with an encoder that is ready to take over. Cancel-safe.
    pub async fn ready(&mut self) -> NextEncoder {
        loop {
            if let Some(starting) = &mut self.starting {
                let started = starting.await;
                self.starting = None;
                let why = match started {
                    Ok(Ok(next)) => return next,
                    Ok(Err(error)) => error.to_string(),
                    Err(error) => error.to_string(),
                };
                tracing::warn!(
                    code = %codes::BIT_RATE_NOT_CHANGED,
                    why,
                    "the broadcast goes on as it is: no encoder with another bit rate could be started"
                );
            }
            if let Some(retiring) = &mut self.retiring {
                // How it ended is logged.
                let _ = retiring.await;
                self.retiring = None;
            }
            if self.bit_rate.changed().await.is_err() {
                // The relay has ended, and the encoder says so.
                return std::future::pending().await;
            }
            let bit_rate = *self.bit_rate.borrow_and_update();
            let failed = self.failed.clone();
            let start = self.replacement.clone().start(bit_rate, self.entrance.clone(), move |error| {
                // The receiver is gone once the rig is closed.
                let _ = failed.send(error);
            });
            self.starting = Some(AbortOnDropHandle::new(tokio::spawn(start.in_current_span())));
        }
    }

    #[must_use]
    pub fn switch(&self) -> &StreamSwitch {
        &self.switch
    }

    /// Ends the encoder that was replaced, beside all else.
    pub fn retire(&mut self, encoder: Encoder, writer: StreamWriter) {
        let retiring = retire(encoder, writer, self.switch.clone());
        self.retiring = Some(AbortOnDropHandle::new(tokio::spawn(retiring.in_current_span())));
    }

    /// Waits for the end of the encoder that was replaced, within some seconds; starts no other.
    pub async fn finish(self) {
        drop(self.starting);
        if let Some(retiring) = self.retiring {
            let _ = retiring.await;
        }
    }
}
