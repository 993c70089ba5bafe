//! The real program, as an operator runs it: a configuration file, a process, a log, and SIGTERM at the end.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::measure::cost::Meter;
use crate::standin::Standin;
use crate::standin::child::Child;

/// Lines of the log that are shown when something has failed.
const TAIL: usize = 40;
/// What the daemon may take to end by itself.
const GRACE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a node is configured with besides what every one needs.
pub struct NodeOptions {
    pub max_limit: u32,
    /// `ffmpeg_settings.one_pass`.
    pub one_pass: bool,
    /// The port of `admin.listen` on 127.0.0.1; 0: it does not listen.
    pub admin_port: u16,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self { max_limit: 2, one_pass: true, admin_port: 0 }
    }
}

pub struct Daemon {
    process: Child,
    log: PathBuf,
    /// For what it has started; from its first breath on.
    pub meter: Meter,
}

impl Daemon {
    /// Starts the binary that was built beside this example.
    pub fn start(standin: &Standin, id: &str, main_path: &Path, options: &NodeOptions) -> anyhow::Result<Self> {
        let here = std::env::current_exe()?;
        let binary =
            here.ancestors().nth(2).context("this example lies in no target directory")?.join("plugnmeet-recorder");
        ensure!(binary.exists(), "{} is not there: build it with `cargo build`, or use `make demo`", binary.display());

        std::fs::create_dir_all(main_path)?;
        let config = standin.dir().join("config.yaml");
        std::fs::write(&config, configuration(standin, id, main_path, options))?;
        let log = standin.dir().join("recorder.log");
        let written = std::fs::File::create(&log)?;
        let process = Child::spawn("the recorder", binary.to_str().context("its path is no text")?, |command| {
            command.arg("--config").arg(&config).current_dir(standin.dir());
            // What it would leave behind if it were killed goes away with the stand-in.
            command.env("TMPDIR", standin.dir());
            command.stdin(Stdio::null()).stdout(written.try_clone().expect("a file can be duplicated")).stderr(written);
        })?;
        let meter = Meter::start(process.id());
        Ok(Self { process, log, meter })
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits for something that the daemon does, and fails at once if it ends instead.
    pub async fn during<T>(&mut self, what: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::pin!(what);
        loop {
            tokio::select! {
                done = &mut what => return done,
                () = tokio::time::sleep(LOOK_EVERY) => {
                    if let Some(status) = self.process.ended()? {
                        bail!("the recorder has ended by itself: {status}");
                    }
                }
            }
        }
    }

    /// SIGTERM. Fails if it does not end well, or leaves a process behind.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.meter.read();
        let status = self.process.stop(GRACE)?;
        let left = self.meter.kill_survivors();
        ensure!(status.success(), "on SIGTERM the recorder ended with {status}");
        ensure!(left.is_empty(), "the recorder left running: {}", left.join(", "));
        Ok(())
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How often its log says this.
    pub fn count(&self, words: &str) -> usize {
        self.log().matches(words).count()
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

fn configuration(standin: &Standin, id: &str, main_path: &Path, options: &NodeOptions) -> String {
    let deployment = &standin.deployment;
    let NodeOptions { max_limit, one_pass, admin_port } = options;
    let listen = if *admin_port == 0 { String::new() } else { format!("127.0.0.1:{admin_port}") };
    format!(
        r#"recorder:
  id: "{id}"
  mode: both
  max_limit: {max_limit}
  # A machine that is busy otherwise should not make the demo wait, nor keep a benchmark from filling it.
  cpu_overload_limit: 0
  transcoding_cpu_limit_both_mode: 0
  state_dir: "{state}"
  copy_to_path:
    main_path: "{main_path}"
    sub_path: "{id}"
log_settings:
  log_level: info
plugNmeet_info:
  host: "{host}"
  api_key: "{api_key}"
  api_secret: "{api_secret}"
nats_info:
  nats_urls:
    - "{nats}"
  num_replicas: 1
  recorder:
    recorder_channel: "{channel}"
    recorder_info_kv: "{bucket}"
    transcoding_jobs_subject: "{jobs}"
admin:
  listen: "{listen}"
ffmpeg_settings:
  one_pass: {one_pass}
"#,
        state = standin.dir().join("state").display(),
        main_path = main_path.display(),
        host = standin.host(),
        api_key = deployment.api_key,
        api_secret = deployment.api_secret,
        nats = standin.nats_url(),
        channel = deployment.channel,
        bucket = deployment.bucket,
        jobs = deployment.jobs,
    )
}
