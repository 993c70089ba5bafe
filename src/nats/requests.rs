//! What this node is asked: requests of the server, by core NATS request–reply on the recorders' channel (PROTOCOL 3), and
//! referrals of other nodes.

use bytes::Bytes;
use futures::StreamExt as _;

use crate::nats::connection::{ANSWER_DEADLINE, Nats, NatsError, no_answer};

/// The messages for all nodes, through outages; each node receives all of them.
#[derive(Debug)]
pub struct Requests {
    nats: Nats,
    channel: async_nats::Subscriber,
    referrals: async_nats::Subscriber,
}

/// Who asks.
#[derive(Debug)]
pub enum Incoming {
    /// The server.
    Request(RequestMessage),
    /// Another node (see `protocol/referral.rs`).
    Referral(RequestMessage),
}

/// One message, and where its answer goes.
#[derive(Clone, Debug)]
pub struct RequestMessage {
    nats: Nats,
    message: async_nats::Message,
}

impl Nats {
    /// Subscribes to the channel, and to what other nodes refer to this one.
    ///
    /// # Errors
    /// Where the client has ended.
    pub async fn requests(&self) -> Result<Requests, NatsError> {
        let channel = self.listen(self.link.channel.clone()).await?;
        let referrals = self.listen(self.referral_subject()).await?;
        Ok(Requests { nats: self.clone(), channel, referrals })
    }

    pub(super) async fn listen(&self, subject: String) -> Result<async_nats::Subscriber, NatsError> {
        tokio::time::timeout(ANSWER_DEADLINE, self.link.client.subscribe(subject.clone()))
            .await
            .map_err(|_| no_answer(&format!("listening on {subject}"), ANSWER_DEADLINE))?
            .map_err(|error| NatsError(format!("listening on {subject}: {error}")))
    }
}

impl Requests {
    /// The next message. Cancel-safe. `None`: the client has ended.
    pub async fn next(&mut self) -> Option<Incoming> {
        // The server's first: what another node refers to has come before.
        let (message, is_of_server) = tokio::select! {
            biased;
            message = self.channel.next() => (message?, true),
            message = self.referrals.next() => (message?, false),
        };
        let message = RequestMessage { nats: self.nats.clone(), message };
        Some(if is_of_server { Incoming::Request(message) } else { Incoming::Referral(message) })
    }
}

impl RequestMessage {
    pub fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    /// Where the answer goes; empty where none is wanted.
    pub fn inbox(&self) -> &str {
        self.message.reply.as_ref().map_or("", async_nats::Subject::as_str)
    }

    /// The connection that it came by.
    pub fn nats(&self) -> &Nats {
        &self.nats
    }

    /// Answers; does nothing where no answer is wanted.
    ///
    /// # Errors
    /// Where the answer could not be sent. A later attempt would come after the server's 3 s.
    pub async fn reply(&self, response: Bytes) -> Result<(), NatsError> {
        let Some(inbox) = self.message.reply.clone() else { return Ok(()) };
        self.nats.check_connected()?;
        tokio::time::timeout(ANSWER_DEADLINE, self.nats.link.client.publish(inbox, response))
            .await
            .map_err(|_| no_answer("answering a request", ANSWER_DEADLINE))?
            .map_err(|error| NatsError(format!("answering a request: {error}")))
    }
}
