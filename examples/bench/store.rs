//! How long the delivery of an MP4 into a store on this host takes, and what it costs, beside `rclone copyto` of the same
//! file into the same store, in turns.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use plugnmeet_recorder::config::StorageConfig;
use plugnmeet_recorder::config::store_url::StoreUrl;
use plugnmeet_recorder::protocol::ids::{RecordingId, RoomId};
use plugnmeet_recorder::storage::main_path::{MainPath, StoreAbilities};
use plugnmeet_recorder::store::connect::StoreTimes;
use plugnmeet_recorder::store::record::UploadRecord;
use plugnmeet_recorder::store::uploads::{UploadSettings, UploadWaits, Uploads};
use plugnmeet_recorder::telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use crate::standin::object_store::{BUCKET, Kind, ObjectStore};

/// How often it is looked whether a delivery has ended.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Megabytes of the file.
    #[arg(long, default_value_t = 1000)]
    megabytes: usize,
    /// How often each delivers it.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Another store than rclone's, to which only the recorder delivers.
    #[arg(long)]
    to: Option<String>,
}

/// Whose processor time.
#[derive(Clone, Copy, Debug)]
enum Whose {
    Own,
    /// Of those that have ended.
    Children,
}

/// Seconds: by the clock, and of the processors.
#[derive(Clone, Copy, Debug)]
struct Took {
    wall: f64,
    cpu: f64,
}

pub async fn run(options: &Options) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new().prefix("pnm-bench-").tempdir()?;
    let store = ObjectStore::start(Kind::Rclone).await?;
    let url = options.to.clone().unwrap_or_else(|| ObjectStore::url(store.port, "delivered"));
    plugnmeet_recorder::tls::provide_crypto();
    let mp4 = dir.path().join("main/node_01/room01/rec.mp4");
    std::fs::create_dir_all(mp4.parent().context("its directory")?)?;
    write(&mp4, options.megabytes)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let took = deliver(dir.path(), &url, &mp4, round).await?;
        println!("round {round}: recorder {:.2} s, {:.2} s of the processors", took.wall, took.cpu);
        ours.push(took);
        if options.to.is_none() {
            let (from, to) = (mp4.display().to_string(), format!("s3:{BUCKET}/copied/{round}.mp4"));
            let took = measured(Whose::Children, async || store.rclone(&["copyto", &from, &to]).map(drop)).await?;
            println!("round {round}: rclone   {:.2} s, {:.2} s of the processors", took.wall, took.cpu);
            theirs.push(took);
        }
    }
    if !theirs.is_empty() {
        let (our, their) = (median(&ours), median(&theirs));
        println!(
            "medians: {:.2} s against {:.2} s of rclone, {:.2} times as long; processors {:.2} s against {:.2} s",
            our.wall,
            their.wall,
            our.wall / their.wall,
            our.cpu,
            their.cpu
        );
    }
    Ok(())
}

/// Bytes that do not compress.
fn write(path: &Path, megabytes: usize) -> anyhow::Result<()> {
    let mut random = std::io::Read::take(std::fs::File::open("/dev/urandom")?, megabytes as u64 * 1_000_000);
    let mut file = std::fs::File::create(path)?;
    std::io::copy(&mut random, &mut file)?;
    // Its way to the disk is not measured.
    Ok(file.sync_all()?)
}

/// As a node does it.
async fn deliver(dir: &Path, url: &str, mp4: &Path, round: usize) -> anyhow::Result<Took> {
    let deliver = StoreUrl::parse(url).map_err(anyhow::Error::msg)?;
    let settings = UploadSettings {
        storage: StorageConfig { deliver: Some(deliver.clone()), ..StorageConfig::default() },
        pictures: Arc::new(|_, _, _| Box::pin(std::future::ready(Ok(None)))),
        state_dir: dir.join("state"),
        main_path: MainPath::unwatched(&dir.join("main"), StoreAbilities::ALL),
        metrics: Metrics::default(),
        tell: Arc::new(|_| Box::pin(std::future::ready(true))),
        waits: UploadWaits {
            first: Duration::from_secs(5),
            longest: Duration::from_secs(5),
            times: StoreTimes::default(),
        },
    };
    let cancel = CancellationToken::new();
    let uploads = Uploads::new(settings, cancel.clone());
    let running = tokio::spawn(uploads.clone().run());
    let (recording, room) = (RecordingId::parse(&format!("rec-{round}"))?, RoomId::parse("room01")?);
    let key = format!("node_01/room01/rec-{round}.mp4");
    let took = measured(Whose::Own, async || {
        let record = UploadRecord::new(&recording, &room, mp4, &key, &deliver.to_string(), None);
        uploads.add(record).await;
        while uploads.waiting() > 0 {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    })
    .await?;
    cancel.cancel();
    running.await?;
    Ok(took)
}

async fn measured(of: Whose, work: impl AsyncFnOnce() -> anyhow::Result<()>) -> anyhow::Result<Took> {
    let (began, before) = (Instant::now(), cpu(of)?);
    work().await?;
    Ok(Took { wall: began.elapsed().as_secs_f64(), cpu: cpu(of)? - before })
}

/// Processor seconds so far, to a hundredth: `proc_pid_stat(5)`.
fn cpu(of: Whose) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(") ").context("/proc/self/stat")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let at = match of {
        Whose::Own => 11,
        Whose::Children => 13,
    };
    let ticks: u32 = fields[at].parse::<u32>()? + fields[at + 1].parse::<u32>()?;
    Ok(f64::from(ticks) / 100.0)
}

fn median(took: &[Took]) -> Took {
    let of = |value: fn(&Took) -> f64| {
        let mut values: Vec<f64> = took.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Took { wall: of(|took| took.wall), cpu: of(|took| took.cpu) }
}
