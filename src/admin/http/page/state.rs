//! What the requests of the page share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::admin::http::node_state::NodeState;
use crate::admin::http::page::feed::Feed;
use crate::admin::http::page::session;
use crate::admin::http::page::thumbnails::Thumbnails;
use crate::admin::http::token_limit::TokenLimit;

/// Viewers at once, and videos that play at once.
const MOST_VIEWERS: usize = 16;
const MOST_VIDEOS: usize = 8;
/// How long a viewer or a player may stay on one connection; then the browser connects again by itself.
pub(super) const LONGEST: Duration = Duration::from_secs(600);

/// What the page needs.
#[derive(Clone)]
pub(super) struct Page(Arc<Parts>);

pub(super) struct Parts {
    pub node: NodeState,
    pub feed: Feed,
    pub thumbnails: Thumbnails,
    /// Wrong tokens, also those of `POST /drain`.
    pub tokens: Arc<TokenLimit>,
    pub viewers: Arc<Semaphore>,
    pub videos: Arc<Semaphore>,
}

impl std::ops::Deref for Page {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Parts {
    /// The name of the cookie of a session.
    pub fn session_name(&self) -> String {
        session::name(self.node.admin.listen.map_or(0, |listen| listen.port()))
    }
}

impl Page {
    pub fn of(node: &NodeState, tokens: Arc<TokenLimit>) -> Self {
        Self(Arc::new(Parts {
            feed: Feed::new(node),
            thumbnails: Thumbnails::new(node),
            node: node.clone(),
            tokens,
            viewers: Arc::new(Semaphore::new(MOST_VIEWERS)),
            videos: Arc::new(Semaphore::new(MOST_VIDEOS)),
        }))
    }
}
