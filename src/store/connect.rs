//! From a store's URL to the crate's client for it, with the credentials of the URL, of its file, of the environment or of
//! the instance's role, in this order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::{BackoffConfig, RetryConfig};
use url::Url;

use crate::config::store_url::{StorePlace, StoreUrl};
use crate::store::error::StoreError;
use crate::store::http_client::StoreConnector;
use crate::store::shared_credentials::SharedCredentials;

/// Where Amazon's and Google's stores are, as far as only TLS and proxies are concerned.
const AMAZON: &str = "https://s3.amazonaws.com";
const GOOGLE: &str = "https://storage.googleapis.com";
const MICROSOFT: &str = "https://blob.core.windows.net";
/// What a store answers with 5xx, or not at all, is asked again so often; then the whole step is.
const REQUEST_RETRIES: usize = 2;
/// The longest credential file of an Azure account.
const KEY_LIMIT: usize = 4096;

/// The client of a store.
#[derive(Clone, Debug)]
pub(super) enum Backend {
    S3(Arc<AmazonS3>),
    Gcs(Arc<GoogleCloudStorage>),
    Azure(Arc<MicrosoftAzure>),
    Directory(PathBuf),
}

/// Limits of a store's connections.
#[derive(Clone, Copy, Debug)]
pub struct StoreTimes {
    /// After so long without a byte taken, a connection is given up.
    pub stall: Duration,
    /// Time limit of a request that carries no media.
    pub answer: Duration,
    /// The slowest line that still delivers, in bytes per second and part.
    pub slowest: u64,
}

impl Default for StoreTimes {
    fn default() -> Self {
        Self { stall: Duration::from_secs(30), answer: Duration::from_secs(60), slowest: 16 << 10 }
    }
}

/// Makes the client; nothing is asked of the store yet.
///
/// # Errors
/// Where a file of the URL cannot be read, or something is missing.
pub(super) fn connect(url: &StoreUrl, times: StoreTimes) -> Result<Backend, StoreError> {
    match &url.place {
        StorePlace::S3 { bucket, region, path_style } => {
            s3(url, bucket, region.as_deref(), *path_style, times).map(|s3| Backend::S3(Arc::new(s3)))
        }
        StorePlace::Gcs { bucket } => gcs(url, bucket, times).map(|gcs| Backend::Gcs(Arc::new(gcs))),
        StorePlace::Azure { container, account } => {
            azure(url, container, account.as_deref(), times).map(|azure| Backend::Azure(Arc::new(azure)))
        }
        StorePlace::Directory(dir) => Ok(Backend::Directory(dir.clone())),
    }
}

fn retry() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(200),
        max_backoff: Duration::from_secs(5),
        ..BackoffConfig::default()
    };
    RetryConfig { backoff, max_retries: REQUEST_RETRIES, retry_timeout: Duration::from_secs(60) }
}

fn connector(url: &StoreUrl, endpoint: &str, times: StoreTimes) -> Result<StoreConnector, StoreError> {
    let endpoint = Url::parse(endpoint).map_err(|error| StoreError::Setup(format!("its endpoint: {error}")))?;
    Ok(StoreConnector { endpoint, ca: url.ca.clone(), stall: times.stall })
}

fn s3(
    url: &StoreUrl,
    bucket: &str,
    region: Option<&str>,
    path_style: Option<bool>,
    times: StoreTimes,
) -> Result<AmazonS3, StoreError> {
    let env = AmazonS3Builder::from_env();
    let of_env = |key| env.get_config_value(&key).filter(|value| !value.is_empty());
    let named = url.endpoint.clone();
    let endpoint =
        named.or_else(|| of_env(AmazonS3ConfigKey::S3Endpoint)).or_else(|| of_env(AmazonS3ConfigKey::Endpoint));
    let region = region.map(str::to_owned).or_else(|| of_env(AmazonS3ConfigKey::Region));
    let region = region.or_else(|| of_env(AmazonS3ConfigKey::DefaultRegion));
    let mut builder = match (&url.key, &url.credentials) {
        // What the environment says of other credentials would be mixed in.
        (Some(key), _) => AmazonS3Builder::new().with_access_key_id(&key.id).with_secret_access_key(&key.secret),
        (None, Some(file)) => AmazonS3Builder::new().with_credentials(Arc::new(SharedCredentials::new(file))),
        (None, None) => env,
    };
    // A dot in the bucket's name would not fit the certificate of `*.s3.amazonaws.com`.
    let path_style = path_style.unwrap_or(endpoint.is_some() || bucket.contains('.'));
    if let Some(endpoint) = &endpoint {
        let at = if path_style { endpoint.clone() } else { endpoint.replacen("://", &format!("://{bucket}."), 1) };
        // It is looked for before the other one, which an environment may have set.
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, at);
    }
    if let Some(region) = region {
        builder = builder.with_region(region);
    }
    let is_plain = endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let built = builder
        .with_bucket_name(bucket)
        .with_virtual_hosted_style_request(!path_style)
        .with_allow_http(is_plain)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_retry(retry())
        .with_http_connector(connector(url, endpoint.as_deref().unwrap_or(AMAZON), times)?)
        .build();
    built.map_err(setup)
}

fn gcs(url: &StoreUrl, bucket: &str, times: StoreTimes) -> Result<GoogleCloudStorage, StoreError> {
    let mut builder = match &url.credentials {
        Some(file) => GoogleCloudStorageBuilder::new().with_service_account_path(text_of(file)?),
        None => GoogleCloudStorageBuilder::from_env(),
    };
    if let Some(endpoint) = &url.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    let endpoint = url.endpoint.as_deref().unwrap_or(GOOGLE);
    let builder = builder.with_bucket_name(bucket).with_retry(retry());
    builder.with_http_connector(connector(url, endpoint, times)?).build().map_err(setup)
}

fn azure(
    url: &StoreUrl,
    container: &str,
    account: Option<&str>,
    times: StoreTimes,
) -> Result<MicrosoftAzure, StoreError> {
    let mut builder = MicrosoftAzureBuilder::from_env();
    if let Some(account) = account {
        builder = builder.with_config(AzureConfigKey::AccountName, account);
    }
    if let Some(file) = &url.credentials {
        let key =
            std::fs::read_to_string(file).map_err(StoreError::local(format!("credentials={}", file.display())))?;
        if key.len() > KEY_LIMIT {
            return Err(StoreError::Setup(format!("credentials={}: it holds more than a key", file.display())));
        }
        builder = builder.with_access_key(key.trim());
    }
    let endpoint = url.endpoint.as_deref().unwrap_or(MICROSOFT);
    if let Some(endpoint) = &url.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    let builder = builder.with_container_name(container).with_allow_http(endpoint.starts_with("http://"));
    builder.with_retry(retry()).with_http_connector(connector(url, endpoint, times)?).build().map_err(setup)
}

fn text_of(path: &Path) -> Result<String, StoreError> {
    path.to_str().map(str::to_owned).ok_or_else(|| StoreError::Setup("credentials= is no UTF-8".to_owned()))
}

fn setup(error: object_store::Error) -> StoreError {
    match StoreError::from(error) {
        StoreError::Other(why) | StoreError::Missing(why) | StoreError::Denied(why) | StoreError::Unsupported(why) => {
            StoreError::Setup(why)
        }
        error => error,
    }
}
