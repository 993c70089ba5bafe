//! The encoders of a broadcast, one after the other: each is ready before the one before it ends, so that the far end
//! sees one stream without a gap.

use std::pin::Pin;

use futures::future::OptionFuture;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::capture::rtmp::command::StreamNames;
use crate::capture::rtmp::encoder_connection::{EncoderConnection, accept};
use crate::capture::rtmp::encoder_turn::{EncoderTurn, Successor};
use crate::capture::rtmp::media::Media;
use crate::codes;

type Reading<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Passes on the media of `first` and of its successors until the last one has ended.
///
/// # Errors
/// Where one sends what no encoder sends.
pub async fn read_all(
    first: EncoderConnection,
    listener: &TcpListener,
    names: &StreamNames,
    media: &Media,
    successors: &mut mpsc::Receiver<Successor>,
) -> Result<(), String> {
    let mut current: Reading<'_> = Box::pin(first.read_all(media, EncoderTurn::default()));
    let mut next: Option<(Reading<'_>, oneshot::Sender<()>)> = None;
    loop {
        tokio::select! {
            read = &mut current => {
                read?;
                let Some((successor, predecessor)) = next.take() else { return Ok(()) };
                let _ = predecessor.send(());
                current = successor;
            }
            Some(read) = OptionFuture::from(next.as_mut().map(|(successor, _)| successor)) => {
                if let Err(why) = read {
                    tracing::warn!(
                        code = %codes::BIT_RATE_NOT_CHANGED, why,
                        "the encoder that was to take the broadcast over is left out"
                    );
                }
                next = None;
            }
            Some(successor) = successors.recv(), if next.is_none() => {
                let (predecessor, ended) = oneshot::channel();
                next = Some((Box::pin(follow(listener, names, media, successor, ended)), predecessor));
            }
        }
    }
}

async fn follow(
    listener: &TcpListener,
    names: &StreamNames,
    media: &Media,
    mut successor: Successor,
    predecessor: oneshot::Receiver<()>,
) -> Result<(), String> {
    let encoder = tokio::select! {
        accepted = accept(listener, names) => accepted?,
        () = successor.ready.closed() => return Ok(()),
    };
    encoder.read_all(media, EncoderTurn::after(predecessor, successor)).await
}
