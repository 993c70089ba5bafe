//! The section `storage`: the object stores into which finished MP4s are delivered, by which raw files travel, into which
//! recordings are archived while they run, and what cannot be transcoded is copied.
//!
//! No problem quotes the URL of a store, which may hold a secret, nor the secret of the server's hooks.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::reader::{ConfigField, ConfigSection};
use crate::config::room_pattern::RoomPattern;
use crate::config::sections::{KeepLocal, RuleStore, StorageConfig, StorageRule};
use crate::config::store_url::StoreUrl;

const KEEP_ALLOWED: &str = "true, false or a duration like 12h or 7d is allowed (default true)";
/// A year: what is longer is meant to be for ever.
const KEEP_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Bounds of `takeover_after`: a node pings every 3 s, and its id is free 10 s after its last ping.
const TAKEOVER_AFTER: RangeInclusive<Duration> = Duration::from_secs(15)..=Duration::from_secs(3600);
/// A secret that is shorter can be guessed.
const SHORTEST_SECRET: usize = 16;
/// What a rule says where its rooms have no store.
const NO_STORE: &str = "none";
/// The most rules: each is held against the room of a finished recording.
const MOST_RULES: usize = 1000;

pub(super) fn read(root: &ConfigSection<'_>) -> StorageConfig {
    let section = root.section("storage");
    let mut places = StorePlaces::default();
    let mut store = |key| section.field(key).and_then(|field| places.store(&field));
    let (deliver, raw, archive, fail) = (store("deliver"), store("raw"), store("archive"), store("fail"));
    let archive_keep = section.flag("archive_keep", false);
    let keep_local = section.field("keep_local").and_then(|field| keep_local(&field));
    let hooks_secret = section.field("hooks_secret").and_then(|field| hooks_secret(&field));
    let rules = rules(&section, &mut places);
    let delivers = deliver.is_some() || rules.iter().any(|rule| rule.deliver.or(None).is_some());
    if !delivers && let Some(field) = section.field("hooks_secret").or_else(|| section.field("keep_local")) {
        field.warning("does nothing without `storage.deliver`");
    }
    let archives = archive.is_some() || rules.iter().any(|rule| rule.archive.or(None).is_some());
    if !archives && let Some(field) = section.field("archive_keep") {
        field.warning("does nothing without `storage.archive`");
    }
    if let Some(field) = section.field("raw")
        && !root.section("recorder").section("copy_to_path").list("reference_sub_paths").is_empty()
    {
        field.problem(
            "cannot be used together with `recorder.copy_to_path.reference_sub_paths`: reference transcoders take jobs from \
             the same queue, cannot fetch from a store, and fail them",
        );
    }
    let keep_local = keep_local.unwrap_or_default();
    let takeover_after = section.duration("takeover_after", TAKEOVER_AFTER, StorageConfig::default().takeover_after);
    StorageConfig { raw, deliver, keep_local, hooks_secret, fail, rules, archive, archive_keep, takeover_after }
}

fn rules(section: &ConfigSection<'_>, places: &mut StorePlaces) -> Vec<StorageRule> {
    let items = section.list("rules");
    if let Some(field) = items.get(MOST_RULES) {
        field.problem(format!("is one rule too many: {MOST_RULES} are allowed"));
    }
    items.iter().take(MOST_RULES).filter_map(|item| rule(&item.section()?, places)).collect()
}

fn rule(section: &ConfigSection<'_>, places: &mut StorePlaces) -> Option<StorageRule> {
    let room = section.required("room", "a pattern of room ids like acme-* is required").and_then(|field| {
        let text = field.text("a pattern of room ids")?;
        RoomPattern::parse(&text).map_err(|why| field.refuse(&why)).ok()
    });
    let mut store = |key| match section.field(key) {
        None => RuleStore::AsSection,
        Some(field) if field.node.text().is_some_and(|text| text.trim() == NO_STORE) => RuleStore::Off,
        Some(field) => places.store(&field).map_or(RuleStore::AsSection, RuleStore::Url),
    };
    let (deliver, archive) = (store("deliver"), store("archive"));
    let keep_local = section.field("keep_local").and_then(|field| keep_local(&field));
    Some(StorageRule { room: room?, deliver, keep_local, archive })
}

/// The stores so far, with where each is named first. A store is known by its URL without secrets and options: of two that
/// have the same nobody could say which is meant.
#[derive(Default)]
struct StorePlaces(Vec<(StoreUrl, String)>);

impl StorePlaces {
    fn store(&mut self, field: &ConfigField<'_>) -> Option<StoreUrl> {
        let text = field.text("the URL of a store")?;
        let url =
            StoreUrl::parse(&text).map_err(|why| field.problem(format!("is not the URL of a store: {why}"))).ok()?;
        match self.0.iter().find(|(known, _)| known.to_string() == url.to_string()) {
            Some((known, at)) if *known != url => field.problem(format!(
                "names the place of `{at}`, but by another key, endpoint or option; give both the same, or this one \
                 another bucket or prefix"
            )),
            Some(_) => {}
            None => self.0.push((url.clone(), field.path.clone())),
        }
        Some(url)
    }
}

fn keep_local(field: &ConfigField<'_>) -> Option<KeepLocal> {
    match field.node.text().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(KeepLocal::Always),
        "false" | "no" | "off" => Some(KeepLocal::For(Duration::ZERO)),
        _ => {
            let duration = field.duration().filter(|duration| *duration <= KEEP_MAX);
            if duration.is_none() {
                field.refuse(KEEP_ALLOWED);
            }
            duration.map(KeepLocal::For)
        }
    }
}

fn hooks_secret(field: &ConfigField<'_>) -> Option<String> {
    let secret = field.text("a text")?;
    if secret.len() < SHORTEST_SECRET || !secret.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
        field.problem(format!(
            "is shorter than {SHORTEST_SECRET} characters, or has others than letters, digits, - and _, which a URL can \
             hold; take one of `openssl rand -hex 32`"
        ));
        return None;
    }
    Some(secret)
}
