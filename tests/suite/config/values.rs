//! What the keys of a configuration come to, and their defaults.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::Level;

use plugnmeet_recorder::config::{
    self, ChromeFlag, HookStep, HookUrl, HooksConfig, KEYS, KeepLocal, Mode, Profile, Reserve, StageConfig,
    StorageConfig,
};

use super::{REFERENCE, REQUIRED, SAMPLE, more_of, problems, with};

#[test]
fn a_reference_configuration_loads_unchanged() {
    let (config, warnings) = config::parse(REFERENCE, "config.yaml").unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(warnings, []);
    assert_eq!(config.recorder.mode, Mode::Both);
    assert_eq!(config.recorder.transcoding_cpu_limit, Some(0.8));
    assert_eq!(config.recorder.temporary_dir, Path::new("/tmp/recordings"));
    assert_eq!(config.recorder.post_processing_scripts, [PathBuf::from("./post_processing_scripts/example.sh")]);
    assert_eq!(config.log.file.as_deref(), Some(Path::new("./logs/recorder.log")));
    assert!(config.log.stdout);
    assert_eq!(config.log.max_size, 20 * 1024 * 1024);
    assert_eq!(config.chrome.path.as_deref(), Some(Path::new("/usr/bin/chromium")));
    let flag = |name: &str, value: Option<&str>| ChromeFlag { name: name.to_owned(), value: value.map(str::to_owned) };
    assert_eq!(
        config.chrome.flags,
        [
            flag("kiosk", None),
            flag("lang", Some("de")),
            flag("force-device-scale-factor", Some("1")),
            flag("disable-infobars", None)
        ]
    );
    assert_eq!(config.server.host, "https://meet.example.com");
    assert_eq!(config.server.api_secret, "0123456789", "as it is written, though YAML takes it for a number");
    assert_eq!(config.nats.urls, ["nats://127.0.0.1:4222", "tls://nats.example.com:4222"]);
    let post = &config.hooks.post_recording;
    assert_eq!((post.pool_size, post.timeout), (2, Duration::from_secs(5400)));
    let script = |path: &str, one_shot| HookStep::Script { command: vec![path.to_owned()], one_shot };
    let url = HookUrl::parse("https://hooks.example.com/recorded").unwrap();
    assert_eq!(post.steps, [script("./scripts/upload.sh", true), HookStep::HttpRequest { url }]);
    // The older form, whose scripts were started for each event.
    let pre = &config.hooks.pre_transcoding;
    assert_eq!((pre.pool_size, pre.timeout), (1, Duration::from_secs(3600)));
    assert_eq!(pre.steps, [script("./scripts/download.sh", true)]);
    assert_eq!(config.hooks.post_transcoding, StageConfig::default());
}

#[test]
fn the_sample_has_the_defaults_of_the_code() {
    let (sample, warnings) =
        config::parse(SAMPLE, "config_sample.yaml").unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(sample, with(""));
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("api_secret: still the sample's secret"), "{warnings:?}");
}

#[test]
fn the_sample_names_every_key() {
    for key in KEYS {
        for name in key.split('.').map(|name| name.trim_end_matches("[]")) {
            let there = SAMPLE.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).any(|word| word == name);
            assert!(there, "{key}: config_sample.yaml does not name {name}");
        }
    }
}

#[test]
fn what_is_left_out_has_the_default_of_the_reference() {
    let config = with("");
    assert_eq!(config.recorder.max_limit, 10);
    assert_eq!((config.recorder.width, config.recorder.height, config.recorder.dpi), (1920, 1080, 96));
    assert_eq!(config.recorder.temporary_dir, Path::new("../recording_files/.in-progress"));
    assert_eq!(config.recorder.state_dir, Path::new("../recording_files/.in-progress/.state-node_01"));
    assert_eq!(config.recorder.post_processing_timeout, Duration::from_secs(3600));
    assert_eq!(config.recorder.silence_warning, Some(Duration::from_secs(60)));
    assert_eq!((config.recorder.min_free_space, config.recorder.drain_timeout), (Reserve::Default, None));
    assert_eq!((config.recorder.max_duration, config.recorder.end_when_idle), (None, None));
    assert_eq!(config.recorder.rejoin_for, Duration::from_secs(1800));
    assert!(config.recorder.self_test);
    assert_eq!((config.log.file, config.log.stdout), (None, true));
    assert_eq!((config.log.max_backups, config.log.max_age), (4, Duration::from_secs(2 * 24 * 3600)));
    assert_eq!(config.ffmpeg.recording.pre_input[..2], ["-loglevel", "error"]);
    assert_eq!(config.ffmpeg.rtmp.post_input.last().map(String::as_str), Some("flv"));
    assert_eq!(config.chrome.path, None);
    assert_eq!(config.hooks, HooksConfig::default());
}

#[test]
fn a_value_may_be_spelled_in_other_ways() {
    let config = with("recorder.max_limit: \"12\"\nrecorder.debug: yes\nrecorder.width: 1280.0");
    assert_eq!((config.recorder.max_limit, config.recorder.debug, config.recorder.width), (12, true, 1280));
    assert_eq!(config.log.level, Level::DEBUG, "raised by recorder.debug");
    assert_eq!(with("recorder.transcoding_cpu_limit_both_mode: 0").recorder.transcoding_cpu_limit, None);
    assert_eq!(with("recorder.transcoding_cpu_limit_both_mode: 75%").recorder.transcoding_cpu_limit, Some(0.75));
    let limits = |text| (with(text).recorder.max_load, with(text).recorder.cpu_overload_limit);
    assert_eq!(limits("recorder.max_limit: 10"), (None, Some(0.95)));
    assert_eq!(limits("recorder.max_load: 80\nrecorder.cpu_overload_limit: 0"), (Some(0.8), None));
    for (spelled, seconds) in [("1h30m", 5400), ("90s", 90), ("45", 45), ("\"2h\"", 7200)] {
        let config = with(&format!("recorder.post_processing_timeout: {spelled}"));
        assert_eq!(config.recorder.post_processing_timeout, Duration::from_secs(seconds), "{spelled}");
    }
    for (spelled, seconds) in [("0", None), ("0s", None), ("2s", Some(2)), ("5m", Some(300))] {
        let config = with(&format!("recorder.silence_warning: {spelled}"));
        assert_eq!(config.recorder.silence_warning, seconds.map(Duration::from_secs), "{spelled}");
    }
    for (spelled, reserve) in [
        ("5GiB", Reserve::Size(5 << 30)),
        ("500 MB", Reserve::Size(500_000_000)),
        ("7.5%", Reserve::Percent(7.5)),
        ("0", Reserve::Size(0)),
        ("\"\"", Reserve::Default),
    ] {
        assert_eq!(with(&format!("recorder.min_free_space: {spelled}")).recorder.min_free_space, reserve, "{spelled}");
    }
    for (spelled, seconds) in [("never", None), ("Never", None), ("0", Some(0)), ("90s", Some(90)), ("2h", Some(7200))]
    {
        let config = with(&format!("recorder.drain_timeout: {spelled}"));
        assert_eq!(config.recorder.drain_timeout, seconds.map(Duration::from_secs), "{spelled}");
    }
    for (spelled, seconds) in [("0", None), ("0s", None), ("8h", Some(28_800)), ("90", Some(90))] {
        let config = with(&format!("recorder.max_duration: {spelled}\nrecorder.end_when_idle: {spelled}"));
        let expected = seconds.map(Duration::from_secs);
        assert_eq!((config.recorder.max_duration, config.recorder.end_when_idle), (expected, expected), "{spelled}");
    }
    for (spelled, seconds) in [("0", 0), ("2h", 7200), ("90", 90)] {
        let config = with(&format!("recorder.rejoin_for: {spelled}"));
        assert_eq!(config.recorder.rejoin_for, Duration::from_secs(seconds), "{spelled}");
    }
    for (dirs, state) in [
        ("recorder.temporary_dir: /var/tmp/recordings", "/var/tmp/recordings/.state-node_01"),
        ("recorder.temporary_dir: recordings", "recordings/.state-node_01"),
        ("recorder.temporary_dir: /", "/.state-node_01"),
        ("recorder.temporary_dir: /a/b\nrecorder.state_dir: /c/d", "/c/d"),
    ] {
        assert_eq!(with(dirs).recorder.state_dir, Path::new(state), "{dirs}");
    }
    assert_eq!(with("recorder.custom_chrome_path: /opt/chrome").chrome.path, Some(PathBuf::from("/opt/chrome")));
    assert_eq!(with("log_settings.log_level: panic").log.level, Level::ERROR);
    assert_eq!(with("log_settings.max_backups: 0").log.max_backups, usize::MAX);
    assert_eq!(
        with("ffmpeg_settings.rtmp: {pre_input: \"\", post_input: \"-f 'a b'\"}").ffmpeg.rtmp.post_input,
        ["-f", "a b"]
    );
    assert_eq!(with("hooks.post_recording: []").hooks, HooksConfig::default());
    let hooks =
        with("hooks.post_recording: {pool_size: 0, hook_timeout: 0, scripts: [{script: \"python3 -u 'a b.py'\"}]}")
            .hooks;
    let command = ["python3", "-u", "a b.py"].map(str::to_owned).to_vec();
    assert_eq!(
        hooks.post_recording,
        StageConfig { steps: vec![HookStep::Script { command, one_shot: false }], ..StageConfig::default() }
    );
}

#[test]
fn a_profile_comes_before_the_operators_own_options_and_unset_changes_nothing() {
    let line = |more: &str| with(more).ffmpeg.post_recording.post_input.join(" ");
    let defaults = line("");
    assert!(defaults.starts_with("-c:v libx264 -profile:v baseline") && defaults.ends_with("lowpass=f=4000,afftdn"));
    assert_eq!(line("ffmpeg_settings.profile: \"\""), defaults);
    for profile in Profile::ALL {
        let chosen = format!("ffmpeg_settings.profile: {}", profile.as_str());
        let profile_line = profile.post_input();
        assert_eq!(line(&chosen), profile_line);
        assert_eq!(line(&format!("{chosen}\nffmpeg_settings.rtmp: {{post_input: x}}")), profile_line);
        let own = format!("{chosen}\nffmpeg_settings.post_recording: {{pre_input: -v error, post_input: -crf 30}}");
        assert_eq!(line(&own), format!("{profile_line} -crf 30"));
        assert_eq!(with(&own).ffmpeg.post_recording.pre_input, ["-v", "error"]);
        assert_eq!(with(&chosen).ffmpeg.post_recording.pre_input, ["-loglevel", "error"]);
        assert_eq!(with(&chosen).ffmpeg.recording, with("").ffmpeg.recording);
        assert_eq!(with(&chosen).ffmpeg.profile, Some(profile));
    }
    let found = problems(&more_of("ffmpeg_settings.profile: tiny"));
    assert!(found.contains("profile: found \"tiny\"; one of compatible, small, fast is allowed"), "{found}");
}

#[test]
fn reference_sub_paths_lie_in_main_path_like_our_own() {
    let paths = |more: &str| {
        REQUIRED.replace(
            "{main_path: ../recording_files}",
            &format!("{{main_path: ../recording_files, reference_sub_paths: {more}}}"),
        )
    };
    let (config, _) = config::parse(&paths("[node_02, ./b/c]"), "config.yaml").unwrap();
    assert_eq!(config.recorder.reference_sub_paths, [PathBuf::from("node_02"), PathBuf::from("b/c")]);
    assert!(with("").recorder.reference_sub_paths.is_empty());
    for wrong in ["[../x]", "[/x]", "node_02"] {
        assert!(problems(&paths(wrong)).contains("reference_sub_paths"), "{wrong}");
    }
}

#[test]
fn the_ca_of_the_server_is_trusted_by_hooks_too() {
    let config = with("plugNmeet_info.ca_file: ./ca.pem");
    assert_eq!(config.server.ca_file.as_deref(), Some(Path::new("./ca.pem")));
    assert_eq!(config.hooks.ca_file, config.server.ca_file);
    assert_eq!(with("").server.ca_file, None);
}

#[test]
fn the_log_goes_where_log_output_says() {
    let outputs = |more: &str| {
        let config = with(&format!("log_settings.log_file: a.log\n{more}"));
        (config.log.file.is_some(), config.log.stdout)
    };
    assert_eq!(outputs(""), (true, true));
    assert_eq!(outputs("log_settings.log_output: file"), (true, false));
    assert_eq!(outputs("log_settings.log_output: stdout"), (false, true));
    assert_eq!(outputs("log_settings.log_output: console"), (false, true));
}

#[test]
fn a_store_is_a_url_and_no_section_is_no_store() {
    assert_eq!(with("").storage, StorageConfig::default());
    let keep =
        |value: &str| with(&format!("storage.deliver: gs://bucket/a\nstorage.keep_local: {value}")).storage.keep_local;
    assert_eq!((keep("true"), keep("false")), (KeepLocal::Always, KeepLocal::For(Duration::ZERO)));
    assert_eq!(keep("12h"), KeepLocal::For(Duration::from_secs(12 * 3600)));
    let config = with("storage.deliver: s3://KEYID1:SECRET1@eu/bucket\nstorage.hooks_secret: 0123456789abcdef");
    assert_eq!(config.storage.deliver.as_ref().unwrap().to_string(), "s3://bucket");
    let raw = with("storage.raw: s3://KEYID2:SECRET2@eu/bucket/raw");
    assert_eq!(
        (raw.storage.raw.as_ref().unwrap().to_string(), &raw.storage.deliver),
        ("s3://bucket/raw".into(), &None)
    );
    assert!(raw.secrets().contains(&"SECRET2") && !format!("{raw:?}").contains("SECRET2"));
    for secret in ["KEYID1", "SECRET1", "0123456789abcdef"] {
        assert!(config.secrets().contains(&secret) && !format!("{config:?}").contains(secret), "{secret}");
    }
}

#[test]
fn a_store_that_cannot_be_meant_is_a_problem_that_quotes_no_secret() {
    let said = |line: &str| problems(&more_of(&format!("storage.deliver: gs://bucket\n{line}")));
    assert!(said("storage.keep_local: perhaps").contains("storage.keep_local: found \"perhaps\""));
    assert!(said("storage.keep_local: 400d").contains("storage.keep_local"));
    for secret in ["tiny-secret", "0123456789abcdef/x"] {
        let said = said(&format!("storage.hooks_secret: {secret}"));
        assert!(said.contains("storage.hooks_secret") && !said.contains(secret), "{said}");
    }
    // Reference transcoders would take jobs that they cannot do.
    let own = "{main_path: ../recording_files}";
    let mixed = "{main_path: ../recording_files, reference_sub_paths: [node_09]}";
    let said = problems(&more_of("storage.raw: gs://bucket").replace(own, mixed));
    assert!(said.contains("storage.raw") && said.contains("reference transcoders"), "{said}");
    let said = problems(&more_of("storage.deliver: s3://KEYID1:SECRET1@eu/bucket?endpiont=SECRET2"));
    assert!(said.contains("storage.deliver") && said.contains("endpiont") && !said.contains("SECRET"), "{said}");
    let (_, warnings) = config::parse(&more_of("storage.keep_local: false"), "config.yaml").unwrap();
    assert!(warnings.iter().any(|warning| warning.to_string().contains("without `storage.deliver`")), "{warnings:?}");
}

#[test]
fn renditions_are_sorted_and_mp4s_have_a_keyframe_for_each_segment() {
    assert_eq!(with("").hls, None);
    let line = |more: &str| with(&format!("{more}\nhls.renditions: [{{height: 360, bitrate: 600k}}, {{height: 720}}]"));
    let config = line("");
    let hls = config.hls.unwrap();
    assert_eq!(hls.renditions.iter().map(|one| one.height).collect::<Vec<_>>(), [720, 360]);
    assert_eq!(hls.renditions[1].rate, Some(config::VideoRate::BitRate(600_000)));
    assert_eq!(hls.segment, Duration::from_secs(4));
    let forced = |config: &config::Config| config.ffmpeg.post_recording.post_input.join(" ");
    assert!(forced(&line("")).ends_with("-force_key_frames expr:gte(t,n_forced*4)"), "{}", forced(&line("")));
    for (wrong, why) in [
        ("[{height: 361}]", "an even whole number"),
        ("[{crf: 20}]", "hls.renditions[0].height"),
        ("[{height: 360, crf: 20, bitrate: 1M}]", "both a crf and a bitrate"),
        ("[{height: 360}, {height: 360}]", "the height 360"),
        ("[{height: 360, bitrate: fast}]", "a bit rate like 800k"),
    ] {
        let said = problems(&more_of(&format!("hls.renditions: {wrong}")));
        assert!(said.contains(why), "{wrong}: {said}");
    }
}
