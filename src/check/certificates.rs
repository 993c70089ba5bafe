//! The certificates that are to be trusted besides the host's.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::capture::browser::trusted_roots;
use crate::check::report::Finding;
use crate::config::Config;
use crate::process::programs::find_program;
use crate::storage::detached;
use crate::tls::ca_file;

const NAME: &str = "certificates";
/// The file may be on a share.
const LIMIT: Duration = Duration::from_secs(5);

/// The line `certificates`.
pub async fn check(config: &Config) -> Finding {
    let config = config.clone();
    match tokio::time::timeout(LIMIT, detached::start("check-certs", move || look(&config))).await {
        Ok(Ok(finding)) => finding,
        Ok(Err(_)) => Finding::fault(NAME, "no thread could be started to look at them"),
        Err(_) => Finding::fault(NAME, format!("their disk does not answer within {} s", LIMIT.as_secs())),
    }
}

fn look(config: &Config) -> Finding {
    let server = &config.server;
    let mut expired = Vec::new();
    if let Some(path) = &server.ca_file {
        match ca_file::check(path, SystemTime::now()) {
            Ok(found) => expired = found,
            Err(error) => return Finding::fault(NAME, error.to_string()),
        }
    }
    let own = trusted_roots::certificates(server).map_or(0, |found| found.len());
    let (program, package) = trusted_roots::PROGRAM;
    if config.recorder.mode.records() && own > 0 && find_program(Path::new(program)).is_none() {
        let text = format!("{program} is missing, by which Chrome learns of them: apt-get install {package}");
        // What was added to the host may be unrelated to the meeting page.
        return if server.ca_file.is_some() { Finding::fault(NAME, text) } else { Finding::warning(NAME, text) };
    }
    if let Some(on) = expired.first() {
        return Finding::warning(
            NAME,
            format!("plugNmeet_info.ca_file: a certificate in it has expired on {on}: renew it"),
        );
    }
    let text =
        if own == 0 { "none besides the usual ones".to_owned() } else { format!("{own} besides the usual ones") };
    Finding::ok(NAME, text)
}
