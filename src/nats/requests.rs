//! The requests of the server: core NATS request–reply on the recorders' channel (PROTOCOL 3).

use bytes::Bytes;
use futures::StreamExt as _;

use crate::nats::connection::{ANSWER_DEADLINE, Nats, NatsError, no_answer};

/// The messages on the channel, through outages; each node receives all of them.
#[derive(Debug)]
pub struct Requests {
    nats: Nats,
    subscriber: async_nats::Subscriber,
}

/// One message on the channel.
#[derive(Debug)]
pub struct RequestMessage {
    nats: Nats,
    message: async_nats::Message,
}

impl Nats {
    /// Subscribes to the channel.
    ///
    /// # Errors
    /// Where the client has ended.
    pub async fn requests(&self) -> Result<Requests, NatsError> {
        let listening = tokio::time::timeout(ANSWER_DEADLINE, self.link.client.subscribe(self.link.channel.clone()));
        let subscriber = listening
            .await
            .map_err(|_| no_answer("listening for requests", ANSWER_DEADLINE))?
            .map_err(|error| NatsError(format!("listening on {}: {error}", self.link.channel)))?;
        Ok(Requests { nats: self.clone(), subscriber })
    }
}

impl Requests {
    /// The next message. Cancel-safe. `None`: the client has ended.
    pub async fn next(&mut self) -> Option<RequestMessage> {
        let message = self.subscriber.next().await?;
        Some(RequestMessage { nats: self.nats.clone(), message })
    }
}

impl RequestMessage {
    pub fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    /// Answers with the bytes of a `CommonResponse`; does nothing where the message wants no reply.
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
