//! Answers what a page asks its user, because nobody sits at this Chrome: a dialog would be recorded, and the page may
//! stand still until it is answered.
//!
//! `alert`, `confirm`, `prompt` and the question whether the page may be left are replaced by a script
//! (`page_dialogs.js`), so that no dialog is drawn even for a moment. A dialog that comes all the same is answered through DevTools. Files and passkeys are refused before Chrome
//! asks for them. A further page is closed: it would go on unseen, but heard. What Chrome asks by itself is forbidden
//! by [`crate::capture::browser::profile`], and windows are hidden by [`crate::capture::browser::window`].

use chromiumoxide::cdp::browser_protocol::browser::{SetDownloadBehaviorBehavior, SetDownloadBehaviorParams};
use chromiumoxide::cdp::browser_protocol::page::{
    self, AddScriptToEvaluateOnNewDocumentParams, DialogType, EventJavascriptDialogOpening,
    HandleJavaScriptDialogParams, SetInterceptFileChooserDialogParams,
};
use chromiumoxide::cdp::browser_protocol::target::{CloseTargetParams, EventTargetCreated};
use chromiumoxide::cdp::browser_protocol::web_authn;
use chromiumoxide::error::CdpError;
use chromiumoxide::listeners::EventStream;
use chromiumoxide::{Browser, Page};
use futures::StreamExt as _;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use crate::codes;

const SCRIPT: &str = include_str!("page_dialogs.js");

/// The tasks that answer dialogs and close further pages.
#[derive(Debug)]
pub struct PageDialogs {
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl PageDialogs {
    /// Prepares the page's next documents; the loaded document is not changed.
    ///
    /// # Errors
    /// Where Chrome refuses one of the requests.
    pub async fn answer(browser: &Browser, page: &Page) -> Result<Self, CdpError> {
        let dialogs = page.event_listener::<EventJavascriptDialogOpening>().await?;
        let targets = browser.event_listener::<EventTargetCreated>().await?;
        let tasks = [
            tokio::spawn(answer_dialogs(page.clone(), dialogs).in_current_span()),
            tokio::spawn(close_further_pages(page.clone(), targets).in_current_span()),
        ]
        .map(AbortOnDropHandle::new);
        page.execute(page::EnableParams::default()).await?;
        page.execute(AddScriptToEvaluateOnNewDocumentParams::new(SCRIPT)).await?;
        let mut no_files = SetInterceptFileChooserDialogParams::new(true);
        no_files.cancel = Some(true);
        page.execute(no_files).await?;
        // Authenticators are then those that DevTools adds: none.
        page.execute(web_authn::EnableParams::default()).await?;
        browser.execute(SetDownloadBehaviorParams::new(SetDownloadBehaviorBehavior::Deny)).await?;
        Ok(Self { _tasks: tasks })
    }
}

/// Whether a dialog is answered with "OK". The page is let go where it asks whether to be left; other questions are
/// answered as by a user who wants nothing changed.
fn accepts(dialog: &DialogType) -> bool {
    matches!(dialog, DialogType::Alert | DialogType::Beforeunload)
}

async fn answer_dialogs(page: Page, mut dialogs: EventStream<EventJavascriptDialogOpening>) {
    let mut is_told = false;
    while let Some(dialog) = dialogs.next().await {
        let kind = dialog.r#type.as_ref();
        // Its text is the page's and may be private.
        if is_told {
            tracing::debug!(kind, "a dialog of the page was answered");
        } else {
            tracing::info!(kind, "a dialog of the page was answered; further ones are told at log level debug");
        }
        is_told = true;
        if let Err(error) = page.execute(HandleJavaScriptDialogParams::new(accepts(&dialog.r#type))).await {
            tracing::debug!(%error, kind, "Chrome does not take the answer to a dialog");
        }
    }
}

async fn close_further_pages(page: Page, mut targets: EventStream<EventTargetCreated>) {
    while let Some(target) = targets.next().await {
        let target = &target.target_info;
        if target.r#type != "page" || target.target_id == *page.target_id() {
            continue;
        }
        tracing::debug!("the meeting page has opened another page, which is closed");
        if let Err(error) = page.execute(CloseTargetParams::new(target.target_id.clone())).await {
            tracing::warn!(
                code = %codes::PAGE_NOT_CLOSED, %error,
                "a page that the meeting page has opened cannot be closed: it may be heard"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_may_be_left_and_nothing_else_is_agreed_to() {
        let kinds = [DialogType::Alert, DialogType::Beforeunload, DialogType::Confirm, DialogType::Prompt];
        assert_eq!(kinds.map(|kind| accepts(&kind)), [true, true, false, false]);
    }
}
