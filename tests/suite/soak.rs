//! Several recordings at once, begun, ended and broken at random: `make soak` in short.

use std::path::PathBuf;
use std::time::Duration;

use crate::dice::Dice;
use crate::recorder::alone;

#[path = "../soak/mod.rs"]
mod engine;

use engine::Options;

#[tokio::test(flavor = "multi_thread")]
async fn ninety_seconds_of_faults_lose_nothing() {
    let _turn = alone().await;
    let (_, seed) = Dice::new();
    println!("seed {seed}: repeat with PNM_SEED={seed}");
    let options = Options {
        seed,
        length: Duration::from_secs(90),
        recordings: 2,
        binary: PathBuf::from(env!("CARGO_BIN_EXE_plugnmeet-recorder")),
        without: Vec::new(),
        publish: false,
    };
    let ledger = engine::run(&options).await.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
    println!("{ledger}");
    assert!(ledger.is_clean(), "{ledger}");
}
