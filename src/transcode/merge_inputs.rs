//! Where the files of a merge are: in `main_path`, fetched by a hook, or in the store of `storage.deliver`. Paths of a merge
//! are what `RECORDING_PROCEEDED` told (PROTOCOL 6), so they may be URLs of objects.

use std::path::{Path, PathBuf};

use crate::config::store_url::StoreUrl;
use crate::protocol::job::object_url;
use crate::store::record::key_for;
use crate::transcode::failure::JobFailure;
use crate::transcode::fetched_objects::{self, FetchedObjects};
use crate::transcode::input_files::{self, MediaRoot};

/// A file that is to be merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MergeInput {
    /// A path relative to `main_path`.
    Local(PathBuf),
    Fetched {
        /// Where it would be in `main_path`.
        place: PathBuf,
        /// Where it is.
        at: PathBuf,
    },
}

impl MergeInput {
    /// Where it is in `main_path`, or would be.
    #[must_use]
    pub fn place(&self) -> &Path {
        match self {
            Self::Local(place) | Self::Fetched { place, .. } => place,
        }
    }
}

/// The inputs of a merge. `by_hook`: the directory to which a hook has fetched them; `home`: this node's own directory for
/// the room, where a hook has fetched an object of a store that this node does not know.
pub(super) async fn find(
    paths: &[PathBuf],
    by_hook: Option<&Path>,
    home: &Path,
    objects: FetchedObjects<'_>,
) -> Result<Vec<MergeInput>, JobFailure> {
    let uploads = objects.settings.uploads.as_ref();
    let url = uploads.and_then(|uploads| uploads.storage().deliver_for(objects.room));
    let of_object = |path: &Path| uploads.zip(object_url(path)).and_then(|(uploads, object)| uploads.of_object(object));
    let mut inputs = Vec::with_capacity(paths.len());
    for (index, path) in paths.iter().enumerate() {
        let name = path.file_name().unwrap_or_default();
        if let Some(dir) = by_hook {
            let place = match object_url(path) {
                None => path.clone(),
                Some(_) => of_object(path).map_or_else(|| home.join(name), |(_, key)| PathBuf::from(key)),
            };
            inputs.push(MergeInput::Fetched { place, at: dir.join(name) });
            continue;
        }
        let (place, store, key) = match object_url(path) {
            // A node that keeps its MP4s for itself may have delivered it.
            None => (path.clone(), url, key_for(&path.to_string_lossy())),
            Some(object) => match of_object(path) {
                Some((store, key)) => (PathBuf::from(&key), Some(store), key),
                None => return Err(JobFailure::Cause(foreign(object, url.map(ToString::to_string).as_deref()))),
            },
        };
        if is_in_main_path(&objects, &place).await? || (object_url(path).is_none() && url.is_none()) {
            inputs.push(MergeInput::Local(place));
            continue;
        }
        match fetch(objects, store, &key, &format!("{index}.mp4")).await {
            Ok(at) => inputs.push(MergeInput::Fetched { place, at }),
            // It is named with all others that are missing.
            Err(JobFailure::Cause(_)) if object_url(path).is_none() => inputs.push(MergeInput::Local(place)),
            Err(failure) => return Err(failure),
        }
    }
    Ok(inputs)
}

fn foreign(object: &str, own: Option<&str>) -> String {
    let own = own.map_or_else(|| "is not set".to_owned(), |own| format!("is {own}"));
    format!(
        "cannot be merged: {object} is in a store that this node does not know, as its storage.deliver {own}; set it to the \
         store that has the recording, on every transcoding node, or fetch it with a pre_transcoding hook"
    )
}

/// Whether a local copy is there, which is as good, and nearer. One that may not be read is an error later.
async fn is_in_main_path(objects: &FetchedObjects<'_>, place: &Path) -> Result<bool, JobFailure> {
    let (main_path, place) = (objects.settings.main_path.clone(), place.to_owned());
    let look = move || {
        let root = MediaRoot::open(&main_path)?;
        Ok(!matches!(input_files::file(&root, &root.path.join(place)), Ok(None)))
    };
    let looked = objects.cancel.run_until_cancelled(crate::storage::files::on_disk(look)).await;
    looked.ok_or(JobFailure::Stopped)?.map_err(JobFailure::of)
}

async fn fetch(
    objects: FetchedObjects<'_>,
    url: Option<&StoreUrl>,
    key: &str,
    name: &str,
) -> Result<PathBuf, JobFailure> {
    let (Some(uploads), Some(url)) = (&objects.settings.uploads, url) else {
        return Err(JobFailure::Cause(format!("{key} is in no store")));
    };
    let work = async {
        let store = uploads.store(url).await?;
        objects.fetch(store, key, name).await
    };
    work.await.map_err(|error| fetched_objects::failure(&url.object(key), &error))
}
