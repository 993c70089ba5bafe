//! One configuration file for many nodes: variables of the environment in it.

use std::path::Path;

use plugnmeet_recorder::config::{self, Environment, INTERPOLATED, LoadedConfig};

use super::{REFERENCE, REQUIRED, SAMPLE, more_of};

fn environment() -> Environment {
    let variables = [
        ("HOSTNAME", "recorder-2"),
        ("ENV", "staging"),
        ("NATS", "nats://u:hunter2@n1:4222,nats://n2:4222"),
        ("ODD", "ip-10-0-0-1.example.com/.."),
    ];
    variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn load(text: &str) -> LoadedConfig {
    config::parse_in(text, "config.yaml", &environment()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(text: &str) -> String {
    config::parse_in(text, "config.yaml", &environment()).unwrap_err().to_string()
}

const FLEET: &str = "recorder:
  id: rec-${HOSTNAME}
  temporary_dir: /var/tmp/${HOSTNAME}
  state_dir: ${STATE:-/var/lib/state}/${HOSTNAME}
  copy_to_path: {main_path: '/recordings/${ENV}', sub_path: '${HOSTNAME}'}
log_settings: {log_file: '/var/log/${HOSTNAME}.log'}
plugNmeet_info:
  host: https://${ENV}.example.com
  api_key: ${HOSTNAME}
  api_secret: pa${HOSTNAME}$$ss
nats_info:
  nats_urls:
    - ${NATS}
";

#[test]
fn one_file_serves_many_nodes_by_what_the_environment_says_of_each() {
    let LoadedConfig { config, interpolated, .. } = load(FLEET);
    let recorder = &config.recorder;
    assert_eq!(recorder.id.as_str(), "rec-recorder-2");
    assert_eq!(recorder.temporary_dir, Path::new("/var/tmp/recorder-2"));
    assert_eq!(recorder.state_dir, Path::new("/var/lib/state/recorder-2"));
    assert_eq!(recorder.main_path, Path::new("/recordings/staging"));
    assert_eq!(recorder.sub_path, Path::new("recorder-2"));
    assert_eq!(config.log.file.as_deref(), Some(Path::new("/var/log/recorder-2.log")));
    assert_eq!(config.server.host, "https://staging.example.com");
    assert_eq!(config.nats.urls, ["nats://u:hunter2@n1:4222", "nats://n2:4222"]);
    // Where a `$` may be part of a secret, it stays.
    assert_eq!(config.server.api_key, "${HOSTNAME}");
    assert_eq!(config.server.api_secret, "pa${HOSTNAME}$$ss");

    let told: Vec<_> = interpolated.iter().map(|it| (it.line, it.key.as_str(), it.value.as_str())).collect();
    assert_eq!(
        told,
        [
            (2, "recorder.id", "rec-recorder-2"),
            (3, "recorder.temporary_dir", "/var/tmp/recorder-2"),
            (4, "recorder.state_dir", "/var/lib/state/recorder-2"),
            (5, "recorder.copy_to_path.main_path", "/recordings/staging"),
            (5, "recorder.copy_to_path.sub_path", "recorder-2"),
            (6, "log_settings.log_file", "/var/log/recorder-2.log"),
            (8, "plugNmeet_info.host", "https://staging.example.com"),
            (13, "nats_info.nats_urls[0]", "nats://[redacted]@n1:4222,nats://n2:4222"),
        ]
    );
}

#[test]
fn what_the_environment_lacks_is_a_problem_with_its_line_and_nothing_more_is_said_of_the_value() {
    let text = FLEET.replace("rec-${HOSTNAME}", "${POD_NAME}").replace("- ${NATS}", "- nats://u:hunter2@${NATS_HOST");
    let said = problems(&text);
    assert_eq!(
        said,
        "config.yaml: 2 problems\n  \
         line 2: recorder.id: the environment variable POD_NAME is not set, or empty; set it, or give a default: \
         ${POD_NAME:-default}\n  \
         line 13: nats_info.nats_urls[0]: found `${` without its `}`; ${NAME} or ${NAME:-default} is allowed, and $${ \
         for the two characters"
    );
}

#[test]
fn what_the_environment_gives_is_checked_as_if_it_stood_in_the_file() {
    let said = problems(&FLEET.replace("rec-${HOSTNAME}", "${ODD}").replace("'${HOSTNAME}'", "'${ODD}'"));
    assert!(said.contains("line 2: recorder.id: found \"ip-10-0-0-1.example.com/..\""), "{said}");
    assert!(said.contains("line 5: recorder.copy_to_path.sub_path: found"), "{said}");
    let said = problems(&FLEET.replace("- ${NATS}", "- http${NATS}"));
    assert!(said.contains("line 13: nats_info.nats_urls[0]: found a URL that starts with httpnats://"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn a_dollar_elsewhere_changes_nothing() {
    let text = more_of(
        "recorder.post_processing_scripts: ['/a/${HOSTNAME}.sh']\nffmpeg_settings.post_recording: {post_input: '-vf ${X}'}",
    );
    let LoadedConfig { config, interpolated, .. } = load(&text);
    assert_eq!(config.recorder.post_processing_scripts, [Path::new("/a/${HOSTNAME}.sh")]);
    assert_eq!(config.ffmpeg.post_recording.post_input, ["-vf", "${X}"]);
    assert_eq!(interpolated, []);
    for text in [REFERENCE, SAMPLE, REQUIRED] {
        let (without, _) = config::parse(text, "config.yaml").unwrap();
        assert_eq!(load(text).config, without);
    }
    let text = REQUIRED.replace("node_01", "node").replace("../recording_files", "'/a$b/$$c/$${HOSTNAME}'");
    assert_eq!(load(&text).config.recorder.main_path, Path::new("/a$b/$$c/${HOSTNAME}"));
}

#[test]
fn the_host_name_is_the_kernels_where_the_environment_has_none() {
    // Of this process, which cargo started without a shell's variables or with them: either way there is one.
    let text = REQUIRED.replace("../recording_files", "'/r/${HOSTNAME}'");
    let loaded = config::parse_in(&text, "config.yaml", &Environment::of_process()).unwrap();
    let name = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| rustix::system::uname().nodename().to_str().unwrap().to_owned());
    assert_eq!(loaded.config.recorder.main_path, Path::new("/r").join(name));
}

#[test]
fn the_sample_names_every_setting_that_takes_variables() {
    let list =
        SAMPLE.lines().skip_while(|line| !line.contains("${NAME:-default}")).take(8).collect::<Vec<_>>().join(" ");
    for key in INTERPOLATED {
        let name = key.rsplit('.').next().unwrap();
        assert!(list.contains(name), "{name} is not in: {list}");
    }
}
