//! How often somebody may guess the token: ten wrong ones in a minute from one address, of IPv6 from one /64.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::time::Instant;

use crate::admin::http::refusal::Refusal;
use crate::codes;

/// Wrong tokens from one address within [`WINDOW`].
const MOST: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered. Where there are more, the oldest is forgotten.
const ADDRESSES: usize = 1_024;

/// Counts wrong tokens.
#[derive(Debug, Default)]
pub(super) struct TokenLimit(Mutex<BTreeMap<IpAddr, (u32, Instant)>>);

impl TokenLimit {
    /// How long this address has to wait; `None`: it may try.
    pub fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, since) = *wrong.get(&network(address))?;
        let rest = WINDOW.saturating_sub(now.duration_since(since));
        (count >= MOST && !rest.is_zero()).then_some(rest)
    }

    /// The answer to this address where it has to wait.
    pub fn refusal(&self, address: IpAddr, now: Instant) -> Option<Response> {
        let seconds = self.wait(address, now)?.as_secs() + 1;
        let why = format!("too many wrong tokens from this address; try again in {seconds} s");
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, codes::TOO_MANY_LOGINS, why);
        Some(([(header::RETRY_AFTER, seconds.to_string())], refusal).into_response())
    }

    /// A wrong token. True for the first of a window, which is to be logged.
    pub fn wrong(&self, address: IpAddr, now: Instant) -> bool {
        let mut wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.retain(|_, (_, since)| now.duration_since(*since) < WINDOW);
        if wrong.len() >= ADDRESSES {
            let oldest = wrong.iter().min_by_key(|(_, (_, since))| *since).map(|(address, _)| *address);
            oldest.and_then(|oldest| wrong.remove(&oldest));
        }
        let (count, _) = wrong.entry(network(address)).or_insert((0, now));
        *count += 1;
        *count == 1
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guesser_waits_a_minute_after_ten_and_keeps_out_nobody_else() {
        let (limit, now) = (TokenLimit::default(), Instant::now());
        let guesser: IpAddr = "10.0.0.1".parse().unwrap();
        for number in 0..MOST {
            assert_eq!(limit.wait(guesser, now), None);
            assert_eq!(limit.wrong(guesser, now), number == 0);
        }
        assert_eq!(limit.wait(guesser, now + Duration::from_secs(20)), Some(Duration::from_secs(40)));
        assert_eq!(limit.wait("10.0.0.2".parse().unwrap(), now), None);
        let answer = limit.refusal(guesser, now + WINDOW - Duration::from_millis(1)).unwrap();
        assert_eq!(answer.headers()[header::RETRY_AFTER], "1", "never 0");
        assert_eq!(limit.wait(guesser, now + WINDOW), None);
        for number in 0..MOST {
            limit.wrong(format!("2001:db8::{number}").parse().unwrap(), now);
        }
        assert!(limit.wait("2001:db8::ffff".parse().unwrap(), now).is_some(), "he has the whole /64");
        for number in 0..2 * ADDRESSES {
            limit.wrong(format!("10.1.{}.{}", number / 256, number % 256).parse().unwrap(), now);
        }
        assert!(limit.0.lock().unwrap().len() <= ADDRESSES);
    }

    #[test]
    fn a_guesser_who_comes_again_is_counted_again_and_many_others_do_not_make_him_forgotten() {
        let (limit, now) = (TokenLimit::default(), Instant::now());
        let guesser: IpAddr = "10.0.0.1".parse().unwrap();
        for begun in [now, now + WINDOW, now + 3 * WINDOW] {
            for number in 0..MOST {
                assert_eq!(limit.wait(guesser, begun), None);
                assert_eq!(limit.wrong(guesser, begun), number == 0);
            }
            assert_eq!(limit.wait(guesser, begun), Some(WINDOW));
        }
        let (later, other) = (now + 5 * WINDOW, |number: usize| format!("10.1.{}.{}", number / 256, number % 256));
        for number in 0..ADDRESSES {
            limit.wrong(other(number).parse().unwrap(), later);
        }
        for _ in 0..MOST {
            limit.wrong(guesser, later + Duration::from_secs(1));
        }
        limit.wrong(other(ADDRESSES).parse().unwrap(), later + Duration::from_secs(2));
        assert!(limit.wait(guesser, later + Duration::from_secs(2)).is_some(), "the oldest is forgotten");
    }
}
