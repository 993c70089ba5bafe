//! `store check` and `store drop`: what the object stores can do, and a recording that is delivered no more.

use std::io::Write;

use serde_json::{Value, json};

use crate::admin::error::AdminError;
use crate::admin::list::scrub;
use crate::admin::output::print;
use crate::admin::state_dir::StateDir;
use crate::cli::ListFormat;
use crate::codes;
use crate::config::Config;
use crate::config::store_url::StoreUrl;
use crate::protocol::ids::RecordingId;
use crate::storage::drop_request;
use crate::store::handle::Store;
use crate::store::probe::{self, ProbeResult, ProbeStep};
use crate::store::record;
use crate::telemetry::redact;

/// Column of the text behind the name of a step.
const TEXT_COLUMN: usize = 18;

/// Tries the store of this URL, else all of the configuration; returns whether they can do what delivery needs.
///
/// # Errors
/// Where there is no store to try, or writing to `out` fails.
pub fn check(
    config: &Config,
    url: Option<&str>,
    format: &ListFormat,
    out: &mut (dyn Write + Send),
) -> Result<bool, AdminError> {
    let _secrets: Vec<_> = config.secrets().into_iter().map(redact::register).collect();
    let stores = config.storage.upload_stores().into_iter().chain(&config.storage.raw);
    let mut configured: Vec<StoreUrl> = stores.chain(&config.storage.archive).cloned().collect();
    configured.dedup();
    let urls = match url {
        Some(url) => vec![StoreUrl::parse(url).map_err(AdminError::NoStore)?],
        None if configured.is_empty() => {
            let why = "storage.deliver is not set; set it, or give the URL of a store";
            return Err(AdminError::NoStore(why.to_owned()));
        }
        None => configured.clone(),
    };
    if urls.iter().any(|url| url.key.is_some() && !configured.contains(url)) {
        let why = "other users of this host see a key that is given here: leave it out, and set AWS_ACCESS_KEY_ID and \
                   AWS_SECRET_ACCESS_KEY, or credentials=/file";
        return Err(AdminError::NoStore(why.to_owned()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| AdminError::Start(error.to_string()))?;
    let mut stores = Vec::new();
    for url in &urls {
        let results = match Store::open(url) {
            Ok(store) => runtime.block_on(probe::probe(&store)),
            Err(error) => vec![ProbeResult { step: ProbeStep::Open, result: Err(error) }],
        };
        if !format.json {
            print(out, &text(url, &results))?;
        }
        stores.push((url, results));
    }
    let ready = stores.iter().all(|(_, results)| is_ready(results));
    if format.json {
        let stores: Vec<Value> = stores.iter().map(|(url, results)| json(url, results)).collect();
        let mut told = json!({"ready": ready, "stores": stores});
        scrub(&mut told);
        print(out, &format!("{told:#}\n"))?;
    }
    Ok(ready)
}

fn is_ready(results: &[ProbeResult]) -> bool {
    results.iter().all(|found| found.result.is_ok() || !found.step.is_needed())
}

fn json(url: &StoreUrl, results: &[ProbeResult]) -> Value {
    let steps = results.iter().map(|found| {
        let (works, needed) = (found.result.is_ok(), found.step.is_needed());
        json!({"step": found.step.name(), "works": works, "needed": needed, "says": found.text()})
    });
    json!({"store": url.to_string(), "ready": is_ready(results), "steps": steps.collect::<Vec<_>>()})
}

fn text(url: &StoreUrl, results: &[ProbeResult]) -> String {
    let mut text = format!("{url}\n");
    for found in results {
        let (sign, code) = match (&found.result, found.step.is_needed()) {
            (Ok(_), _) => ('✓', String::new()),
            (Err(_), false) => ('!', String::new()),
            (Err(_), true) => ('✗', format!(" [{}]", codes::STORE_NOT_READY)),
        };
        let line = format!("{sign} {:TEXT_COLUMN$}{}{code}\n", found.step.name(), found.text());
        text.push_str(&redact::scrub(&line));
    }
    text
}

/// Asks the daemon, now or at its next start, to deliver a recording no more.
///
/// # Errors
/// Where it is not on its way, or the disk fails.
pub fn forget(state: &StateDir, id: &RecordingId) -> Result<String, AdminError> {
    let path = state.dir.join(record::DIR).join(format!("{id}.json"));
    let uploads = state.uploads()?;
    let is_of = |name: &str| name == id.as_str() || name.strip_suffix(record::RAW_SUFFIX) == Some(id.as_str());
    if !uploads.iter().any(|upload| is_of(&upload.id)) {
        return Err(AdminError::NoUpload { id: id.clone(), path });
    }
    let at = drop_request::path(&state.dir, drop_request::UPLOADS, id);
    drop_request::write(&state.dir, drop_request::UPLOADS, id).map_err(|source| AdminError::UploadDisk {
        id: id.clone(),
        path: at,
        source,
    })?;
    let when = match &state.daemon {
        Some(holder) => format!("once the recorder ({holder}) has looked, which it does every 5 s"),
        None => format!("when the recorder {} is started", state.recorder),
    };
    Ok(format!("{id} is delivered no more, {when}; what was on its way stays in main_path\n"))
}
