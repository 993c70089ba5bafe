//! How nodes talk to each other: on a subject below `_INBOX`, which all may use (PROTOCOL 1). What is said there is signed
//! (`protocol/referral.rs`), since others may read and write it too.

use bytes::Bytes;
use futures::StreamExt as _;

use crate::nats::connection::{ANSWER_DEADLINE, Nats, NatsError, no_answer};

/// What one node says to all others, and what it is answered.
#[derive(Debug)]
pub struct Conversation {
    nats: Nats,
    inbox: String,
    answers: async_nats::Subscriber,
}

impl Nats {
    /// Where nodes of this deployment talk; each of them listens.
    pub(super) fn referral_subject(&self) -> String {
        format!("_INBOX.{}.referrals", self.link.channel)
    }

    /// Begins to talk to the other nodes.
    ///
    /// # Errors
    /// Where NATS is not connected.
    pub async fn converse(&self) -> Result<Conversation, NatsError> {
        self.check_connected()?;
        let inbox = self.link.client.new_inbox();
        let answers = self.listen(inbox.clone()).await?;
        Ok(Conversation { nats: self.clone(), inbox, answers })
    }
}

impl Conversation {
    /// Says something to all other nodes, and to this one.
    ///
    /// # Errors
    /// Where NATS is not connected.
    pub async fn tell_all(&self, message: Vec<u8>) -> Result<(), NatsError> {
        self.nats.check_connected()?;
        let subject = self.nats.referral_subject();
        let telling = self.nats.link.client.publish_with_reply(subject, self.inbox.clone(), message.into());
        tokio::time::timeout(ANSWER_DEADLINE, telling)
            .await
            .map_err(|_| no_answer("talking to other nodes", ANSWER_DEADLINE))?
            .map_err(|error| NatsError(format!("talking to other nodes: {error}")))
    }

    /// The next answer. Cancel-safe. `None`: the client has ended.
    pub async fn next(&mut self) -> Option<Bytes> {
        Some(self.answers.next().await?.payload)
    }
}
