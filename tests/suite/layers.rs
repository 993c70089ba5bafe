//! The walls between the rooms of `src/`, held by what its files say they use: rooms stand on lower ones only, no files use
//! each other in a circle, and files that are called pure are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// From the highest to the lowest. A room may use those of lower layers, and no other room of its own layer.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["node"],
    &["admin", "check", "sizing"],
    &["cli"],
    &["page_recording"],
    &["recording", "transcode"],
    &["scripts", "capture", "delivery", "fleet", "archive", "hls"],
    &["media", "nats", "store"],
    &["storage", "process", "http"],
    &["telemetry"],
    &["config", "tls"],
    &["protocol"],
    &["retry", "unix_time"],
    &["codes"],
];

/// Without clock, I/O, async, globals, shared memory and system calls: time is an argument, effects are values.
const PURE: &[&str] = &[
    "archive/lease",
    "archive/names",
    "archive/owner_watch",
    "archive/piece_cutter",
    "admin/cells",
    "admin/rows/hls",
    "admin/rows/job",
    "admin/rows/message",
    "admin/rows/node",
    "admin/rows/recording",
    "admin/rows/status",
    "admin/rows/upload",
    "admin/http/page/access",
    "admin/http/page/range",
    "admin/http/page/session",
    "capture/audio/av_sync",
    "capture/audio/silence_detector",
    "capture/browser/certificate",
    "capture/browser/crash",
    "capture/browser/error_page",
    "capture/browser/hang_detector",
    "capture/browser/joining",
    "capture/browser/page",
    "capture/browser/page_health",
    "capture/browser/visit_step",
    "capture/capture_report",
    "capture/encoder/arguments",
    "capture/encoder/matroska",
    "capture/process_tag",
    "capture/quality",
    "capture/rig_failure",
    "capture/rtmp/adobe_auth",
    "capture/rtmp/amf",
    "capture/rtmp/bit_rate",
    "capture/rtmp/chunk_stream",
    "capture/rtmp/command",
    "capture/rtmp/dialogue",
    "capture/rtmp/media_queue",
    "capture/video/damage",
    "capture/video/drop_monitor",
    "capture/video/frame_pool",
    "capture/video/pacer",
    "capture/video/thumbnail",
    "capture/frame_loss",
    "capture/quality_summary",
    "capture/watchdog",
    "check/clock",
    "check/finding_code",
    "check/glyphs",
    "check/limits",
    "check/marks",
    "check/report",
    "check/speed",
    "check/versions",
    "codes/admin",
    "codes/broadcast",
    "codes/capture",
    "codes/check",
    "codes/code",
    "codes/commands",
    "codes/search",
    "codes/text",
    "codes/delivery",
    "codes/fleet",
    "codes/hls",
    "codes/node",
    "codes/program",
    "codes/recording",
    "codes/scripts",
    "codes/storage",
    "codes/store",
    "codes/transcode",
    "config/interpolation",
    "config/room_pattern",
    "config/store_url",
    "config/user_info",
    "delivery/answer",
    "hls/arguments",
    "hls/fragment_boxes",
    "hls/ladder",
    "hls/live/arguments",
    "hls/live/event_playlist",
    "hls/live/fragments",
    "hls/live/segment_cutter",
    "hls/playlist",
    "hls/segments",
    "fleet/admission",
    "fleet/cost",
    "fleet/overload",
    "fleet/recording_needs",
    "fleet/holder",
    "media/clusters",
    "media/cluster_times",
    "media/concat_plan",
    "media/encoded_span",
    "media/error_text",
    "media/filter_delay",
    "media/final_encoding",
    "media/joined_mark",
    "media/packet_times",
    "media/progress",
    "media/thumbnail_plan",
    "media/verification",
    "page_recording/meter",
    "page_recording/outcome",
    "page_recording/summary",
    "process/cgroup_files",
    "node/service_status",
    "process/log_budget",
    "protocol/access",
    "protocol/announcement",
    "protocol/ids",
    "protocol/job",
    "protocol/jwt",
    "protocol/messages",
    "protocol/notice",
    "protocol/public_text",
    "protocol/referral",
    "protocol/request",
    "protocol/room_status",
    "protocol/selection",
    "protocol/signature",
    "protocol/token",
    "recording/gaps",
    "recording/part_merge",
    "recording/processor_room",
    "recording/recovery",
    "recording/session",
    "recording/session/events",
    "recording/session/states",
    "recording/taken_part",
    "scripts/hooks/answer",
    "scripts/hooks/payload",
    "scripts/hooks/store_answer",
    "sizing/advice",
    "sizing/config_edit",
    "sizing/outcome",
    "sizing/search",
    "sizing/window",
    "storage/disk_space/byte_size",
    "storage/disk_space/policy",
    "storage/main_path/abilities",
    "storage/main_path/identity",
    "store/part_plan",
    "tls/validity",
    "media/ffmpeg_arguments",
    "media/index_space",
    "transcode/last_resort",
    "transcode/plan",
    "transcode/splice_plan",
];

/// What a pure file does not say, in code.
const IMPURE: &[&str] = &[
    "tokio",
    "async ",
    ".await",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "std::env",
    "Instant",
    "SystemTime",
    "rustix",
    "memmap2",
    "thread_local",
    "Mutex",
    "Atomic",
    "OnceLock",
    "LazyLock",
    "tracing",
    "redact::",
    "unsafe",
];

type Module = Vec<String>;

/// Each file of `src/`: its module, and its code without comments and tests.
fn files() -> BTreeMap<Module, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    let mut dirs = vec![src.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("tests") {
                    dirs.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.insert(module(path.strip_prefix(&src).unwrap()), code(&text));
            }
        }
    }
    files
}

fn module(path: &Path) -> Module {
    let mut parts: Module = path.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// What is compiled into the program.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.fold(String::new(), |all, line| all + line + "\n")
}

/// The files that one uses, by what its code names: `crate::…`, `super::…` and files of its own folder (`child::…` in a
/// `mod.rs`), in `use` lines and elsewhere.
fn uses(of: &Module, code: &str, all: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let mut found = BTreeSet::new();
    let children = all.keys().filter(|file| !of.is_empty() && file.len() == of.len() + 1 && file.starts_with(of));
    let children: Vec<String> = children.map(|file| format!("{}::", file[of.len()])).collect();
    let starts = ["crate::", "super::", "plugnmeet_recorder::"].into_iter().chain(children.iter().map(String::as_str));
    for start in starts {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '$')) {
                continue;
            }
            let mut paths = Vec::new();
            spell_out(&mut code[at..].chars().peekable(), &mut Vec::new(), &mut paths);
            found.extend(paths.into_iter().filter_map(|path| file_of(of, &path, all)));
        }
    }
    found.remove(of);
    found
}

/// `a::{b, c::{d}}` → `a::b`, `a::c::d`.
fn spell_out(text: &mut std::iter::Peekable<std::str::Chars<'_>>, prefix: &mut Module, found: &mut Vec<Module>) {
    let depth = prefix.len();
    let mut word = String::new();
    while let Some(&c) = text.peek() {
        match c {
            c if c.is_alphanumeric() || c == '_' => {
                word.push(c);
                text.next();
            }
            ':' => {
                text.next();
                if !word.is_empty() {
                    prefix.push(std::mem::take(&mut word));
                }
            }
            '{' if word.is_empty() => {
                text.next();
                while text.peek().is_some_and(|&c| c != '}') {
                    spell_out(text, prefix, found);
                    while text.peek().is_some_and(|&c| c != '}' && c != '_' && !c.is_alphanumeric()) {
                        text.next();
                    }
                }
                text.next();
                prefix.truncate(depth);
                return;
            }
            _ => break,
        }
    }
    let mut path = prefix.clone();
    path.extend((!word.is_empty() && word != "self").then_some(word));
    found.push(path);
    prefix.truncate(depth);
    // `as name` is no further path.
    while text.peek().is_some_and(|&c| !matches!(c, ',' | '}' | ';' | '\n')) {
        text.next();
    }
}

fn file_of(from: &Module, path: &Module, all: &BTreeMap<Module, String>) -> Option<Module> {
    let from_root = path[0] == "crate" || path[0] == "plugnmeet_recorder";
    let mut absolute = if from_root { Module::new() } else { from.clone() };
    for part in path {
        match part.as_str() {
            "crate" | "plugnmeet_recorder" => {}
            "super" => drop(absolute.pop()),
            part => absolute.push(part.to_owned()),
        }
    }
    while !absolute.is_empty() && !all.contains_key(&absolute) {
        absolute.pop();
    }
    (!absolute.is_empty()).then_some(absolute)
}

fn imports() -> BTreeMap<Module, BTreeSet<Module>> {
    let files = files();
    files.iter().map(|(module, code)| (module.clone(), uses(module, code, &files))).collect()
}

#[test]
fn rooms_stand_on_lower_ones_only() {
    let layer = |module: &Module| {
        let room = &module[0];
        let found = LAYERS.iter().position(|rooms| rooms.contains(&room.as_str()));
        found.unwrap_or_else(|| panic!("src/{room} is in no layer"))
    };
    let mut wrong = Vec::new();
    let imports = imports();
    for (from, tos) in imports.iter().filter(|(from, _)| !from.is_empty()) {
        for to in tos.iter().filter(|to| to[0] != from[0] && layer(to) <= layer(from)) {
            wrong.push(format!("{} uses {}", from.join("/"), to.join("/")));
        }
    }
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 300, "the uses were not found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut left = imports();
    // What uses nothing that is left stands below all that is left.
    loop {
        let bottom: Vec<Module> = left.iter().filter(|(_, uses)| uses.is_empty()).map(|(of, _)| of.clone()).collect();
        if bottom.is_empty() {
            break;
        }
        left.retain(|of, _| !bottom.contains(of));
        for uses in left.values_mut() {
            uses.retain(|used| !bottom.contains(used));
        }
    }
    // Nor is what nobody that is left uses in a circle.
    loop {
        let used: BTreeSet<Module> = left.values().flatten().cloned().collect();
        let before = left.len();
        left.retain(|of, _| used.contains(of));
        if left.len() == before {
            break;
        }
    }
    let circle: Vec<String> = left.iter().map(|(of, uses)| format!("{} uses {uses:?}", of.join("/"))).collect();
    assert!(circle.is_empty(), "{circle:#?}");
}

#[test]
fn what_is_called_pure_is_pure() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = files();
    for &name in PURE {
        let path = PathBuf::from(format!("{name}.rs"));
        let code = files.get(&module(&path)).unwrap_or_else(|| panic!("{name} is not there"));
        for line in code.lines().map(|line| line.replace("&'static ", "")) {
            let found = IMPURE.iter().find(|word| line.contains(*word));
            let is_global = line.trim_start().trim_start_matches("pub ").starts_with("static ");
            assert!(found.is_none() && !is_global, "{name} is called pure, but says {found:?}: {line}");
        }
    }
    // A folder's `mod.rs` speaks of its files.
    for (module, _) in files.iter().filter(|(module, _)| !module.is_empty()) {
        let path = src.join(module.join("/")).with_extension("rs");
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        let says = text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .any(|line| line.to_lowercase().split(|c: char| !c.is_alphabetic()).any(|word| word == "pure"));
        assert!(!says || PURE.contains(&module.join("/").as_str()), "{} says that it is pure", module.join("/"));
    }
}

#[test]
fn uses_are_found() {
    let all: BTreeMap<Module, String> = ["a", "a/b", "a/c", "d"]
        .iter()
        .map(|name| (module(&PathBuf::from(format!("{name}.rs"))), String::new()))
        .collect();
    let of = module(Path::new("a/b.rs"));
    let found = |code: &str| uses(&of, code, &all).iter().map(|module| module.join("/")).collect::<Vec<_>>();
    assert_eq!(found("use crate::{a::{c::X, Y as Z}, d};"), ["a", "a/c", "d"]);
    assert_eq!(found("use super::c::{self, X};\nuse std::d;\nfn f() { crate::d::g() }"), ["a/c", "d"]);
    assert_eq!(found("use crate::a::b::X; $crate::d"), Vec::<String>::new());
    let folder = uses(&module(Path::new("a/mod.rs")), "pub use b::X;\nfn f() { c::g(); x::c::g() }", &all);
    assert_eq!(folder.iter().map(|module| module.join("/")).collect::<Vec<_>>(), ["a/b", "a/c"]);
}
