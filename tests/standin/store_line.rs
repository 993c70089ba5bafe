//! A line to an S3 server that fails as it is told: one request a connection, each of which may be cut, stall, be answered
//! with an error, or lose its answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Begin,
    Part,
    Complete,
    Abort,
    /// An object as a whole.
    Put,
    Head,
    /// An object's bytes, all or from one on.
    Get,
    /// An object is removed.
    Delete,
    Other,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None.
    Pass,
    /// This status with this code of S3; the server does not see the request.
    Answer(u16, &'static str),
    /// The connection ends in the middle of the body.
    Cut,
    /// Nothing is taken any more, nor answered.
    Stall,
    /// It waits until the line is well, with all others that wait, and then is as if nothing had been.
    Wait,
    /// The server does what it is asked, and the answer does not arrive: the connection ends.
    LoseAnswer,
    /// The same, and the connection stays.
    HoldAnswer,
    /// The answer ends in the middle of its body, with the connection.
    CutAnswer,
    /// The same, and the connection stays.
    StallAnswer,
    /// The body comes byte by byte, 20 a second.
    Trickle,
    /// A byte in the middle of the body is another one.
    AlterAnswer,
    /// The answer says that the object is a byte longer.
    MisstateSize,
}

#[derive(Default)]
struct State {
    /// For requests that ask for this: so many more times.
    faults: Vec<(Ask, Fault, usize)>,
    /// Of the address of requests that stall.
    stalls: Option<String>,
    seen: Vec<(Ask, Option<usize>)>,
}

/// The line.
pub struct StoreLine {
    pub port: u16,
    state: Arc<Mutex<State>>,
    count: watch::Receiver<usize>,
    /// Answers that were lost or held back.
    held: watch::Receiver<usize>,
    /// How often the line was made well.
    well: watch::Sender<usize>,
    _task: AbortOnDropHandle<()>,
}

impl StoreLine {
    /// A line to this port, without faults.
    pub async fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<Mutex<State>>::default();
        let ((counted, count), (holds, held)) = (watch::channel(0), watch::channel(0));
        let (shared, well) = (Arc::clone(&state), watch::Sender::new(0));
        let heals = well.subscribe();
        let task = tokio::spawn(async move {
            let mut running = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (state, counted, holds) = (Arc::clone(&shared), counted.clone(), holds.clone());
                let heals = heals.clone();
                running.spawn(async move {
                    // A broken connection is what it is for.
                    let _ = serve(client, server, &state, &counted, &holds, heals).await;
                });
            }
        });
        Self { port, state, count, held, well, _task: AbortOnDropHandle::new(task) }
    }

    /// The next `times` requests of this kind fail so.
    pub fn fails(&self, ask: Ask, fault: Fault, times: usize) {
        self.state.lock().unwrap().faults.push((ask, fault, times));
    }

    /// Requests stall whose address has this in it.
    pub fn stalls_at(&self, address: &str) {
        self.state.lock().unwrap().stalls = Some(address.to_owned());
    }

    pub fn is_well(&self) {
        let mut state = self.state.lock().unwrap();
        state.faults.clear();
        state.stalls = None;
        drop(state);
        self.well.send_modify(|times| *times += 1);
    }

    /// Requests of this kind so far, whatever became of them; of parts their numbers, of [`Ask::Get`] where it begins.
    pub fn seen(&self, ask: Ask) -> Vec<Option<usize>> {
        let state = self.state.lock().unwrap();
        state.seen.iter().filter(|(seen, _)| *seen == ask).map(|(_, part)| *part).collect()
    }

    /// Requests that the server has done and whose answers were lost or held back.
    pub fn held(&self) -> usize {
        *self.held.borrow()
    }

    /// Waits until the server has done so many requests whose answers were lost or held back.
    pub async fn wait_for_held(&mut self, times: usize) {
        let held = self.held.wait_for(|held| *held >= times);
        assert!(
            tokio::time::timeout(Duration::from_secs(120), held).await.is_ok(),
            "{:?}",
            self.state.lock().unwrap().seen
        );
    }

    /// Waits until so many requests of this kind have come.
    pub async fn wait_for(&mut self, ask: Ask, times: usize) {
        let mut count = self.count.clone();
        let come = async {
            while self.seen(ask).len() < times {
                count.changed().await.unwrap();
            }
        };
        let limit = Duration::from_secs(120);
        assert!(tokio::time::timeout(limit, come).await.is_ok(), "{times} of {ask:?}: {:?}", self.seen(ask));
    }
}

async fn serve(
    mut client: TcpStream,
    server: u16,
    state: &Mutex<State>,
    counted: &watch::Sender<usize>,
    lost: &watch::Sender<usize>,
    mut heals: watch::Receiver<usize>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    let end = loop {
        let mut buffer = [0; 4096];
        let read = client.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        head.extend_from_slice(&buffer[..read]);
        if let Some(at) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let body = head.split_off(end);
    let text = String::from_utf8_lossy(&head).into_owned();
    let length = header(&text, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0usize);
    let (ask, part) = what(&text);
    let begin = header(&text, "range").and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
    let part = if ask == Ask::Get { begin } else { part };
    let mut fault = {
        heals.mark_unchanged();
        let mut state = state.lock().unwrap();
        state.seen.push((ask, part));
        let address = text.lines().next().unwrap_or_default();
        let stalls = state.stalls.as_ref().is_some_and(|part| address.contains(part));
        let found = state.faults.iter_mut().find(|(of, _, times)| *of == ask && *times > 0);
        let found = found.map(|(_, fault, times)| {
            *times -= 1;
            *fault
        });
        if stalls { Some(Fault::Stall) } else { found }
    };
    counted.send_modify(|count| *count += 1);
    match fault {
        // A request that came before the line was made well has not seen that yet.
        Some(Fault::Wait) => drop(heals.changed().await),
        Some(Fault::Stall) => std::future::pending().await,
        Some(Fault::Cut) => {
            let mut buffer = vec![0; (length / 2).saturating_sub(body.len()).max(1)];
            client.read_exact(&mut buffer).await?;
            return Ok(());
        }
        Some(Fault::Answer(status, code)) => {
            drain(&mut client, length - body.len()).await?;
            let xml = format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as the test has it</Message></Error>"
            );
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{xml}",
                xml.len()
            );
            return client.write_all(answer.as_bytes()).await;
        }
        _ => {}
    }
    fault.take_if(|fault| *fault == Fault::Wait);
    let mut upstream = TcpStream::connect(("127.0.0.1", server)).await?;
    // One request a connection; this header is not signed.
    let head = text.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    upstream.write_all(head.as_bytes()).await?;
    upstream.write_all(&body).await?;
    let mut left = length - body.len();
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let read = client.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        upstream.write_all(&buffer[..read]).await?;
        left -= read;
    }
    if let Some(Fault::LoseAnswer | Fault::HoldAnswer) = fault {
        let mut answer = Vec::new();
        upstream.read_to_end(&mut answer).await?;
        lost.send_modify(|count| *count += 1);
        if fault == Some(Fault::HoldAnswer) {
            std::future::pending::<()>().await;
        }
        return Ok(());
    }
    if let Some(fault) = fault.filter(|fault| *fault != Fault::Pass) {
        let mut answer = Vec::new();
        upstream.read_to_end(&mut answer).await?;
        return spoil(&mut client, answer, fault).await;
    }
    tokio::io::copy(&mut upstream, &mut client).await.map(drop)
}

/// Answers with this, spoilt so.
async fn spoil(client: &mut TcpStream, mut answer: Vec<u8>, fault: Fault) -> std::io::Result<()> {
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let middle = body + (answer.len() - body) / 2;
    match fault {
        Fault::CutAnswer => client.write_all(&answer[..middle]).await,
        Fault::StallAnswer => {
            client.write_all(&answer[..middle]).await?;
            std::future::pending().await
        }
        Fault::Trickle => {
            client.write_all(&answer[..body]).await?;
            for byte in &answer[body..] {
                client.write_all(std::slice::from_ref(byte)).await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        }
        Fault::MisstateSize => {
            let head = String::from_utf8_lossy(&answer[..body]).into_owned();
            let length: usize = header(&head, "content-length").unwrap().parse().unwrap();
            let lines = head.split("\r\n").map(|line| match line.split_once(':') {
                Some((name, _)) if name.eq_ignore_ascii_case("content-length") => format!("{name}: {}", length + 1),
                _ => line.to_owned(),
            });
            client.write_all(lines.collect::<Vec<_>>().join("\r\n").as_bytes()).await?;
            client.write_all(&answer[body..]).await
        }
        _ => {
            answer[middle] ^= 1;
            client.write_all(&answer).await
        }
    }
}

async fn drain(client: &mut TcpStream, mut left: usize) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let read = client.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        left = left.saturating_sub(read);
    }
    Ok(())
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// What the first line asks for, and of a part its number.
fn what(head: &str) -> (Ask, Option<usize>) {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let query = target.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let part =
        query.split('&').find_map(|pair| pair.strip_prefix("partNumber=")).and_then(|number| number.parse().ok());
    let ask = match method {
        "POST" if query.contains("uploadId=") => Ask::Complete,
        "POST" if query.starts_with("uploads") => Ask::Begin,
        "PUT" if part.is_some() => Ask::Part,
        "PUT" => Ask::Put,
        "DELETE" if query.contains("uploadId=") => Ask::Abort,
        "DELETE" => Ask::Delete,
        "POST" if query.starts_with("delete") => Ask::Delete,
        "HEAD" => Ask::Head,
        "GET" if query.is_empty() => Ask::Get,
        _ => Ask::Other,
    };
    (ask, part)
}
