//! The connections of those who ask: at most [`MOST`], each for one answer and for [`LONGEST`]. One that comes when there
//! are as many takes the place of the oldest, which has had the most time: a slow client keeps out nobody.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Connections at once.
pub(super) const MOST: usize = 64;
/// From the connection to its end, whatever it has sent or read. Every answer is ready within 4 s.
const LONGEST: Duration = Duration::from_secs(15);
/// Bytes that one connection may send. A head that is longer than some 400 KiB is answered with 431 before.
const MOST_BYTES: u64 = 1 << 20;

/// The open connections, by their number.
type Open = Arc<Mutex<BTreeMap<u64, CancellationToken>>>;

/// Accepts connections.
pub(super) struct Connections {
    listener: TcpListener,
    open: Open,
    next: u64,
}

impl Connections {
    pub fn of(listener: TcpListener) -> Self {
        Self { listener, open: Open::default(), next: 0 }
    }
}

fn lock(open: &Open) -> MutexGuard<'_, BTreeMap<u64, CancellationToken>> {
    // The map is consistent at every point that could panic.
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let (ended, number) = (CancellationToken::new(), self.next);
        self.next += 1;
        let mut open = lock(&self.open);
        if open.len() >= MOST
            && let Some((_, oldest)) = open.pop_first()
        {
            oldest.cancel();
        }
        open.insert(number, ended.clone());
        drop(open);
        let over = async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = tokio::time::sleep(LONGEST) => {}
            }
        };
        let open = Arc::clone(&self.open);
        (Connection { stream, over: over.boxed(), received: 0, number, open }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails when its time is over.
pub(super) struct Connection {
    stream: TcpStream,
    over: BoxFuture<'static, ()>,
    /// Bytes.
    received: u64,
    number: u64,
    open: Open,
}

impl Connection {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.over.poll_unpin(context) {
            Poll::Ready(()) => {
                // Polled never again.
                self.over = std::future::ready(()).boxed();
                Err(io::ErrorKind::TimedOut.into())
            }
            Poll::Pending if self.received > MOST_BYTES => Err(io::ErrorKind::FileTooLarge.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        lock(&self.open).remove(&self.number);
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        self.received += (into.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
