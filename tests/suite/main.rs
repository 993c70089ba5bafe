//! Every integration test, in one binary.

#[path = "../measure/mod.rs"]
mod measure;
#[path = "../standin/mod.rs"]
mod standin;
mod state_records;

mod acknowledgements;
mod adaptive;
mod admin;
mod breaks;
mod broadcast;
mod capture;
mod certificates;
mod check;
mod chrome_windows;
mod cluster;
mod codes;
mod config;
mod delivery;
mod dice;
mod driver;
mod encoder_change;
mod endurance;
mod far_end;
#[path = "faulty_fs.rs"]
mod faulty_fs_itself;
mod fidelity;
mod fleet;
mod fleet_ids;
mod golden_state;
mod hangs;
mod hook_samples;
mod hooks;
mod job_hooks;
mod join;
mod layers;
mod leftovers;
mod lip_sync;
mod log_outputs;
mod logs;
mod main_path;
mod matroska;
mod merge;
mod mounts;
mod moved_far_end;
mod nats_server;
mod node;
mod one_pass;
mod page;
mod page_recording;
mod playback;
mod process_1;
mod recorder;
mod recording;
mod redelivery;
mod referrals;
mod rejoin;
mod relay;
mod rig;
mod rolling_upgrade;
mod scripts;
mod self_test;
mod service_manager;
mod signals;
mod sim;
mod sizing;
mod soak;
mod spawner;
#[path = "standin.rs"]
mod standin_itself;
mod state_dir;
mod survival;
mod tls;
mod transcode;
mod wire;
mod workers;
