//! A file that is made for players into a store: with the headers by which browsers and caches know what it is and how long
//! to keep it, and only its size confirmed. It can be made again: a recording's only copy goes by way of `upload`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::{
    Attribute, Attributes, ObjectStore as _, PutMultipartOptions, PutOptions, PutPayload,
    multipart::MultipartStore as _,
};
use tokio_util::sync::CancellationToken;

use crate::storage::files;
use crate::store::connect::Backend;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::part_plan::PartPlan;
use crate::store::transfer::Source;
use crate::store::{local_copy, stray_uploads, upload};

/// Parts of a file on the line at once.
const AT_ONCE: usize = 2;

/// The headers with which a store serves an object. A directory has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectHeaders {
    pub content_type: &'static str,
    pub cache_control: &'static str,
}

impl ObjectHeaders {
    fn attributes(self) -> Attributes {
        let pairs = [(Attribute::ContentType, self.content_type), (Attribute::CacheControl, self.cache_control)];
        Attributes::from_iter(pairs)
    }
}

impl Store {
    /// Puts a small object with these headers, or replaces it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn put_with(&self, key: &str, bytes: Bytes, headers: ObjectHeaders) -> Result<(), StoreError> {
        if self.url().directory().is_some() {
            return self.put(key, bytes).await;
        }
        let (objects, path, length) = (self.objects()?, self.path(key)?, bytes.len() as u64);
        let options = PutOptions { attributes: headers.attributes(), ..PutOptions::default() };
        self.within(length, objects.put_opts(&path, PutPayload::from(bytes), options)).await.map(drop)
    }

    /// Puts a file with these headers. Where the store has an object of this name and size, that is taken for it: the name
    /// must be another one for other content.
    ///
    /// # Errors
    /// See [`StoreError`]; the store holds nothing of it then, or less than would be an object.
    pub async fn put_file(
        &self,
        key: &str,
        file: &Path,
        headers: ObjectHeaders,
        cancel: &CancellationToken,
    ) -> Result<(), StoreError> {
        let source = Source::look(file).await?;
        if self.head(key).await?.is_some_and(|found| found.size == source.size) {
            return Ok(());
        }
        let work = async {
            if let Some(root) = self.url().directory() {
                return self.copy_file(&source, root, key, cancel).await;
            }
            if PartPlan::of(source.size).is_single() {
                let (bytes, _) = source.read(0, source.size).await?;
                return self.put_with(key, bytes, headers).await;
            }
            self.put_file_in_parts(key, &source, headers).await
        };
        cancel.run_until_cancelled(work).await.unwrap_or(Err(StoreError::Stopped))?;
        match self.head(key).await? {
            Some(found) if found.size == source.size => Ok(()),
            Some(found) => Err(StoreError::Mismatch(format!("{} bytes instead of {}", found.size, source.size))),
            None => Err(StoreError::Mismatch("it is not there".to_owned())),
        }
    }

    async fn copy_file(
        &self,
        source: &Source,
        root: &Path,
        key: &str,
        cancel: &CancellationToken,
    ) -> Result<(), StoreError> {
        let limit = self.limit(2 * source.size);
        let what = format!("copying {} to {}", source.path.display(), self.url());
        let (from, root, key, cancel) = (source.path.clone(), root.to_owned(), key.to_owned(), cancel.child_token());
        let _given_up = cancel.clone().drop_guard();
        let permit = Arc::clone(&self.copies).acquire_owned().await.map_err(|_| StoreError::Stopped)?;
        let copy = files::on_disk(move || {
            let copied = local_copy::copy(&from, &root, &key, &cancel);
            drop(permit);
            copied
        });
        let ended = tokio::time::timeout(limit, copy).await.map_err(|_| StoreError::Late(limit))?;
        ended.map(drop).map_err(StoreError::local(what))
    }

    async fn put_file_in_parts(&self, key: &str, source: &Source, headers: ObjectHeaders) -> Result<(), StoreError> {
        // Those of an attempt that was killed.
        if let Err(error) = stray_uploads::abort(self, key, None).await {
            upload::warn_of_strays(key, &error);
        }
        let id = self.begin_parts_with(key, headers).await?;
        let plan = PartPlan::of(source.size);
        let send = |index: usize| {
            let id = &id;
            async move {
                let (at, length) = plan.part(index);
                let (bytes, _) = source.read(at, length).await?;
                self.put_part(key, id, index, bytes).await
            }
        };
        let parts = futures::stream::iter((0..plan.count()).map(send)).buffered(AT_ONCE);
        let put = async { self.complete_parts(key, &id, parts.try_collect().await?).await };
        let ended = put.await;
        if ended.is_err()
            && let Err(error) = self.abort_parts(key, &id).await
        {
            upload::warn_of_strays(key, &error);
        }
        ended
    }

    async fn begin_parts_with(&self, key: &str, headers: ObjectHeaders) -> Result<String, StoreError> {
        let path = self.path(key)?;
        let options = PutMultipartOptions { attributes: headers.attributes(), ..PutMultipartOptions::default() };
        match &self.backend {
            Backend::S3(s3) => self.within(0, s3.create_multipart_opts(&path, options)).await,
            Backend::Gcs(gcs) => self.within(0, gcs.create_multipart_opts(&path, options)).await,
            Backend::Azure(azure) => self.within(0, azure.create_multipart_opts(&path, options)).await,
            Backend::Directory(_) => Err(StoreError::Unsupported("a directory takes files whole".to_owned())),
        }
    }

    /// Removes all objects below `dir` but those with these names, `first` before the others; of a directory also its own,
    /// where nothing is left in it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delete_below(&self, dir: &str, first: &str, keep: &[String]) -> Result<(), StoreError> {
        let prefix = format!("{dir}/");
        let mut names: Vec<_> = self.list_objects(dir).await?.into_iter().map(|object| object.name).collect();
        names.retain(|name| name.strip_prefix(&prefix).is_some_and(|name| !keep.iter().any(|kept| kept == name)));
        names.sort_by_key(|name| name.strip_prefix(&prefix) != Some(first));
        for name in &names {
            self.delete(name).await?;
        }
        if let Some(root) = self.url().directory().filter(|_| keep.is_empty()) {
            let own = root.join(dir);
            // A directory that is not empty stays.
            let remove = move || {
                let above = own.parent().map(Path::to_owned);
                for dir in std::iter::once(own).chain(above) {
                    match std::fs::remove_dir(&dir) {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(_) => break,
                        Ok(()) => {}
                    }
                }
                Ok(())
            };
            let _ = files::on_disk(remove).await;
        }
        Ok(())
    }
}
