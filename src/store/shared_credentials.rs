//! Credentials of S3 in a file, in the form of `~/.aws/credentials`. The file is read again when it was changed, and every
//! minute, so that they may be renewed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::future::BoxFuture;
use object_store::aws::AwsCredential;
use object_store::client::CredentialProvider;
use tokio::sync::Mutex;

use crate::storage::files;
use crate::telemetry::redact::{self, SecretRegistration};

const RENEWAL: Duration = Duration::from_secs(60);
/// Time limit for reading the file.
const FILE_LIMIT: Duration = Duration::from_secs(5);
/// Which of the file's sections is taken, unless `AWS_PROFILE` says otherwise.
const DEFAULT_PROFILE: &str = "default";

/// The credentials of a file.
pub(super) struct SharedCredentials {
    path: PathBuf,
    last: Mutex<Option<KnownCredential>>,
}

struct KnownCredential {
    read_at: Instant,
    /// When the file was changed last.
    changed_at: Option<SystemTime>,
    credential: Arc<AwsCredential>,
    _secrets: Vec<SecretRegistration>,
}

impl fmt::Debug for SharedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedCredentials").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SharedCredentials {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), last: Mutex::default() }
    }

    async fn credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut last = self.last.lock().await;
        let path = self.path.clone();
        let changed = files::on_disk_within(FILE_LIMIT, move || std::fs::metadata(path)?.modified()).await;
        // Where the disk does not say, what is known is as good.
        let changed_at = changed.ok().or(last.as_ref().and_then(|known| known.changed_at));
        let is_fresh = |known: &&KnownCredential| known.read_at.elapsed() < RENEWAL && known.changed_at == changed_at;
        if let Some(known) = last.as_ref().filter(is_fresh) {
            return Ok(Arc::clone(&known.credential));
        }
        let path = self.path.clone();
        let text = files::on_disk_within(FILE_LIMIT, move || std::fs::read_to_string(path)).await;
        let profile = std::env::var("AWS_PROFILE").unwrap_or_else(|_| DEFAULT_PROFILE.to_owned());
        let credential = match text.map_err(|error| error.to_string()).and_then(|text| parse(&text, &profile)) {
            Ok(credential) => credential,
            Err(why) => {
                let source = format!("credentials={}: {why}", self.path.display()).into();
                return Err(object_store::Error::Unauthenticated { path: String::new(), source });
            }
        };
        let secrets = [Some(&credential.key_id), Some(&credential.secret_key), credential.token.as_ref()];
        let secrets = secrets.into_iter().flatten().map(|secret| redact::register(secret)).collect();
        let credential = Arc::new(credential);
        let known = KnownCredential {
            read_at: Instant::now(),
            changed_at,
            credential: Arc::clone(&credential),
            _secrets: secrets,
        };
        *last = Some(known);
        Ok(credential)
    }
}

impl CredentialProvider for SharedCredentials {
    type Credential = AwsCredential;

    fn get_credential<'a, 'b>(&'a self) -> BoxFuture<'b, object_store::Result<Arc<AwsCredential>>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.credential())
    }
}

/// The credential of a section. No error quotes the file.
fn parse(text: &str, profile: &str) -> Result<AwsCredential, String> {
    let (mut inside, mut id, mut secret, mut token) = (false, None, None, None);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[') {
            inside = name.trim_end_matches(']').trim() == profile;
        } else if let (true, Some((name, value))) = (inside, line.split_once('=')) {
            let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match name.trim() {
                "aws_access_key_id" => id = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    match (id, secret) {
        (Some(key_id), Some(secret_key)) => Ok(AwsCredential { key_id, secret_key, token }),
        _ => Err(format!("there is no aws_access_key_id with aws_secret_access_key under [{profile}]")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_of_the_profile_is_taken() {
        let text =
            "# mine\n[other]\naws_access_key_id = a\n[default]\naws_access_key_id=KEY\n aws_secret_access_key = s=e \n";
        let credential = parse(text, "default").unwrap();
        assert_eq!(
            (credential.key_id.as_str(), credential.secret_key.as_str(), credential.token),
            ("KEY", "s=e", None)
        );
        for profile in ["other", "none"] {
            assert!(parse(text, profile).unwrap_err().contains(profile));
        }
    }
}
