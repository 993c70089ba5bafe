//! https in front of the deployment, and the certificates for it, good and bad.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use anyhow::{Context, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// Somebody who vouches for certificates, in a directory of its own.
pub struct Authority(TempDir);

/// The files of a certificate and its key.
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

fn openssl(dir: &Path, args: &str) -> anyhow::Result<()> {
    let made = Command::new("openssl").args(args.split_whitespace()).current_dir(dir).output();
    let made = made.context("openssl is needed: apt-get install openssl")?;
    ensure!(made.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

impl Authority {
    /// Its own certificate is valid for so many days, which may be negative.
    pub fn new(days: i32) -> anyhow::Result<Self> {
        let dir = TempDir::with_prefix("pnm-ca-")?;
        std::fs::write(
            dir.path().join("ca.ext"),
            "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n",
        )?;
        openssl(dir.path(), &format!("req {NEW_KEY} -subj /CN=pnm-test-ca -keyout ca.key -out ca.csr"))?;
        openssl(dir.path(), &format!("x509 -req -in ca.csr -signkey ca.key -days {days} -extfile ca.ext -out ca.pem"))?;
        Ok(Self(dir))
    }

    /// The file with its own certificate.
    pub fn file(&self) -> PathBuf {
        self.0.path().join("ca.pem")
    }

    /// A certificate for the host of this name, valid for so many days, which may be negative.
    pub fn issue(&self, host: &str, days: i32) -> anyhow::Result<Identity> {
        let dir = self.0.path();
        let name = format!("{host}{days}");
        let extensions = format!("subjectAltName=DNS:{host}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n");
        std::fs::write(dir.join(format!("{name}.ext")), extensions)?;
        openssl(dir, &format!("req {NEW_KEY} -subj /CN={host} -keyout {name}.key -out {name}.csr"))?;
        openssl(
            dir,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} -extfile {name}.ext -out {name}.pem"
            ),
        )?;
        Ok(Identity { certificate: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) })
    }
}

/// What a request meets once it is through.
#[derive(Clone)]
pub enum Behind {
    /// A server of plain HTTP on this address.
    Server(String),
    /// This page at `/`; 204 elsewhere, for a page of any origin.
    Page(String),
}

/// Listens on a port of its own of this host until it is dropped.
pub struct Https {
    port: u16,
    /// The first line of each connection's first request.
    requests: Arc<Mutex<Vec<String>>>,
    task: AbortHandle,
}

impl Https {
    pub async fn start(identity: &Identity, behind: Behind) -> anyhow::Result<Self> {
        plugnmeet_recorder::tls::provide_crypto();
        let certificate = CertificateDer::from_pem_file(&identity.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&identity.key)?;
        let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let seen = requests.clone();
        let accept = async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, behind, seen) = (acceptor.clone(), behind.clone(), seen.clone());
                tokio::spawn(async move {
                    // Who refuses the certificate ends the handshake.
                    if let Ok(stream) = acceptor.accept(socket).await {
                        let _ = serve(stream, behind, &seen).await;
                    }
                });
            }
        };
        Ok(Self { port, requests, task: tokio::spawn(accept).abort_handle() })
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The first line of each connection's first request, so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    behind: Behind,
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut head = vec![0; 64 << 10];
    let read = stream.read(&mut head).await?;
    if read == 0 {
        return Ok(());
    }
    let line = String::from_utf8_lossy(&head[..read]).lines().next().unwrap_or_default().to_owned();
    seen.lock().unwrap().push(line.clone());
    match behind {
        Behind::Server(address) => {
            let mut server = TcpStream::connect(address).await?;
            server.write_all(&head[..read]).await?;
            tokio::io::copy_bidirectional(&mut stream, &mut server).await?;
        }
        Behind::Page(page) => {
            let (status, body) = if line.starts_with("GET /?") { ("200 OK", &*page) } else { ("204 No Content", "") };
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: text/html\r\naccess-control-allow-origin: *\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
        }
    }
    Ok(())
}
