//! Follows what the far end of a broadcast takes, and says with which bit rate the broadcast is to go on.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::capture::rtmp::bit_rate::{BitRate, BitRateControl};
use crate::capture::rtmp::media::Media;
use crate::codes;
use crate::protocol::ids::RtmpUrl;

/// Interval of samples.
const INTERVAL: Duration = Duration::from_secs(1);

/// Samples for as long as it is polled. `None`: the bit rate stays as it is.
pub async fn run(
    control: Option<BitRateControl>,
    url: &RtmpUrl,
    media: &Media,
    bit_rate: &watch::Sender<BitRate>,
) -> Infallible {
    let Some(mut control) = control else { return std::future::pending().await };
    let (began, mut losses) = (Instant::now(), 0);
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let lost = media.far_end().losses;
        if std::mem::replace(&mut losses, lost) != lost {
            control.restart();
        }
        let before = *bit_rate.borrow();
        let Some(next) = control.look(media.sample(began.elapsed())) else { continue };
        let kbit_per_s = next.map_or_else(|| "as configured".to_owned(), |rate| rate.to_string());
        if let Some(next) = next.filter(|next| before.is_none_or(|before| *next < before)) {
            media.lowered_to(next);
            tracing::warn!(
                code = %codes::BIT_RATE_LOWERED,
                far_end = url.origin(),
                kbit_per_s,
                "the far end takes less than the broadcast sends: the picture goes on with a lower bit rate"
            );
        } else {
            tracing::info!(
                far_end = url.origin(),
                kbit_per_s,
                "the far end has taken all for a while: the picture goes on with a higher bit rate"
            );
        }
        bit_rate.send_replace(next);
    }
}
