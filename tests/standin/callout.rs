//! The plugNmeet server's auth callout: who may connect as a recorder, and what it may then do (PROTOCOL 1).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use async_nats::{Client, Message};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use futures::StreamExt;
use hmac::{Hmac, KeyInit, Mac};
use nkeys::KeyPair;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::Deployment;
use super::nats::ACCOUNT;

const SUBJECT: &str = "$SYS.REQ.USER.AUTH";
/// `name` of a recorder's token.
const AUTH_NAME: &str = "PLUGNMEET_RECORDER_AUTH";
/// A token is good for five minutes.
const TOKEN_SECONDS: i64 = 300;

/// A token that somebody has connected with.
#[derive(Debug, Clone)]
pub struct SeenToken {
    pub token: String,
    /// Null when it could not be read.
    pub claims: Value,
    /// Why it was refused.
    pub refused: Option<String>,
}

/// Answers every callout until it is dropped with its runtime.
pub struct Callout {
    deployment: Deployment,
    issuer: KeyPair,
    /// It does not, as where the plugNmeet server does not run.
    silent: AtomicBool,
    seen: Mutex<Vec<SeenToken>>,
    count: watch::Sender<usize>,
}

impl Callout {
    pub fn new(deployment: Deployment) -> Arc<Self> {
        let (count, _) = watch::channel(0);
        Arc::new(Self {
            deployment,
            issuer: KeyPair::new_account(),
            silent: AtomicBool::new(false),
            seen: Mutex::default(),
            count,
        })
    }

    /// From now on it answers (again), or does not.
    pub fn answer_none(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    /// The public key that nats-server expects the answers from.
    pub fn issuer(&self) -> String {
        self.issuer.public_key()
    }

    pub fn seen(&self) -> Vec<SeenToken> {
        self.seen.lock().unwrap().clone()
    }

    /// How many tokens were seen, to be waited on.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Subscribes, and answers in a task.
    pub async fn serve(self: Arc<Self>, client: Client) -> anyhow::Result<()> {
        let mut requests = client.subscribe(SUBJECT).await?;
        client.flush().await?;
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                match self.answer(&request) {
                    Ok(_) if self.silent.load(Ordering::Relaxed) => {}
                    Ok((reply, answer)) => {
                        let _ = client.publish(reply, answer.into()).await;
                    }
                    Err(error) => {
                        eprintln!("stand-in: an auth callout could not be answered: {error:#}");
                    }
                }
            }
        });
        Ok(())
    }

    fn answer(&self, message: &Message) -> anyhow::Result<(async_nats::Subject, String)> {
        let reply = message.reply.clone().context("a callout without reply subject")?;
        let request = claims(std::str::from_utf8(&message.payload)?)?;
        let user = request["nats"]["user_nkey"].as_str().context("a callout without user_nkey")?;
        let server = request["nats"]["server_id"]["id"].as_str().context("a callout without server id")?;
        let token = request["nats"]["connect_opts"]["auth_token"].as_str().unwrap_or_default();

        let verdict = self.judge(token);
        let mut response = json!({ "type": "authorization_response", "version": 2 });
        match &verdict {
            Ok(id) => {
                let rights = json!({
                    "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
                    "pub": { "allow": self.deployment.may_publish() },
                    "sub": { "allow": self.deployment.may_subscribe() },
                });
                response["jwt"] =
                    self.sign(&json!({ "sub": user, "aud": ACCOUNT, "name": id, "nats": rights }))?.into();
            }
            Err(error) => response["error"] = format!("{error:#}").into(),
        }
        self.seen.lock().unwrap().push(SeenToken {
            token: token.to_owned(),
            claims: claims(token).unwrap_or_default(),
            refused: verdict.err().map(|error| format!("{error:#}")),
        });
        self.count.send_modify(|count| *count += 1);
        Ok((reply, self.sign(&json!({ "sub": user, "aud": server, "nats": response }))?))
    }

    /// The recorder id that a token proves.
    fn judge(&self, token: &str) -> anyhow::Result<String> {
        let (signed, signature) = token.rsplit_once('.').context("the token is no JWT")?;
        let mut mac = Hmac::<Sha256>::new_from_slice(self.deployment.api_secret.as_bytes())?;
        mac.update(signed.as_bytes());
        mac.verify_slice(&BASE64.decode(signature)?).context("the token's signature is wrong")?;
        let header: Value = serde_json::from_slice(&BASE64.decode(signed.split('.').next().unwrap_or_default())?)?;
        ensure!(header["alg"] == "HS256", "the token's alg is {}", header["alg"]);

        let claims = claims(token)?;
        ensure!(claims["iss"] == self.deployment.api_key.as_str(), "the token's iss is {}", claims["iss"]);
        ensure!(claims["name"] == AUTH_NAME, "the token's name is {}", claims["name"]);
        ensure!(claims["sub"] == claims["user_id"], "the token's sub and user_id differ");
        let id = claims["sub"].as_str().filter(|id| !id.is_empty()).context("the token has no sub")?;
        let (Some(from), Some(until)) = (claims["nbf"].as_i64(), claims["exp"].as_i64()) else {
            bail!("the token has no nbf or no exp");
        };
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        ensure!(from <= now, "the token is not valid yet");
        ensure!(until > now, "the token has expired");
        ensure!(until - from <= TOKEN_SECONDS, "the token lives longer than {TOKEN_SECONDS} s");
        Ok(id.to_owned())
    }

    /// A NATS JWT: the account's key signs the encoded header and claims.
    fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let mut claims = claims.clone();
        claims["iss"] = self.issuer.public_key().into();
        claims["iat"] = now.into();
        claims["jti"] = hex::encode(Sha256::digest(claims.to_string())).into();
        let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
        let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = self.issuer.sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", BASE64.encode(signature)))
    }
}

/// The middle part of a JWT, unverified.
fn claims(jwt: &str) -> anyhow::Result<Value> {
    let claims = jwt.split('.').nth(1).context("not a JWT")?;
    Ok(serde_json::from_slice(&BASE64.decode(claims)?)?)
}
