//! One store: what may be done in it. Names of objects are those below its URL. Every request has a deadline.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as ObjectPath;
use object_store::signer::Signer;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
};
use tokio::sync::Semaphore;

use crate::config::store_url::{StoreUrl, check_key};
use crate::store::connect::{self, Backend, StoreTimes};
use crate::store::error::StoreError;

/// Copies into a directory at once.
const COPIES: usize = 2;
/// The most names of a listing that are looked at.
const LISTED: usize = 1000;
/// What a long listing is expected to have at most, in bytes.
const LISTING_BYTES: u64 = 8 << 20;

/// A store; clones share its connections.
#[derive(Clone, Debug)]
pub struct Store {
    url: StoreUrl,
    pub(super) backend: Backend,
    times: StoreTimes,
    /// Copies into a directory at once: one that hangs keeps its thread.
    pub(super) copies: Arc<Semaphore>,
}

/// What a store says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectState {
    pub size: u64,
    /// Without quotes.
    pub etag: Option<String>,
}

impl ObjectState {
    fn of(meta: &ObjectMeta) -> Self {
        Self { size: meta.size, etag: meta.e_tag.as_ref().map(|etag| etag.trim_matches('"').to_owned()) }
    }
}

/// An object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Below the store's URL.
    pub name: String,
    pub size: u64,
    /// By the clock of the store.
    pub modified: SystemTime,
}

impl Store {
    /// Nothing is asked of the store yet.
    ///
    /// # Errors
    /// Where a file that the URL names cannot be read, or something is missing.
    pub fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        Self::open_with(url, StoreTimes::default())
    }

    /// [`Self::open`] with other limits.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(url: &StoreUrl, times: StoreTimes) -> Result<Self, StoreError> {
        Ok(Self {
            url: url.clone(),
            backend: connect::connect(url, times)?,
            times,
            copies: Arc::new(Semaphore::new(COPIES)),
        })
    }

    #[must_use]
    pub fn url(&self) -> &StoreUrl {
        &self.url
    }

    pub(super) fn objects(&self) -> Result<Arc<dyn ObjectStore>, StoreError> {
        Ok(match &self.backend {
            Backend::S3(s3) => Arc::clone(s3) as _,
            Backend::Gcs(gcs) => Arc::clone(gcs) as _,
            Backend::Azure(azure) => Arc::clone(azure) as _,
            Backend::Directory(dir) => {
                // It is never made, as its file system may not be mounted.
                let found = std::fs::read_dir(dir).map(drop);
                found.map_err(StoreError::local(format!("the directory {}", dir.display())))?;
                Arc::new(LocalFileSystem::new_with_prefix(dir)?.with_fsync(true))
            }
        })
    }

    /// What takes a file in parts whose ids outlive this process; `None`: a directory, which needs none.
    pub(super) fn parts(&self) -> Option<&dyn MultipartStore> {
        match &self.backend {
            Backend::S3(s3) => Some(s3.as_ref()),
            Backend::Gcs(gcs) => Some(gcs.as_ref()),
            Backend::Azure(azure) => Some(azure.as_ref()),
            Backend::Directory(_) => None,
        }
    }

    pub(super) fn path(&self, key: &str) -> Result<ObjectPath, StoreError> {
        check_key(key).map_err(|why| StoreError::Setup(format!("the name of the object {why}")))?;
        let key = if self.url.directory().is_some() { key.to_owned() } else { self.url.full_key(key) };
        ObjectPath::parse(key).map_err(|error| StoreError::Setup(format!("the name of the object: {error}")))
    }

    /// After so long without a piece of an answer, the line is given up.
    pub(super) fn stall(&self) -> Duration {
        self.times.stall
    }

    /// The time limit of a request that carries so many bytes.
    pub(super) fn limit(&self, bytes: u64) -> Duration {
        self.times.answer + Duration::from_secs(bytes / self.times.slowest.max(1))
    }

    pub(super) async fn within<T>(
        &self,
        bytes: u64,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        let limit = self.limit(bytes);
        Ok(tokio::time::timeout(limit, work).await.map_err(|_| StoreError::Late(limit))??)
    }

    /// Puts an object, or replaces it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let (objects, path, length) = (self.objects()?, self.path(key)?, bytes.len() as u64);
        self.within(length, objects.put(&path, PutPayload::from(bytes))).await.map(drop)
    }

    /// Puts an object that must not exist yet.
    ///
    /// # Errors
    /// [`StoreError::Exists`] where it does.
    pub async fn put_new(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let (objects, path, length) = (self.objects()?, self.path(key)?, bytes.len() as u64);
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.within(length, objects.put_opts(&path, PutPayload::from(bytes), options)).await.map(drop)
    }

    /// A small object.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let (objects, path) = (self.objects()?, self.path(key)?);
        self.within(0, async { objects.get(&path).await?.bytes().await }).await
    }

    /// An object of this size from its first byte to its last, piece by piece.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn read(&self, key: &str, size: u64, mut take: impl FnMut(Bytes)) -> Result<(), StoreError> {
        let (objects, path) = (self.objects()?, self.path(key)?);
        let read = async {
            let mut pieces = objects.get(&path).await?.into_stream();
            while let Some(piece) = pieces.try_next().await? {
                take(piece);
            }
            Ok(())
        };
        self.within(size, read).await
    }

    /// The pieces of an object from this byte on, and what the store says of it now. `size`: what it is known to have.
    pub(super) async fn pieces(
        &self,
        key: &str,
        at: u64,
        size: u64,
    ) -> Result<(ObjectState, BoxStream<'static, object_store::Result<Bytes>>), StoreError> {
        let (objects, path) = (self.objects()?, self.path(key)?);
        let range = (at > 0).then_some(GetRange::Bounded(at..size));
        let got = self.within(0, objects.get_opts(&path, GetOptions { range, ..GetOptions::default() })).await?;
        Ok((ObjectState::of(&got.meta), got.into_stream()))
    }

    /// What the store says of an object; `None`: there is none.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn head(&self, key: &str) -> Result<Option<ObjectState>, StoreError> {
        let (objects, path) = (self.objects()?, self.path(key)?);
        match self.within(0, objects.head(&path)).await {
            Ok(meta) => Ok(Some(ObjectState::of(&meta))),
            Err(StoreError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let (objects, path) = (self.objects()?, self.path(key)?);
        match self.within(0, objects.delete(&path)).await {
            Err(StoreError::Missing(_)) => Ok(()),
            deleted => deleted,
        }
    }

    /// The names below `dir`, a thousand at most.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn list(&self, dir: &str) -> Result<Vec<String>, StoreError> {
        let (objects, path) = (self.objects()?, self.path(dir)?);
        let listed = async {
            let found = objects.list(Some(&path)).take(LISTED);
            found.map_ok(|meta| meta.location.to_string()).try_collect::<Vec<_>>().await
        };
        let begin = self.listed_prefix();
        let names = self.within(0, listed).await?;
        Ok(names.into_iter().filter_map(|name| name.strip_prefix(&begin).map(str::to_owned)).collect())
    }

    /// All objects below `dir`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn list_objects(&self, dir: &str) -> Result<Vec<ListedObject>, StoreError> {
        let (objects, path) = (self.objects()?, self.path(dir)?);
        let listed = self.within(LISTING_BYTES, objects.list(Some(&path)).try_collect::<Vec<_>>()).await?;
        let begin = self.listed_prefix();
        let object = |meta: object_store::ObjectMeta| {
            let name = meta.location.as_ref().strip_prefix(&begin)?.to_owned();
            Some(ListedObject { name, size: meta.size, modified: meta.last_modified.into() })
        };
        Ok(listed.into_iter().filter_map(object).collect())
    }

    /// What the names of a listing begin with.
    fn listed_prefix(&self) -> String {
        let whole = self.url.directory().is_some() || self.url.prefix.is_empty();
        if whole { String::new() } else { format!("{}/", self.url.prefix) }
    }

    /// A URL by which anybody may get the object until it expires. `None`: a directory has none.
    ///
    /// # Errors
    /// Where the credentials do not allow it.
    pub async fn presigned(&self, key: &str, expires: Duration) -> Result<Option<String>, StoreError> {
        let signer: &dyn Signer = match &self.backend {
            Backend::S3(s3) => s3.as_ref(),
            Backend::Gcs(gcs) => gcs.as_ref(),
            Backend::Azure(azure) => azure.as_ref(),
            Backend::Directory(_) => return Ok(None),
        };
        let url = self.within(0, signer.signed_url(reqwest::Method::GET, &self.path(key)?, expires)).await?;
        Ok(Some(url.into()))
    }

    pub(super) async fn begin_parts(&self, key: &str) -> Result<String, StoreError> {
        let (store, path) = (self.in_parts()?, self.path(key)?);
        self.within(0, store.create_multipart(&path)).await
    }

    /// Sends a part; its id for [`Self::complete_parts`].
    pub(super) async fn put_part(&self, key: &str, id: &str, index: usize, bytes: Bytes) -> Result<String, StoreError> {
        let (store, path, length) = (self.in_parts()?, self.path(key)?, bytes.len() as u64);
        let id = id.to_owned();
        Ok(self.within(length, store.put_part(&path, &id, index, PutPayload::from(bytes))).await?.content_id)
    }

    pub(super) async fn complete_parts(&self, key: &str, id: &str, parts: Vec<String>) -> Result<(), StoreError> {
        let (store, path, id) = (self.in_parts()?, self.path(key)?, id.to_owned());
        let parts = parts.into_iter().map(|content_id| PartId { content_id }).collect();
        self.within(0, store.complete_multipart(&path, &id, parts)).await.map(drop)
    }

    /// Gives an upload up; one that the store does not know is no error.
    pub(super) async fn abort_parts(&self, key: &str, id: &str) -> Result<(), StoreError> {
        let (store, path, id) = (self.in_parts()?, self.path(key)?, id.to_owned());
        match self.within(0, store.abort_multipart(&path, &id)).await {
            Err(StoreError::Missing(_)) => Ok(()),
            aborted => aborted,
        }
    }

    fn in_parts(&self) -> Result<&dyn MultipartStore, StoreError> {
        self.parts().ok_or_else(|| StoreError::Unsupported("a directory takes files whole".to_owned()))
    }
}
