//! The stores of a node's configuration, by their URLs without secrets: so records name them. Each is opened when it is
//! first needed.

use tokio::sync::OnceCell;

use crate::config::StorageConfig;
use crate::config::store_url::StoreUrl;
use crate::store::connect::StoreTimes;
use crate::store::error::StoreError;
use crate::store::handle::Store;

/// All stores that uploads go into.
#[derive(Debug)]
pub(super) struct Stores {
    all: Vec<ConfiguredStore>,
    times: StoreTimes,
}

#[derive(Debug)]
struct ConfiguredStore {
    url: StoreUrl,
    /// MP4s are delivered into it, so that the server may ask for its objects.
    delivers: bool,
    opened: OnceCell<Store>,
}

impl Stores {
    pub fn new(storage: &StorageConfig, times: StoreTimes) -> Self {
        let for_mp4s = storage.delivery_stores();
        let all = storage.upload_stores().into_iter().map(|url| {
            let delivers = for_mp4s.contains(&url);
            ConfiguredStore { url: url.clone(), delivers, opened: OnceCell::new() }
        });
        Self { all: all.collect(), times }
    }

    /// The URL of the store with this name, its URL without secrets.
    pub fn url(&self, name: &str) -> Option<&StoreUrl> {
        self.find(name).map(|store| &store.url)
    }

    /// Where an object is that the server was told of: in which store, and its name there.
    pub fn of_object(&self, object: &str) -> Option<(&StoreUrl, String)> {
        let in_store = |store: &ConfiguredStore| store.url.key_of(object).map(|key| key.len());
        let delivering = self.all.iter().filter(|store| store.delivers);
        // Where one lies in another, the inner one has the credentials for it.
        let store = delivering.filter(|store| in_store(store).is_some()).min_by_key(|store| in_store(store))?;
        Some((&store.url, store.url.key_of(object)?))
    }

    /// The store with this name.
    ///
    /// # Errors
    /// Where it is not configured, or its client cannot be made.
    pub async fn open(&self, name: &str) -> Result<&Store, StoreError> {
        let Some(store) = self.find(name) else {
            return Err(StoreError::Setup(format!("{name} is not configured in storage")));
        };
        let open = async {
            let (url, times) = (store.url.clone(), self.times);
            // Reads certificates.
            tokio::task::spawn_blocking(move || Store::open_with(&url, times)).await.map_err(|_| StoreError::Stopped)?
        };
        store.opened.get_or_try_init(|| open).await
    }

    fn find(&self, name: &str) -> Option<&ConfiguredStore> {
        self.all.iter().find(|store| store.url.to_string() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_belongs_to_the_innermost_store_that_delivers() {
        let url = |text: &str| Some(StoreUrl::parse(text).unwrap());
        let mut storage =
            StorageConfig { deliver: url("s3://a"), fail: url("s3://a/rec/failed"), ..StorageConfig::default() };
        let stores = Stores::new(&storage, StoreTimes::default());
        let of = |stores: &Stores, object: &str| stores.of_object(object).map(|(url, key)| (url.to_string(), key));
        let at = |store: &str, key: &str| Some((store.to_owned(), key.to_owned()));
        // The server was told of no object of the other one.
        assert_eq!(of(&stores, "s3://a/rec/failed/x.mkv"), at("s3://a", "rec/failed/x.mkv"));
        assert_eq!(of(&stores, "s3://b/x.mp4"), None);
        assert!(stores.url("s3://a/rec/failed").is_some() && stores.url("s3://b").is_none());
        storage.deliver = url("s3://a/rec");
        storage.fail = url("s3://a");
        let stores = Stores::new(&storage, StoreTimes::default());
        assert_eq!(of(&stores, "s3://a/rec/r/x.mp4"), at("s3://a/rec", "r/x.mp4"));
        assert_eq!(of(&stores, "s3://a/other/x.mp4"), None);
    }
}
