//! A page that is no meeting, on a server of its own: it asks for a cookie and a header, and notes who comes and what the
//! page does.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

const PAGE: &str = include_str!("plain_page.html");
/// Without these nobody gets the page.
pub const COOKIE: &str = "session=let-me-in";
pub const HEADER: (&str, &str) = ("x-visitor", "a-recorder");

/// What the page's visitors said and did, in order, and whether the page is to close itself.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>, CancellationToken);

impl Notes {
    fn add(&self, note: String) {
        self.0.lock().unwrap().push(note);
    }
}

/// The server, as long as it is not dropped.
pub struct PlainPage {
    pub url: String,
    notes: Notes,
    task: AbortHandle,
}

impl PlainPage {
    pub async fn start() -> anyhow::Result<Self> {
        let notes = Notes::default();
        let router = Router::new().route("/", get(page)).route("/told", post(told));
        let router = router.route("/closing", get(closing)).with_state(notes.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let task = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Ok(Self { url, notes, task })
    }

    /// What is behind its address, as in a browser.
    pub fn address(&self) -> String {
        self.url.trim_start_matches("http://").trim_end_matches('/').to_owned()
    }

    /// The page closes itself, if its address ends in `?closes`.
    pub fn close(&self) {
        self.notes.1.cancel();
    }

    pub fn notes(&self) -> Vec<String> {
        self.notes.0.lock().unwrap().clone()
    }
}

impl Drop for PlainPage {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn page(State(notes): State<Notes>, headers: HeaderMap) -> Response {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    if text(header::COOKIE.as_str()) != COOKIE || text(HEADER.0) != HEADER.1 {
        return (StatusCode::FORBIDDEN, Html("<h1>Forbidden</h1>")).into_response();
    }
    notes.add(format!("visited by {}", text(header::USER_AGENT.as_str())));
    Html(PAGE).into_response()
}

async fn closing(State(notes): State<Notes>) -> StatusCode {
    notes.1.cancelled().await;
    StatusCode::NO_CONTENT
}

async fn told(State(notes): State<Notes>, what: String) -> StatusCode {
    notes.add(what);
    StatusCode::NO_CONTENT
}
