//! What is said about a configuration that is broken, or odd.

use std::path::Path;

use plugnmeet_recorder::config::{self, Config, ConfigError};

use super::{REFERENCE, REQUIRED, more_of, problems, with};

#[test]
fn a_page_on_plain_http_elsewhere_than_on_localhost_is_warned_of() {
    let warned = |host: &str, more: &str| {
        let text = more_of(more).replace("http://localhost:8080", host);
        let (_, warnings) = config::parse(&text, "config.yaml").unwrap();
        warnings.iter().map(ToString::to_string).find(|said| said.contains("Secure Connection Required"))
    };
    for host in
        ["http://127.0.0.1:8080", "http://meet.example.com", "HTTP://10.0.0.1", "http://x.localhost", "http://[::1]"]
    {
        assert!(warned(host, "").is_some_and(|said| said.contains("plugNmeet_info.host")), "{host}");
    }
    for host in ["http://localhost", "http://localhost:8080/", "https://127.0.0.1"] {
        assert_eq!(warned(host, ""), None, "{host}");
    }
    // What counts is where meetings are joined.
    let join = |url: &str| format!("plugNmeet_info.join_host: {url}/?access_token=");
    assert_eq!(warned("http://10.0.0.1", &join("https://meet.example.com")), None);
    let said = warned("https://meet.example.com", &join("http://meet.example.com")).unwrap();
    assert!(said.contains("plugNmeet_info.join_host"), "{said}");
}

#[test]
fn a_join_host_behind_which_no_token_can_stand_is_a_problem() {
    let said = |url: &str| problems(&more_of(&format!("plugNmeet_info.join_host: {url}")));
    for (url, found) in [
        ("https://meet.example.com", "found \"https://meet.example.com\" without a parameter"),
        ("https://meet.example.com/join", "found \"https://meet.example.com/join\" without a parameter"),
        ("https://meet.example.com/?access_token", "found \"https://meet.example.com/\" with parameters"),
        (
            "https://meet.example.com/?access_token=hunter2hunter2",
            "found \"https://meet.example.com/\" with parameters",
        ),
        ("https://meet.example.com/?access_token=&design=1", "found \"https://meet.example.com/\" with parameters"),
    ] {
        let said = said(url);
        assert!(said.contains(&format!(": plugNmeet_info.join_host: {found}")) && said.contains("  line "), "{said}");
        assert!(
            said.contains("must end like https://meet.example.com/?access_token=") && !said.contains("hunter2"),
            "{said}"
        );
    }
    for url in
        ["https://m.example.com/?design=1&access_token=", "https://m.example.com/x?token=", "https://m/#access_token="]
    {
        let text = more_of(&format!("plugNmeet_info.join_host: '{url}'"));
        let (_, warnings) = config::parse(&text, "config.yaml").unwrap();
        assert_eq!(
            warnings.iter().any(|warning| warning.key.ends_with("join_host")),
            url.contains("?token"),
            "{warnings:?}"
        );
    }
}

#[test]
fn many_problems_are_reported_at_once() {
    insta::assert_snapshot!(problems(
        "
recorder:
  id: node.01
  mode: recorder
  max_limit: ten
  debug: maybe
  width: 1921
  xvfb_dpi: [96]
  transcoding_cpu_limit_both_mode: 180
  max_limit: 5
  post_processing_timeout: soon
  post_processing_scripts: ./a.sh
  copy_to_path:
    sub_path: ../elsewhere
log_settings: verbose
ffmpeg_settings:
  recording:
    post_input: \"-vf 'crop\"
    pre_input: {loglevel: error}
chrome_settings:
  flags:
    - name: \"--\"
    - value: 1
plugNmeet_info:
  host: meet.example.com
  api_key:
  api_secret: [correct, horse]
  join_host: ftp://meet.example.com/?access_token=
nats_info:
  nats_urls:
    - http://127.0.0.1:4222
    - nats://user:battery@nats:port
    - 7: x
  recorder:
    recorder_info_kv: pnm.info
hooks:
  post_recording:
    pool_size: many
    scripts:
      - is_one_shot: perhaps
"
    ));
}

#[test]
fn a_reserve_or_a_limit_that_cannot_be_meant_is_explained() {
    insta::assert_snapshot!(problems(&more_of(
        "recorder.min_free_space: 5000\nrecorder.drain_timeout: sometimes\nrecorder.max_duration: 1y\nrecorder.end_when_idle: -5m\nrecorder.rejoin_for: 2days"
    )));
    for (spelled, said) in [("lots", "5GiB or 500MB"), ("120%", "from 0% to 90%"), ("[5GiB]", "a size is expected")] {
        let found = problems(&more_of(&format!("recorder.min_free_space: {spelled}")));
        assert!(found.contains("recorder.min_free_space") && found.contains(said), "{found}");
    }
}

#[test]
fn who_may_drain_the_node_is_said_in_one_safe_way() {
    let without = |listen: &str| more_of(&format!("admin.listen: \"{listen}\"\nadmin.allow_drain_without_token: true"));
    for listen in ["0.0.0.0:8089", "10.0.0.1:8089", "[::]:8089", "[fd00::1]:8089"] {
        let found = problems(&without(listen));
        assert!(found.contains("everybody who reaches it could drain this node"), "{listen}: {found}");
    }
    for listen in ["127.0.0.1:8089", "127.0.0.2:8089", "[::1]:8089", ""] {
        assert!(config::parse(&without(listen), "config.yaml").is_ok(), "{listen}");
    }
    let both = problems(&more_of("admin.token: a-token-of-16-signs\nadmin.token_file: /etc/token"));
    assert!(both.contains("`admin.token` is given too"), "{both}");
    let blank = problems(&more_of("admin.token: \"a token with blanks\""));
    assert!(blank.contains("an Authorization header cannot hold") && !blank.contains("with blanks\""), "{blank}");
    let warned = |token: &str| {
        let (_, warnings) = config::parse(&more_of(&format!("admin.token: {token}")), "config.yaml").unwrap();
        warnings.iter().any(|warning| warning.to_string().contains("shorter than 16 characters"))
    };
    assert!(warned("fifteen-signs-x") && !warned("sixteen-signs-xy"));
}

#[test]
fn everything_that_is_missing_is_named() {
    insta::assert_snapshot!(problems("recorder:\n  max_limit: 5\nnats_info:\n  nats_urls: []\n"));
    insta::assert_snapshot!(problems("# nothing yet\n"));
    insta::assert_snapshot!(problems("- recorder\n"));
}

#[test]
fn a_syntax_error_has_its_line() {
    insta::assert_snapshot!(problems("recorder:\n  id: node_01\n mode: both\n"));
    insta::assert_snapshot!(problems("recorder:\n\tid: node_01\n"));
}

#[test]
fn placeholders_of_the_reference_sample_are_noticed() {
    let text = REFERENCE
        .replace("https://meet.example.com/\n", "PLUG_N_MEET_SERVER_DOMAIN\n")
        .replace("api_key: plugnmeet", "api_key: PLUG_N_MEET_API_KEY")
        .replace("api_secret: 0123456789", "api_secret: PLUG_N_MEET_SECRET");
    insta::assert_snapshot!(problems(&text));
}

#[test]
fn unknown_keys_are_warned_about_with_the_nearest_known_one() {
    let text = more_of(
        "recorder.max_limt: 5\nrecorder.main_path: /x\nlog_settings.colour: red\nlog_settings.log_output: syslog",
    ) + "max_limit: 5\nplugnmeet_info: {}\nredis_info:\n  host: localhost\n";
    let (_, warnings) = config::parse(&text, "config.yaml").unwrap();
    let misspelt = problems(&text.replace("plugNmeet_info:", "plugNmeet:"));
    assert!(misspelt.contains("plugNmeet: unknown key, ignored; did you mean `plugNmeet_info`?"), "{misspelt}");
    let lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn no_problem_repeats_a_secret() {
    for secret in
        ["[hunter2hunter2]", "{k: hunter2hunter2}", "\"hunter2hunter2\\n\"", "\"hunter2hunter2\": x", "*hunter2hunter2"]
    {
        let text = REQUIRED.replace("change-me-to-the-api-secret-of-the-server", secret) + "recorder:\n";
        let said = problems(&text);
        assert!(!said.contains("hunter2"), "{said}");
    }
    for url in ["nats://u:hunter2hunter2@h:x", "hunter2hunter2@", "ws://hunter2hunter2@h", "nats://h/hunter2hunter2"] {
        let said = problems(&REQUIRED.replace("nats://127.0.0.1:4222", url));
        assert!(!said.contains("hunter2"), "{said}");
    }
    let config = with("");
    assert!(!format!("{config:?}").contains("change-me"));
    let text = REQUIRED.replace("nats://127.0.0.1:4222", "nats://u:hunter2@h:4222");
    let (config, _) = config::parse(&text, "config.yaml").unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(config.secrets()[1..], ["u:hunter2", "hunter2"]);
    let hook = |url: &str| more_of(&format!("hooks.post_recording: [\"http-request {url}\"]"));
    let (config, _) = config::parse(&hook("https://u:hunter2@h/x?key=hunter3"), "config.yaml").unwrap();
    assert!(!format!("{config:?}").contains("hunter"), "{config:?}");
    assert_eq!(config.secrets()[1..], ["u:hunter2", "hunter2", "key=hunter3"]);
    for url in ["ftp://u:hunter2@h/x", "https://u:hunter2@h:x/", "hunter2", ""] {
        let said = problems(&hook(url));
        assert!(said.contains("hooks.post_recording[0]: found") && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_way_out() {
    let error = Config::load(Path::new("/nowhere/config.yaml")).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    insta::assert_snapshot!(error.to_string());
}

#[test]
fn a_damaged_file_is_told_about_and_never_a_panic() {
    let lines: Vec<&str> = REFERENCE.lines().collect();
    for damaged in 0..lines.len() {
        for other in [
            "",
            "  ",
            "- x",
            "\t",
            "'",
            "a: b: c",
            "? [",
            "!!int x",
            "&a *a",
            "<<: 1",
            "\u{0}",
            "key: {a: [1, {b: .nan}]}",
        ] {
            let mut text = lines.clone();
            text[damaged] = other;
            if let Err(problems) = config::parse(&text.join("\n"), "config.yaml") {
                assert!(!problems.list.is_empty(), "line {} as {other:?}", damaged + 1);
            }
        }
    }
    for end in REFERENCE.char_indices().map(|(end, _)| end) {
        let _ = config::parse(&REFERENCE[..end], "config.yaml");
    }
}
