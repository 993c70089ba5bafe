//! The raw file of a job that lies in the store of `storage.raw`: claimed, fetched, and removed last. A job comes from the
//! wire: only objects below this node's own `storage.raw` are touched, whatever it names.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::codes;
use crate::protocol::ids::RecorderId;
use crate::protocol::job::{Job, Work, object_url};
use crate::store::error::StoreError;
use crate::store::raw_store::RawStore;
use crate::store::record::key_for;
use crate::store::sidecars;
use crate::transcode::claim::ResultClaim;
use crate::transcode::failure::JobFailure;
use crate::transcode::fetched_objects::{self, FetchedObjects};
use crate::transcode::settings::TranscodeSettings;
use crate::transcode::{plan, raw_claim};
use crate::unix_time::unix_ms;

/// A raw file's object once its job is done; its claim goes in any case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneRawObject {
    /// Its URL.
    pub object: String,
    /// It stays: the MP4 may not hold all of it.
    pub keep: bool,
}

/// The raw file of a job.
#[derive(Clone, Debug)]
pub(super) struct RawObject {
    raw_store: RawStore,
    key: String,
    file_name: String,
    node: RecorderId,
}

/// Where a job with such a raw file stands.
#[derive(Debug)]
pub(super) enum RawFetch {
    /// The raw file is in this directory, or was removed, with its MP4 here.
    Here(PathBuf),
    /// Another node has told the server of its MP4.
    Reported(Option<DoneRawObject>),
}

impl RawObject {
    /// `None`: the job names a directory.
    ///
    /// # Errors
    /// Where it names an object that this node must not or cannot fetch.
    pub fn of(job: &Job, settings: &TranscodeSettings) -> Result<Option<Self>, JobFailure> {
        let Work::PostRecording { dir, file_name, .. } = &job.work else { return Ok(None) };
        let Some(url) = object_url(dir) else { return Ok(None) };
        let name = file_name.as_str();
        let own = settings.raw_store.as_ref();
        if let Some((raw_store, key)) = own.and_then(|own| Some((own, own.key_of(url, name)?))) {
            let (raw_store, file_name) = (raw_store.clone(), name.to_owned());
            return Ok(Some(Self { raw_store, key, file_name, node: settings.recorder_id.clone() }));
        }
        let own = own.map_or_else(|| "is not set".to_owned(), |own| format!("is {}", own.url()));
        Err(JobFailure::Outside(format!(
            "the raw file {name} is in {url}, and storage.raw of this node {own}: nothing is fetched from another store; set \
             storage.raw to that of the node that recorded ({}), on every transcoding node, or fetch it with a \
             pre_transcoding hook",
            job.recorder_id
        )))
    }

    /// Its URL.
    pub fn url(&self) -> String {
        self.raw_store.url().object(&self.key)
    }

    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// The result's directory relative to `main_path`: as on the node that recorded.
    pub fn home(&self) -> PathBuf {
        PathBuf::from(self.key.rsplit_once('/').map_or("", |(dir, _)| dir))
    }

    /// What is to be done with it once the job is done.
    pub fn done(&self, keep: bool) -> DoneRawObject {
        DoneRawObject { object: self.url(), keep }
    }

    /// Fetches it with its summary, unless another node has the job. `last`: the job's last delivery.
    pub async fn fetch(&self, objects: FetchedObjects<'_>, last: bool) -> Result<RawFetch, JobFailure> {
        let failed = |error: StoreError| fetched_objects::failure(&self.url(), &error);
        let store = self.raw_store.store().await.map_err(failed)?;
        match raw_claim::look(store, &self.key, &self.node, unix_ms()).await.map_err(failed)? {
            Some(ResultClaim::Reported { node, keep_raw }) => {
                tracing::info!(node, "another node has told the server of this result: acknowledging its job");
                return Ok(RawFetch::Reported(Some(self.done(keep_raw))));
            }
            Some(ResultClaim::Of { node, since }) if !last => {
                let since = since.as_secs();
                return Err(JobFailure::Elsewhere(format!("{node} has claimed its result {since} s ago")));
            }
            _ => {}
        }
        match objects.fetch(store, &self.key, &self.file_name).await {
            Ok(_) => {}
            Err(error @ StoreError::Missing(_)) => return self.without_raw(objects, error).await,
            Err(error) => return Err(failed(error)),
        }
        let summary = sidecars::summary_key(&self.key);
        let name = summary.rsplit('/').next().unwrap_or_default();
        match objects.fetch(store, &summary, name).await {
            Ok(_) | Err(StoreError::Missing(_)) => Ok(RawFetch::Here(objects.dir())),
            Err(error) => Err(failed(error)),
        }
    }

    /// The raw file goes last: where it is gone, its MP4 is somewhere.
    async fn without_raw(&self, objects: FetchedObjects<'_>, error: StoreError) -> Result<RawFetch, JobFailure> {
        let settings = objects.settings;
        let mp4 = self.home().join(plan::mp4_name(objects.recording));
        if tokio::fs::try_exists(settings.main_path.join(&mp4)).await.unwrap_or(false) {
            return Ok(RawFetch::Here(objects.dir()));
        }
        let uploads = settings.uploads.as_ref();
        let delivered = uploads.and_then(|uploads| Some((uploads, uploads.storage().deliver_for(objects.room)?)));
        let Some((uploads, url)) = delivered else {
            return Err(fetched_objects::failure(&self.url(), &error));
        };
        let key = key_for(&mp4.to_string_lossy());
        let found = async { uploads.store(url).await?.head(&key).await };
        match found.await {
            Ok(Some(_)) => {
                tracing::info!(
                    raw = self.url(),
                    mp4 = key,
                    "the raw file is gone, and storage.deliver has its MP4: another node has done this job"
                );
                Ok(RawFetch::Reported(None))
            }
            Ok(None) => Err(fetched_objects::failure(&self.url(), &error)),
            Err(error) => Err(fetched_objects::failure(&key, &error)),
        }
    }

    /// Claims the result for this node. `Some`: another one has told the server of it.
    pub async fn claim(&self, last: bool) -> Result<Option<DoneRawObject>, JobFailure> {
        let taken = async { raw_claim::take(self.raw_store.store().await?, &self.key, &self.node, unix_ms()).await };
        let taken = taken.await.map_err(|error| {
            JobFailure::Outside(format!("the claim of {} cannot be made: {error}; {}", self.url(), error.remedy()))
        })?;
        match taken {
            ResultClaim::Ours => Ok(None),
            ResultClaim::Reported { keep_raw, .. } => Ok(Some(self.done(keep_raw))),
            ResultClaim::Of { node, since } if !last => {
                let since = since.as_secs();
                Err(JobFailure::Elsewhere(format!("{node} has claimed its result {since} s ago")))
            }
            // Reporting twice is better than never.
            ResultClaim::Of { node, .. } => {
                tracing::warn!(
                    code = %codes::CLAIM_LOST, node,
                    "another node has taken the result on; telling the server all the same"
                );
                Ok(None)
            }
        }
    }

    /// Gives the claim back after a failure, where it is this node's.
    pub async fn release(&self) {
        let release = async {
            let store = self.raw_store.store().await?;
            match raw_claim::look(store, &self.key, &self.node, unix_ms()).await? {
                Some(ResultClaim::Ours) => raw_claim::release(store, &self.key).await,
                _ => Ok(()),
            }
        };
        if let Err(error) = release.await {
            tracing::warn!(
                code = %codes::CLAIM_NOT_REMOVED, claim = raw_claim::key(&self.url()), %error,
                "the claim of the result cannot be removed; it is void after 10 min"
            );
        }
    }
}

/// Removes what a job that is acknowledged has in the store: the raw file, then the claim.
///
/// # Errors
/// Where the store fails.
pub(super) async fn remove(raw_store: Option<&RawStore>, done: &DoneRawObject) -> Result<(), StoreError> {
    let Some((raw_store, key)) = find(raw_store, done) else {
        tracing::warn!(
            code = %codes::RAW_OBJECT_LEFT, object = done.object,
            "the job is done, but its raw file is in a store that storage.raw does not name any more: remove it by hand"
        );
        return Ok(());
    };
    if !done.keep {
        raw_store.remove(&key).await?;
        tracing::debug!(object = done.object, "raw file removed from the store");
    }
    raw_claim::release(raw_store.store().await?, &key).await
}

/// Notes in the claim that the server has what it is told.
///
/// # Errors
/// Where the store fails.
pub(super) async fn mark_reported(
    raw_store: Option<&RawStore>,
    done: &DoneRawObject,
    node: &RecorderId,
) -> Result<(), StoreError> {
    let Some((raw_store, key)) = find(raw_store, done) else { return Ok(()) };
    raw_claim::mark_reported(raw_store.store().await?, &key, node, done.keep, unix_ms()).await
}

fn find<'a>(raw_store: Option<&'a RawStore>, done: &DoneRawObject) -> Option<(&'a RawStore, String)> {
    let raw_store = raw_store?;
    Some((raw_store, raw_store.url().key_of(&done.object)?))
}
