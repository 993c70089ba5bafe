//! The DevTools protocol of a Chrome over two pipes, for a client that only speaks `WebSocket`.
//!
//! A port (`--remote-debugging-port`) is open to every user of the host for as long as Chrome runs, and asks for no
//! secret. A pipe (`--remote-debugging-pipe`) is open to nobody else. chromiumoxide speaks `WebSocket` over TCP, so
//! this process listens on a loopback port for the moment in which its own client connects: the path is a secret, the
//! first client that knows it is the only one, and then nothing listens any more.
//!
//! Chrome reads requests from file descriptor 3 and writes answers and events to 4, each as JSON that ends in a zero.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use async_tungstenite::WebSocketStream;
use async_tungstenite::tokio::{TokioAdapter, accept_hdr_async};
use async_tungstenite::tungstenite::Message;
use async_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use async_tungstenite::tungstenite::http::StatusCode;
use futures::stream::FuturesUnordered;
use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::codes;

/// What separates messages in the pipes.
const END: u8 = 0;
/// Bytes of the secret path.
const SECRET: usize = 16;
/// Clients that may be in the handshake at once, and for how long.
const HANDSHAKES: usize = 16;
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(2);

type Client = WebSocketStream<TokioAdapter<TcpStream>>;

/// A Chrome's pipes, served to one `WebSocket` client.
#[derive(Debug)]
pub(super) struct DevtoolsPipe {
    /// Where the client finds it: a secret.
    pub address: String,
    _bridge: AbortOnDropHandle<()>,
}

impl DevtoolsPipe {
    /// Serves until the client or Chrome is gone. `requests`: what Chrome reads; `messages`: what it writes.
    ///
    /// # Errors
    /// Where there is no loopback port or no random number.
    pub async fn serve(
        requests: impl AsyncWrite + Send + Unpin + 'static,
        messages: impl AsyncRead + Send + Unpin + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let mut secret = [0; SECRET];
        rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())?;
        let path = format!("/{}", hex::encode(secret));
        let address = format!("ws://{}{path}", listener.local_addr()?);
        let bridge = async move {
            match client(listener, &path).await {
                Ok(client) => connect(client, requests, messages).await,
                Err(error) => {
                    tracing::warn!(
                        code = %codes::CHROME_PORT_FAILS, %error,
                        "Chrome cannot be steered: the loopback port fails"
                    );
                }
            }
        };
        Ok(Self { address, _bridge: AbortOnDropHandle::new(tokio::spawn(bridge)) })
    }
}

/// Waits for the first client that knows the path.
async fn client(listener: TcpListener, path: &str) -> io::Result<Client> {
    let mut handshakes = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if handshakes.len() < HANDSHAKES => {
                handshakes.push(tokio::time::timeout(HANDSHAKE_LIMIT, handshake(accepted?.0, path)));
            }
            Some(client) = handshakes.next() => {
                if let Ok(Some(client)) = client {
                    return Ok(client);
                }
            }
        }
    }
}

/// `None` where the client does not know the path.
async fn handshake(stream: TcpStream, path: &str) -> Option<Client> {
    #[expect(clippy::result_large_err, reason = "the type is the library's")]
    let check = |request: &Request, response: Response| {
        if request.uri().path() == path {
            return Ok(response);
        }
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = StatusCode::NOT_FOUND;
        Err(refusal)
    };
    accept_hdr_async(stream, check).await.ok()
}

/// Passes messages on until one side is gone. Each direction waits for its reader, so nothing piles up here.
async fn connect(client: Client, requests: impl AsyncWrite + Unpin, messages: impl AsyncRead + Unpin) {
    let (to_client, from_client) = client.split();
    tokio::select! {
        () = pass_requests(from_client, requests) => {}
        () = pass_messages(BufReader::new(messages), to_client) => {}
    }
}

async fn pass_requests<E>(
    mut from_client: impl Stream<Item = Result<Message, E>> + Unpin,
    mut requests: impl AsyncWrite + Unpin,
) {
    while let Some(Ok(message)) = from_client.next().await {
        let Message::Text(text) = message else { continue };
        let mut request = text.as_str().as_bytes().to_vec();
        request.push(END);
        if requests.write_all(&request).await.is_err() || requests.flush().await.is_err() {
            return;
        }
    }
}

async fn pass_messages(mut messages: BufReader<impl AsyncRead + Unpin>, mut to_client: impl Sink<Message> + Unpin) {
    loop {
        let mut message = Vec::new();
        match messages.read_until(END, &mut message).await {
            Ok(1..) => {}
            _ => return,
        }
        // Without its end it is not whole.
        if message.pop() != Some(END) {
            return;
        }
        let text = String::from_utf8_lossy(&message).into_owned();
        if to_client.send(Message::text(text)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use async_tungstenite::tokio::connect_async;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn the_first_client_that_knows_the_path_is_the_only_one() {
        let (requests, mut chrome_reads) = tokio::io::duplex(1024);
        let (mut chrome_writes, messages) = tokio::io::duplex(1024);
        let pipe = DevtoolsPipe::serve(requests, messages).await.unwrap();
        let (host, _) = pipe.address.rsplit_once('/').unwrap();
        // One that does not know it, and one that says nothing.
        assert!(connect_async(format!("{host}/devtools/browser")).await.is_err());
        let silent = TcpStream::connect(host.trim_start_matches("ws://")).await.unwrap();
        let (mut client, _) = connect_async(&pipe.address).await.unwrap();
        client.send(Message::text(r#"{"id":1}"#)).await.unwrap();
        let mut request = [0; 9];
        chrome_reads.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"{\"id\":1}\0");
        // In pieces, two at once, and one that is cut off.
        for piece in [&b"{\"id\""[..], b":1}\0{\"method\":\"\xc3\xa4\"}\0{\"id"] {
            chrome_writes.write_all(piece).await.unwrap();
        }
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text(r#"{"id":1}"#));
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text(r#"{"method":"ä"}"#));
        assert!(connect_async(&pipe.address).await.is_err(), "nothing listens any more");
        drop((chrome_writes, silent));
        // Chrome is gone, and so is the connection.
        assert!(!matches!(client.next().await, Some(Ok(Message::Text(_)))));
        assert_eq!(chrome_reads.read(&mut request).await.unwrap(), 0);
    }
}
