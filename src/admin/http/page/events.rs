//! `GET /page/events`: what the page is told, as server-sent events, each part when it has changed.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::watch;

use crate::admin::http::connections::Caller;
use crate::admin::http::page::feed::{NAMES, Told};
use crate::admin::http::page::state::{LONGEST, Page};
use crate::admin::http::refusal::Refusal;
use crate::codes;

/// Between the end that this node gives the answer, and that of its connection.
const MARGIN: Duration = Duration::from_secs(10);

/// What a viewer has been sent.
struct Viewer {
    told: watch::Receiver<Told>,
    sent: Told,
}

impl Viewer {
    /// The parts that have changed, when one has.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let now = self.told.borrow_and_update().clone();
            let mut text = String::new();
            for ((name, now), sent) in NAMES.iter().zip(&now).zip(&mut self.sent) {
                if !now.is_empty() && !Arc::ptr_eq(now, sent) {
                    // Writing to a string does not fail.
                    let _ = write!(text, "event: {name}\ndata: {now}\n\n");
                    sent.clone_from(now);
                }
            }
            if !text.is_empty() {
                return Some(text.into());
            }
            self.told.changed().await.ok()?;
        }
    }
}

pub(super) async fn events(State(page): State<Page>, ConnectInfo(caller): ConnectInfo<Caller>) -> Response {
    let Ok(permit) = Arc::clone(&page.viewers).try_acquire_owned() else {
        let why = "too many look at this node already";
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, codes::TOO_MANY_VIEWERS, why).into_response();
    };
    caller.may_stay(LONGEST + MARGIN);
    let viewer = Viewer { told: page.feed.watch(), sent: Told::default() };
    let parts = futures::stream::unfold((viewer, permit), |(mut viewer, permit)| async move {
        Some((viewer.next().await?, (viewer, permit)))
    });
    let whole = parts.take_until(Box::pin(tokio::time::sleep(LONGEST))).map(Ok::<_, Infallible>);
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(whole)).into_response()
}
