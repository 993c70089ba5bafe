//! The connections of those who ask: at most [`MOST`], each for one answer and for [`LONGEST`]. One that comes when there
//! are as many takes the place of the oldest, which has had the most time: a slow client keeps out nobody. Somebody whom
//! this node knows may stay longer ([`Caller::may_stay`]).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Connections at once.
pub(super) const MOST: usize = 64;
/// From the connection to its end, whatever it has sent or read. Every answer is ready within 4 s.
const LONGEST: Duration = Duration::from_secs(15);
/// Bytes that one connection may send. A head that is longer than some 400 KiB is answered with 431 before.
const MOST_BYTES: u64 = 1 << 20;

/// The open connections, by their number.
type Open = Arc<Mutex<BTreeMap<u64, OpenConnection>>>;

#[derive(Clone)]
struct OpenConnection {
    ended: CancellationToken,
    lifetime: Lifetime,
}

/// Until when a connection may last, and whether it was lengthened.
#[derive(Clone, Debug)]
struct Lifetime(Arc<Mutex<(Instant, bool)>>);

impl Lifetime {
    fn begin() -> Self {
        Self(Arc::new(Mutex::new((Instant::now() + LONGEST, false))))
    }

    fn get(&self) -> (Instant, bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn over(self) {
        loop {
            let (until, _) = self.get();
            tokio::time::sleep_until(until).await;
            if self.get().0 <= until {
                return;
            }
        }
    }
}

/// Who has sent a request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub address: IpAddr,
    lifetime: Lifetime,
}

impl Caller {
    /// Lets the connection last for `limit` from now on, and a new one take the place of another one.
    pub fn may_stay(&self, limit: Duration) {
        let until = Instant::now() + limit;
        *self.lifetime.0.lock().unwrap_or_else(PoisonError::into_inner) = (until, true);
    }
}

impl Connected<IncomingStream<'_, Connections>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        Self { address: address_of(*stream.remote_addr()), lifetime: stream.io().lifetime.clone() }
    }
}

/// Who asks. A socket of `[::]` has IPv4 as `::ffff:192.0.2.1`, and all of that is one network of IPv6.
fn address_of(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

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

fn lock(open: &Open) -> MutexGuard<'_, BTreeMap<u64, OpenConnection>> {
    // The map is consistent at every point that could panic.
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let (ended, lifetime, number) = (CancellationToken::new(), Lifetime::begin(), self.next);
        self.next += 1;
        let mut open = lock(&self.open);
        if open.len() >= MOST {
            let is_short = |(_, one): &(&u64, &OpenConnection)| !one.lifetime.get().1;
            let oldest = open.iter().find(is_short).or(open.first_key_value()).map(|(number, _)| *number);
            if let Some(oldest) = oldest.and_then(|number| open.remove(&number)) {
                oldest.ended.cancel();
            }
        }
        open.insert(number, OpenConnection { ended: ended.clone(), lifetime: lifetime.clone() });
        drop(open);
        let until = lifetime.clone();
        let over = async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = until.over() => {}
            }
        };
        let open = Arc::clone(&self.open);
        (
            Connection {
                stream,
                over: over.boxed(),
                received: 0,
                no_http2: Http2Refusal::default(),
                number,
                open,
                lifetime,
            },
            address,
        )
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
    no_http2: Http2Refusal,
    number: u64,
    open: Open,
    lifetime: Lifetime,
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

/// Keeps the server from speaking HTTP/2, with which a connection would carry any number of requests. `axum` speaks it to
/// whoever begins with its preface (RFC 9113, 3.4), since the client of object stores brings it into the build. The version in
/// the preface is made one that does not exist, which is refused.
#[derive(Debug, Default)]
struct Http2Refusal {
    /// Bytes of [`Self::BEGIN`] that have come.
    matched: usize,
}

impl Http2Refusal {
    const BEGIN: &[u8] = b"PRI * HTTP/2";

    /// What has come behind the first `at` bytes of the connection.
    fn pass(&mut self, at: u64, bytes: &mut [u8]) {
        if at != self.matched as u64 {
            return;
        }
        for byte in bytes {
            if Self::BEGIN.get(self.matched) != Some(byte) {
                return;
            }
            self.matched += 1;
            if self.matched == Self::BEGIN.len() {
                *byte = b'0';
                return;
            }
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
        let received = self.received;
        self.no_http2.pass(received, &mut into.filled_mut()[before..]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_of_http2_is_none_however_it_comes_and_nothing_else_is_changed() {
        let passed = |text: &str, piece: usize| {
            let (mut refusal, mut at, mut all) = (Http2Refusal::default(), 0, Vec::new());
            for bytes in text.as_bytes().chunks(piece) {
                let mut bytes = bytes.to_vec();
                refusal.pass(at, &mut bytes);
                at += bytes.len() as u64;
                all.extend(bytes);
            }
            String::from_utf8(all).unwrap()
        };
        for piece in [1, 5, 12, 100] {
            assert_eq!(passed("PRI * HTTP/2.0\r\n\r\nSM", piece), "PRI * HTTP/0.0\r\n\r\nSM");
            for other in ["POST /drain HTTP/1.1\r\n", "PRI * HTTP/1.1", "GET PRI * HTTP/2.0", "PRI PRI * HTTP/2"] {
                assert_eq!(passed(other, piece), other);
            }
        }
    }

    #[test]
    fn an_address_of_ipv4_is_one_on_a_socket_of_ipv6_too() {
        for (peer, address) in
            [("[::ffff:192.0.2.1]:1", "192.0.2.1"), ("192.0.2.1:1", "192.0.2.1"), ("[2001:db8::1]:1", "2001:db8::1")]
        {
            assert_eq!(address_of(peer.parse().unwrap()).to_string(), address);
        }
    }
}
