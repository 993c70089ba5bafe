//! A simulated fleet: `make sim` in short.

use crate::dice::Dice;

#[path = "../sim/mod.rs"]
pub mod engine;

use engine::{Options, WhenFull, run};

fn options(seed: u64) -> Options {
    Options {
        nodes: 20,
        recordings: 100,
        seed,
        lengths: (0.3, 1.5),
        rate: 60.0,
        shares: vec![90, 100],
        when_full: WhenFull::Refer,
        settled: true,
        restarts: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_whose_full_nodes_hide_refuses_nothing_while_one_has_room() {
    let (_, seed) = Dice::new();
    println!("seed {seed}: repeat with PNM_SEED={seed}");
    let report = run(&options(seed)).await.unwrap();
    println!("{report}");
    assert_eq!(report.sum(|phase| phase.requests), 100, "{report}");
    assert_eq!(report.sum(|phase| phase.refused + phase.silent), 0, "{report}");
    assert_eq!((report.not_ended_well.len(), report.violations.len()), (0, 0), "{report}");

    // Many at once: the server selects nodes that have just been filled. They refer these to others.
    let report = run(&Options { settled: false, ..options(seed) }).await.unwrap();
    println!("{report}");
    assert_eq!(report.sum(|phase| phase.refused_with_room + phase.silent), 0, "{report}");
    assert_eq!((report.not_ended_well.len(), report.violations.len()), (0, 0), "{report}");

    // Nodes that stay in the choice are chosen again and again, for their many cores.
    let report = run(&Options { when_full: WhenFull::Stay, ..options(seed) }).await.unwrap();
    println!("{report}");
    assert!(report.sum(|phase| phase.refused_with_room) > 0, "{report}");
    assert_eq!((report.not_ended_well.len(), report.violations.len()), (0, 0), "{report}");
}
