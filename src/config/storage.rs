//! The section `storage`: the object stores into which finished MP4s are delivered, and by which raw files travel.
//!
//! No problem quotes the URL of the store, which may hold a secret, nor the secret of the server's hooks.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::reader::ConfigSection;
use crate::config::sections::{KeepLocal, StorageConfig};
use crate::config::store_url::StoreUrl;

const KEEP_ALLOWED: &str = "true, false or a duration like 12h or 7d is allowed (default true)";
/// A year: what is longer is meant to be for ever.
const KEEP_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Bounds of `takeover_after`: a node pings every 3 s, and its id is free 10 s after its last ping.
const TAKEOVER_AFTER: RangeInclusive<Duration> = Duration::from_secs(15)..=Duration::from_secs(3600);
/// A secret that is shorter can be guessed.
const SHORTEST_SECRET: usize = 16;

pub(super) fn read(root: &ConfigSection<'_>) -> StorageConfig {
    let section = root.section("storage");
    let store = |key| {
        let field = section.field(key)?;
        let text = field.text("the URL of a store")?;
        StoreUrl::parse(&text).map_err(|why| field.problem(format!("is not the URL of a store: {why}"))).ok()
    };
    let (deliver, raw, archive) = (store("deliver"), store("raw"), store("archive"));
    let archive_keep = section.flag("archive_keep", false);
    if let (None, Some(field)) = (&archive, section.field("archive_keep")) {
        field.warning("does nothing without `storage.archive`");
    }
    let keep_local = section.field("keep_local").map_or(KeepLocal::Always, |field| {
        match field.node.text().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => KeepLocal::Always,
            "false" | "no" | "off" => KeepLocal::For(Duration::ZERO),
            _ => {
                if let Some(duration) = field.duration().filter(|duration| *duration <= KEEP_MAX) {
                    KeepLocal::For(duration)
                } else {
                    field.refuse(KEEP_ALLOWED);
                    KeepLocal::Always
                }
            }
        }
    });
    let hooks_secret = section.field("hooks_secret").and_then(|field| {
        let secret = field.text("a text")?;
        if secret.len() < SHORTEST_SECRET || !secret.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
            field.problem(format!(
                "is shorter than {SHORTEST_SECRET} characters, or has others than letters, digits, - and _, which a URL can \
                 hold; take one of `openssl rand -hex 32`"
            ));
            return None;
        }
        Some(secret)
    });
    if deliver.is_none()
        && let Some(field) = section.field("hooks_secret").or_else(|| section.field("keep_local"))
    {
        field.warning("does nothing without `storage.deliver`");
    }
    if let Some(field) = section.field("raw")
        && !root.section("recorder").section("copy_to_path").list("reference_sub_paths").is_empty()
    {
        field.problem(
            "cannot be used together with `recorder.copy_to_path.reference_sub_paths`: reference transcoders take jobs from \
             the same queue, cannot fetch from a store, and fail them",
        );
    }
    let default = StorageConfig::default().takeover_after;
    let takeover_after = section.duration("takeover_after", TAKEOVER_AFTER, default);
    StorageConfig { raw, deliver, keep_local, hooks_secret, archive, archive_keep, takeover_after }
}
