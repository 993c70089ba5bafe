//! A line between a broadcast and its far end that takes as many bytes a second as it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// A line to a server on this host that takes so many bytes a second.
pub struct SlowLine {
    pub port: u16,
    bytes_per_s: Arc<AtomicU64>,
    _task: AbortOnDropHandle<()>,
}

impl SlowLine {
    /// All that comes goes to this port, at full speed.
    pub fn to(server: u16) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // The kernel must not take what the line does not.
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(8).unwrap();
        let port = listener.local_addr().unwrap().port();
        let bytes_per_s = Arc::new(AtomicU64::new(u64::MAX));
        let limit = Arc::clone(&bytes_per_s);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Dropped where the server is gone.
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
                let limit = Arc::clone(&limit);
                tokio::spawn(async move {
                    let ((mut from, mut to), (mut answers, mut back)) = (client.into_split(), server.into_split());
                    let there = async {
                        let mut buffer = vec![0; 4096];
                        while let Ok(read @ 1..) = from.read(&mut buffer).await {
                            let wait = read as u64 * 1_000_000 / limit.load(Ordering::Relaxed);
                            tokio::time::sleep(Duration::from_micros(wait)).await;
                            if back.write_all(&buffer[..read]).await.is_err() {
                                return;
                            }
                        }
                        let _ = back.shutdown().await;
                    };
                    tokio::join!(there, tokio::io::copy(&mut answers, &mut to)).1.ok();
                });
            }
        });
        Self { port, bytes_per_s, _task: AbortOnDropHandle::new(task) }
    }

    pub fn takes(&self, bytes_per_s: u64) {
        self.bytes_per_s.store(bytes_per_s, Ordering::Relaxed);
    }
}
