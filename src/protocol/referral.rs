//! The messages by which a node that cannot take a START on refers it to another node of this program. The server asks one
//! node and never a second (PROTOCOL 2), but every node receives every START (PROTOCOL 3).
//!
//! ```text
//! the node that was asked   -- Offer -->  all others
//!                           <-- Bid ----  each with room, and its score
//!                           -- Award -->  the better one of two of them
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

    /// A number that looks drawn at random: another one for each START and for each `n`.
    #[must_use]
    pub fn draw(&self, n: u64) -> u64 {
        let digest = Sha256::new().chain_update(&self.0).chain_update(n.to_be_bytes()).finalize();
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
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
        /// `sent_ms` of the award that this answers: a copy of what the node has said to an earlier one is told from it.
        award_ms: u64,
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
pub struct Bids {
    bidders: Vec<Bidder>,
    declined: Vec<RecorderId>,
}

impl Bids {
    pub fn add(&mut self, bidder: Bidder) {
        self.bidders.push(bidder);
    }

    /// Notes a node that was asked and has declined: it is asked again only when no other is left.
    pub fn decline(&mut self, recorder: RecorderId) {
        self.declined.push(recorder);
    }

    /// Forgets the bids, not who has declined.
    pub fn renew(&mut self) {
        self.bidders.clear();
    }

    /// Takes the better one of two that are `drawn`: nodes that refer at the same time know the same bids, and would all
    /// ask the best one.
    pub fn take(&mut self, drawn: u64) -> Option<Bidder> {
        let has_declined = |index: &usize| self.declined.contains(&self.bidders[*index].recorder);
        let (last, first): (Vec<usize>, Vec<usize>) = (0..self.bidders.len()).partition(has_declined);
        let choice = if first.is_empty() { last } else { first };
        let length = u64::try_from(choice.len()).ok().filter(|length| *length > 0)?;
        let at = |drawn: u64| choice[usize::try_from(drawn % length).unwrap_or_default()];
        let (one, other) = (at(drawn), at(drawn / length));
        let is_better = self.bidders[other].score < self.bidders[one].score;
        Some(self.bidders.swap_remove(if is_better { other } else { one }))
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
    fn each_node_is_asked_once_busy_ones_less_often_and_never_all_the_same_one() {
        let start = |n: u32| StartDigest::of(b"a start", &n.to_string());
        let mut first = [0; 4];
        for n in 0..400 {
            let mut bids = Bids::default();
            for (id, score) in [("a", 0.1), ("b", 0.1), ("c", 0.5), ("d", f64::NAN)] {
                bids.add(Bidder { recorder: RecorderId::parse(id).unwrap(), score });
            }
            let drawn = (0..).map(|draw| start(n).draw(draw));
            let order: Vec<_> = drawn.map_while(|drawn| bids.take(drawn)).map(|one| one.recorder.to_string()).collect();
            first[usize::from(order[0].as_bytes()[0] - b'a')] += 1;
            let mut all = order.clone();
            all.sort();
            assert_eq!(all, ["a", "b", "c", "d"]);
        }
        let [a, b, c, d] = first;
        assert!(a > 80 && b > 80 && c < a && c < b && d < 200, "{first:?}");
    }

    #[test]
    fn a_node_that_has_declined_is_asked_again_only_when_no_other_is_left() {
        let mut bids = Bids::default();
        let bids_again = |bids: &mut Bids| {
            bids.renew();
            for (id, score) in [("a", 0.1), ("b", 0.2), ("c", 0.3)] {
                bids.add(Bidder { recorder: RecorderId::parse(id).unwrap(), score });
            }
        };
        for id in ["a", "b"] {
            bids.decline(RecorderId::parse(id).unwrap());
        }
        for drawn in 0..100 {
            bids_again(&mut bids);
            assert_eq!(bids.take(drawn).unwrap().recorder.as_str(), "c");
            let left: Vec<_> = std::iter::from_fn(|| bids.take(drawn)).map(|one| one.recorder.to_string()).collect();
            assert_eq!(left.len(), 2);
        }
    }
}
