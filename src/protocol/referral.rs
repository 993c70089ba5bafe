//! The messages by which a node that cannot take a START on refers it to another node of this program. The server asks one
//! node and never a second (PROTOCOL 2), but every node receives every START (PROTOCOL 3).
//!
//! ```text
//! the node that was asked   -- Offer -->  all others
//!                           <-- Bid ----  each with room, and its score
//!                           -- Award -->  the one with the lowest score
//!                           <-- Result -  taken (and the server answered), or not
//! ```
//!
//! Participants of meetings may be able to read and to write these messages. So they hold nothing of the START but a digest,
//! which only those know who have received it, and each is signed with the API secret.

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::protocol::ids::RecorderId;

/// Signed with each message: tells it from everything else that is signed with the API secret, and from those of later
/// versions, which are not understood.
const CONTEXT: &[u8] = b"plugnmeet-recorder referral 1\n";
/// Size of the signature in front of a message, in bytes.
const SIGNATURE: usize = 32;
/// Size limit of a message in bytes; none is as large.
const LIMIT: usize = 4096;

/// Identifies one START message: SHA-256 of its payload and of the inbox for its answer, in lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StartDigest(String);

impl StartDigest {
    /// `inbox`: where the server expects the answer; another one in each request.
    #[must_use]
    pub fn of(payload: &[u8], inbox: &str) -> Self {
        let digest = Sha256::new().chain_update(payload).chain_update([0]).chain_update(inbox);
        Self(hex::encode(digest.finalize()))
    }
}

/// A message between two nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum ReferralMessage {
    Offer {
        start: StartDigest,
    },
    Bid {
        start: StartDigest,
        /// The id of the node with room.
        from: String,
        /// What the server would select it by; the lowest is the best.
        score: f64,
    },
    Award {
        start: StartDigest,
        /// The id of the node that shall take it.
        to: String,
        /// Unix milliseconds. A node that reads it long afterwards has been hanging, and the server waits no longer.
        sent_ms: u64,
    },
    Result {
        start: StartDigest,
        from: String,
        outcome: AwardOutcome,
    },
}

/// What has become of an award.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AwardOutcome {
    /// The node has taken the START on, and answered the server.
    Taken,
    /// It cannot, and why; another one may.
    Declined(String),
    /// Nobody can, and why: the recording runs already, for example.
    Impossible(String),
}

impl ReferralMessage {
    /// The signed bytes.
    #[must_use]
    pub fn sign(&self, api_secret: &str) -> Vec<u8> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        let mut bytes = signature(api_secret, &json).finalize().into_bytes().to_vec();
        bytes.extend(json);
        bytes
    }

    /// `None`: not signed with this secret, or not of this version.
    #[must_use]
    pub fn read(bytes: &[u8], api_secret: &str) -> Option<Self> {
        let (signed, json) = bytes.split_at_checked(SIGNATURE).filter(|_| bytes.len() <= LIMIT)?;
        signature(api_secret, json).verify_slice(signed).ok()?;
        serde_json::from_slice(json).ok()
    }
}

fn signature(api_secret: &str, json: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(api_secret.as_bytes())
        .unwrap_or_else(|_| unreachable!("HMAC takes a key of any length"));
    mac.update(CONTEXT);
    mac.update(json);
    mac
}

/// A node that has room for a START.
#[derive(Clone, Debug, PartialEq)]
pub struct Bidder {
    pub recorder: RecorderId,
    pub score: f64,
}

/// The nodes that may still be asked.
#[derive(Debug, Default)]
pub struct Bids(Vec<Bidder>);

impl Bids {
    pub fn add(&mut self, bidder: Bidder) {
        self.0.push(bidder);
    }

    /// Takes the node with the lowest score; of equals, the first by id.
    pub fn take_best(&mut self) -> Option<Bidder> {
        let order = |a: &Bidder, b: &Bidder| a.score.total_cmp(&b.score).then_with(|| a.recorder.cmp(&b.recorder));
        let (best, _) = self.0.iter().enumerate().min_by(|(_, a), (_, b)| order(a, b))?;
        Some(self.0.swap_remove(best))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn award() -> ReferralMessage {
        let start = StartDigest::of(b"a start", "_INBOX.1");
        ReferralMessage::Award { start, to: "node_02".to_owned(), sent_ms: 1_800_000_000_000 }
    }

    #[test]
    fn a_message_is_read_as_it_was_signed_and_with_no_other_secret() {
        let bytes = award().sign("secret");
        assert_eq!(ReferralMessage::read(&bytes, "secret"), Some(award()));
        assert_eq!(ReferralMessage::read(&bytes, "secreT"), None);
    }

    #[test]
    fn a_message_that_was_changed_cut_or_made_up_is_none() {
        let bytes = award().sign("secret");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(ReferralMessage::read(&changed, "secret"), None, "byte {at}");
            assert_eq!(ReferralMessage::read(&bytes[..at], "secret"), None, "{at} bytes");
        }
        let unknown = br#"{"message":"steal"}"#;
        let mut signed = signature("secret", unknown).finalize().into_bytes().to_vec();
        signed.extend(unknown);
        assert_eq!(ReferralMessage::read(&signed, "secret"), None);
        // What a notice's signature covers is not what this one's does.
        let mut notice = crate::protocol::signature::hmac_sha256("secret", &bytes[SIGNATURE..]).to_vec();
        notice.extend(&bytes[SIGNATURE..]);
        assert_eq!(ReferralMessage::read(&notice, "secret"), None);
    }

    #[test]
    fn a_start_is_another_one_with_another_payload_or_inbox() {
        let digest = StartDigest::of(b"a start", "_INBOX.1");
        assert_eq!(digest, StartDigest::of(b"a start", "_INBOX.1"));
        assert_ne!(digest, StartDigest::of(b"a start", "_INBOX.2"));
        assert_ne!(digest, StartDigest::of(b"b start", "_INBOX.1"));
        assert!(!format!("{:?}", award()).contains("a start"));
    }

    #[test]
    fn the_node_with_the_lowest_score_is_asked_first() {
        let mut bids = Bids::default();
        for (id, score) in [("c", 0.5), ("b", 0.1), ("d", f64::NAN), ("a", 0.1)] {
            bids.add(Bidder { recorder: RecorderId::parse(id).unwrap(), score });
        }
        let order: Vec<_> =
            std::iter::from_fn(|| bids.take_best()).map(|bidder| bidder.recorder.as_str().to_owned()).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
    }
}
