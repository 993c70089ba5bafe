//! A meeting as the stand-in holds it: what its page shows and plays, and what a test may do to it while it is on.

mod content;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use plugnmeet_recorder::protocol::messages::{PlugNmeetToRecorder, RecordingTasks};
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

use super::Deployment;
use super::access::{self, Bot};

#[allow(unused_imports, reason = "the suite and the demo each use a part")]
pub use content::{Content, Meeting, Rgb, Stage, area};

/// One load of the page.
#[derive(Debug, Clone)]
pub struct Visit {
    /// As it was asked for, with everything after the token.
    pub query: String,
    pub at: Instant,
}

/// What came in from the page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presence {
    /// Pages that are open, whether joined or not.
    pub open: usize,
    /// How often `#main-area` has been shown.
    pub joins: usize,
    /// How often beeps have begun: the first one comes half a second later. Chrome may take seconds to open the sound card.
    pub sounds: usize,
}

/// A flash as Chrome says that it was shown.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
pub struct Flash {
    /// When it was on the screen, in seconds since the page was loaded.
    pub shown: f64,
    /// When its beep left the output, minus that, in milliseconds: positive where the sound is late.
    pub offset: f64,
}

/// An open meeting. Clones are the same meeting.
#[derive(Clone)]
pub struct Room {
    pub table_id: i64,
    pub id: String,
    pub sid: String,
    /// The recorder's access token.
    pub token: String,
    deployment: Deployment,
    state: Arc<State>,
}

struct State {
    meeting: Meeting,
    /// Heading and text of the error page that every load gets, once there is one.
    error: Mutex<Option<(String, String)>>,
    /// The session has ended.
    over: AtomicBool,
    /// Pages that are open, by user.
    online: Mutex<HashMap<String, usize>>,
    visits: Mutex<Vec<Visit>>,
    flashes: Mutex<Vec<Flash>>,
    presence: watch::Sender<Presence>,
    orders: broadcast::Sender<Value>,
}

static NEXT_ROOM: AtomicI64 = AtomicI64::new(1);

impl Room {
    pub(super) fn open(meeting: Meeting, deployment: Deployment) -> Self {
        let n = NEXT_ROOM.fetch_add(1, Ordering::Relaxed);
        let id = meeting.room_id.clone().unwrap_or_else(|| format!("room-{n:02}"));
        let state = State {
            meeting,
            error: Mutex::default(),
            over: AtomicBool::new(false),
            online: Mutex::default(),
            visits: Mutex::default(),
            flashes: Mutex::default(),
            presence: watch::channel(Presence::default()).0,
            orders: broadcast::channel(64).0,
        };
        let token = access::token(&deployment, &id, Bot::Recorder, Duration::ZERO);
        Self { table_id: 100 + n, id, sid: format!("SID-room{n:02}"), token, deployment, state: Arc::new(state) }
    }

    /// The same meeting, whose token was signed so long ago.
    pub fn with_token_of_age(&self, age: Duration) -> Self {
        Self { token: access::token(&self.deployment, &self.id, Bot::Recorder, age), ..self.clone() }
    }

    /// A request about this room as the server fills it in; a test may change it and send it with [`super::Fleet::request`].
    pub fn request(&self, task: RecordingTasks, recording_id: &str, recorder_id: &str) -> PlugNmeetToRecorder {
        PlugNmeetToRecorder {
            from: "plugnmeet".to_owned(),
            task: task.into(),
            room_table_id: self.table_id,
            room_id: self.id.clone(),
            room_sid: self.sid.clone(),
            recording_id: recording_id.to_owned(),
            recorder_id: recorder_id.to_owned(),
            access_token: match task {
                RecordingTasks::StartRtmp => {
                    access::token(&self.deployment, &self.id, Bot::Broadcaster, Duration::ZERO)
                }
                _ => self.token.clone(),
            },
            rtmp_url: None,
        }
    }

    /// The session is over, and its page says so in these words, also at every later load.
    pub fn end(&self, heading: &str, text: &str) {
        self.state.over.store(true, Ordering::Relaxed);
        *self.state.error.lock().unwrap() = Some((heading.to_owned(), text.to_owned()));
        self.show_error(heading, text, None);
    }

    /// The host ends the session, as in the client of 2.4.
    pub fn end_by_host(&self) {
        self.state.over.store(true, Ordering::Relaxed);
        self.show_error("Disconnected", "The meeting has ended.", None);
    }

    /// The last participant leaves: the recorder's page follows by itself some seconds later, and the session is not over yet.
    pub fn last_participant_leaves(&self) {
        self.order(json!({
            "do": "error", "heading": "Disconnected", "text": "NO_USER_ONLINE",
            "after": self.state.meeting.lonely_for.as_millis(),
        }));
    }

    /// The page's connection is lost: it shows that for so long, and then gives up. The session goes on.
    pub fn lose_network(&self, gives_up_after: Duration) {
        self.order(json!({
            "do": "reconnect", "heading": "Disconnected", "text": "You were disconnected due to a network problem.",
            "after": gives_up_after.as_millis(),
        }));
    }

    /// The server, or a moderator, removes a bot whose page is open. Whether there was any.
    pub fn remove(&self, bot: Bot) -> bool {
        let online = self.is_online(bot.user_id());
        if online {
            self.show_error("Disconnected", "You have been removed from the meeting", Some(bot));
        }
        online
    }

    /// The page shows its error page in words of another language.
    pub fn show_error(&self, heading: &str, text: &str, only: Option<Bot>) {
        self.order(json!({ "do": "error", "heading": heading, "text": text, "user": only.map(Bot::user_id) }));
    }

    /// The session is over, and no page has been told.
    pub fn end_silently(&self) {
        self.state.over.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.state.over.load(Ordering::Relaxed)
    }

    /// Whether a page of this user is open.
    pub(super) fn is_online(&self, user_id: &str) -> bool {
        self.state.online.lock().unwrap().get(user_id).is_some_and(|pages| *pages > 0)
    }

    pub(super) fn forced_error(&self) -> Option<(String, String)> {
        self.state.error.lock().unwrap().clone()
    }

    /// The page closes itself (`window.close()`). Chrome lets it only where the page is the first that its window has shown, as it is when
    /// the URL was on the command line; else use [`Self::leave_page`].
    pub fn close_page(&self) {
        self.order(json!({ "do": "close" }));
    }

    /// The page goes elsewhere (`about:blank`).
    pub fn leave_page(&self) {
        self.order(json!({ "do": "leave" }));
    }

    /// The page loads itself anew, and waits to be joined again.
    pub fn reload_page(&self) {
        self.order(json!({ "do": "reload" }));
    }

    /// The page that is open takes memory until there is none left for it. Later loads do not.
    pub fn exhaust_memory(&self) {
        self.order(json!({ "do": "exhaust" }));
    }

    /// Shows the n-th slide, counted from 0.
    pub fn show_slide(&self, n: usize) {
        self.order(json!({ "do": "slide", "n": n }));
    }

    /// Stops the beeps, or lets them go on.
    pub fn mute(&self, muted: bool) {
        self.order(json!({ "do": "mute", "muted": muted }));
    }

    pub fn visits(&self) -> Vec<Visit> {
        self.state.visits.lock().unwrap().clone()
    }

    /// When each flash so far was on the screen, in seconds since the page was loaded, and how much later its beep left the output, in
    /// milliseconds.
    pub fn flashes(&self) -> Vec<(f64, f64)> {
        self.state.flashes.lock().unwrap().iter().map(|flash| (flash.shown, flash.offset)).collect()
    }

    pub fn presence(&self) -> Presence {
        self.state.presence.borrow().clone()
    }

    /// Waits until the page has been joined `joins` times.
    pub async fn wait_for_join(&self, joins: usize, limit: Duration) -> anyhow::Result<()> {
        self.wait(limit, |presence| presence.joins >= joins).await
    }

    /// Waits until the page has begun to beep `sounds` times.
    pub async fn wait_for_sound(&self, sounds: usize, limit: Duration) -> anyhow::Result<()> {
        self.wait(limit, |presence| presence.sounds >= sounds).await
    }

    /// Waits until no page of the meeting is open.
    pub async fn wait_until_left(&self, limit: Duration) -> anyhow::Result<()> {
        self.wait(limit, |presence| presence.open == 0).await
    }

    async fn wait(&self, limit: Duration, reached: impl Fn(&Presence) -> bool) -> anyhow::Result<()> {
        let mut presence = self.state.presence.subscribe();
        tokio::time::timeout(limit, presence.wait_for(|now| reached(now)))
            .await
            .with_context(|| format!("after {limit:?} the page of {} is still at {:?}", self.id, self.presence()))??;
        Ok(())
    }

    fn order(&self, order: Value) {
        // Nobody there: the next load sees the state itself.
        let _ = self.state.orders.send(order);
    }

    pub(super) fn orders(&self) -> broadcast::Receiver<Value> {
        self.state.orders.subscribe()
    }

    pub(super) fn visited(&self, query: &str) {
        self.state.visits.lock().unwrap().push(Visit { query: query.to_owned(), at: Instant::now() });
    }

    pub(super) fn joined(&self) {
        self.state.presence.send_modify(|presence| presence.joins += 1);
    }

    pub(super) fn flashed(&self, flash: Flash) {
        self.state.flashes.lock().unwrap().push(flash);
    }

    pub(super) fn sounding(&self) {
        self.state.presence.send_modify(|presence| presence.sounds += 1);
    }

    /// Counts a page until the guard is dropped.
    pub(super) fn arrive(&self, user_id: &str) -> Seat {
        *self.state.online.lock().unwrap().entry(user_id.to_owned()).or_default() += 1;
        self.state.presence.send_modify(|presence| presence.open += 1);
        Seat { room: self.clone(), user_id: user_id.to_owned() }
    }

    /// What `page.html` is told.
    pub(super) fn page(&self, token: &str, user_id: &str) -> Value {
        let meeting = &self.state.meeting;
        let css = |[r, g, b]: &Rgb| format!("rgb({r},{g},{b})");
        json!({
            "token": token,
            "user": user_id,
            "securityKey": meeting.security_key,
            "stage": match &meeting.stage {
                Stage::Meeting => json!({ "kind": "meeting" }),
                Stage::Film => json!({ "kind": "film", "source": "/standin/film.webm" }),
                Stage::Patches(colours) => json!({ "kind": "patches", "colours": colours.iter().map(css).collect::<Vec<_>>() }),
                Stage::Alternation { colours, hold } => json!({
                    "kind": "alternation",
                    "colours": colours.iter().map(css).collect::<Vec<_>>(),
                    "hold": hold.map(|hold| hold.as_millis()),
                }),
            },
            "title": self.id,
            "colour": css(&meeting.colour),
            "slides": meeting.slides.iter().map(css).collect::<Vec<_>>(),
            "slideEvery": meeting.slide_every.map(|every| every.as_millis()),
            "webcams": meeting.webcams,
            "webcamSource": if meeting.webcams_stall { "/standin/stalled.webm" } else { "/standin/webcam.webm" },
            "beepHz": meeting.beep_hz,
            "contents": meeting.contents.iter().map(|content| content.name()).collect::<Vec<_>>(),
            "flash": meeting.flash,
            "readyAfter": meeting.ready_after.map(|after| after.as_millis()),
            "joinedAfter": meeting.joined_after.map(|after| after.as_millis()),
            "error": Value::Null,
        })
    }
}

/// A page that is open.
pub(super) struct Seat {
    room: Room,
    user_id: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(pages) = self.room.state.online.lock().unwrap().get_mut(&self.user_id) {
            *pages -= 1;
        }
        self.room.state.presence.send_modify(|presence| presence.open -= 1);
    }
}
