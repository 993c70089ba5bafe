//! All known keys, and suggestions for unknown ones.

/// In the order of `config_sample.yaml`; `[]` stands for any item of a list.
pub const KEYS: &[&str] = &[
    "recorder.id",
    "recorder.mode",
    "recorder.max_limit",
    "recorder.max_load",
    "recorder.cpu_overload_limit",
    "recorder.debug",
    "recorder.post_mp4_convert",
    "recorder.transcoding_cpu_limit_both_mode",
    "recorder.width",
    "recorder.height",
    "recorder.xvfb_dpi",
    "recorder.temporary_dir",
    "recorder.state_dir",
    "recorder.copy_to_path.main_path",
    "recorder.copy_to_path.sub_path",
    "recorder.copy_to_path.reference_sub_paths",
    "recorder.post_processing_scripts",
    "recorder.post_processing_timeout",
    "recorder.silence_warning",
    "recorder.self_test",
    "recorder.min_free_space",
    "recorder.drain_timeout",
    "recorder.max_duration",
    "recorder.end_when_idle",
    "recorder.rejoin_for",
    "recorder.custom_chrome_path",
    "transcoder.max_jobs",
    "transcoder.max_wait",
    "transcoder.nice",
    "log_settings.log_file",
    "log_settings.maxsize",
    "log_settings.max_size",
    "log_settings.maxbackups",
    "log_settings.max_backups",
    "log_settings.maxage",
    "log_settings.max_age",
    "log_settings.log_level",
    "log_settings.log_output",
    "log_settings.log_format",
    "ffmpeg_settings.one_pass",
    "ffmpeg_settings.early_mp4_from_mb",
    "ffmpeg_settings.profile",
    "ffmpeg_settings.recording.pre_input",
    "ffmpeg_settings.recording.post_input",
    "ffmpeg_settings.post_recording.pre_input",
    "ffmpeg_settings.post_recording.post_input",
    "ffmpeg_settings.rtmp.pre_input",
    "ffmpeg_settings.rtmp.post_input",
    "rtmp.adaptive",
    "rtmp.reconnect_for",
    "rtmp.allowed_hosts",
    "chrome_settings.custom_chrome_path",
    "chrome_settings.flags[].name",
    "chrome_settings.flags[].value",
    "plugNmeet_info.host",
    "plugNmeet_info.api_key",
    "plugNmeet_info.api_secret",
    "plugNmeet_info.join_host",
    "plugNmeet_info.ca_file",
    "nats_info.nats_urls",
    "nats_info.num_replicas",
    "nats_info.recorder.recorder_channel",
    "nats_info.recorder.recorder_info_kv",
    "nats_info.recorder.transcoding_jobs_subject",
    "hooks.post_recording.pool_size",
    "hooks.post_recording.hook_timeout",
    "hooks.post_recording.scripts[].script",
    "hooks.post_recording.scripts[].is_one_shot",
    "hooks.pre_transcoding.pool_size",
    "hooks.pre_transcoding.hook_timeout",
    "hooks.pre_transcoding.scripts[].script",
    "hooks.pre_transcoding.scripts[].is_one_shot",
    "hooks.post_transcoding.pool_size",
    "hooks.post_transcoding.hook_timeout",
    "hooks.post_transcoding.scripts[].script",
    "hooks.post_transcoding.scripts[].is_one_shot",
    "admin.listen",
    "admin.token",
    "admin.token_file",
    "admin.allow_drain_without_token",
    "storage.deliver",
    "storage.keep_local",
    "storage.hooks_secret",
    "storage.raw",
    "storage.archive",
    "storage.archive_keep",
    "storage.takeover_after",
    "storage.fail",
    "storage.rules[].room",
    "storage.rules[].deliver",
    "storage.rules[].keep_local",
    "storage.rules[].archive",
    "hls.renditions[].height",
    "hls.renditions[].crf",
    "hls.renditions[].bitrate",
    "hls.segment",
    "hls.live",
];

/// Whether `path` (`hooks.post_recording.scripts[]` or a complete key) is one of [`KEYS`] or a prefix of one.
pub(super) fn is_known(path: &str) -> bool {
    KEYS.iter().any(|key| {
        key.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with('['))
    })
}

/// The key that was probably meant by the unknown `key` in `section` (empty at the top level), as the end of a warning.
pub(super) fn suggestion(section: &str, key: &str) -> Option<String> {
    let elsewhere: Vec<&str> = sections_of(key).into_iter().filter(|other| *other != section).collect();
    // A key in more than two sections (`pre_input` is in three) gets no suggestion here.
    match elsewhere.as_slice() {
        [] => {}
        [""] => return Some(format!("`{key}` belongs at the top level, without indentation")),
        [one] => return Some(format!("it belongs under `{one}`")),
        [one, two, ..] => return Some(format!("it belongs under `{one}` or `{two}`")),
    }
    let (best, distance) = names()
        .into_iter()
        .map(|(home, name)| {
            let distance = distance(&plain(key), &plain(name));
            // A key of the same section wins over another one at the same distance.
            ((home, name), distance * 2 + usize::from(home != section))
        })
        .min_by_key(|(_, distance)| *distance)?;
    // At most a third of the letters and three of them may differ; otherwise it is another word.
    if distance / 2 > (key.chars().count() / 3).clamp(1, 3) {
        return None;
    }
    Some(match best {
        (home, name) if home == section => format!("did you mean `{name}`?"),
        ("", name) => format!("did you mean `{name}` at the top level?"),
        (home, name) => format!("did you mean `{name}` under `{home}`?"),
    })
}

/// Number of typing errors between two names; an abbreviation (`plugNmeet`) counts as one.
fn distance(key: &str, name: &str) -> usize {
    if key.len() >= 4 && name.starts_with(key) { 1 } else { strsim::damerau_levenshtein(key, name) }
}

/// Lower case without separators: `maxLimit`, `max-limit` and `max_limit` are equal.
fn plain(key: &str) -> String {
    key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// The sections that have a key with exactly this name.
fn sections_of(key: &str) -> Vec<&'static str> {
    names().into_iter().filter(|(_, name)| *name == key).map(|(home, _)| home).collect()
}

/// All names of the file with their sections: `recorder.copy_to_path` and `main_path`, an empty section and `recorder`,
/// and so on.
fn names() -> Vec<(&'static str, &'static str)> {
    let mut names = Vec::new();
    for key in KEYS {
        let mut path = *key;
        loop {
            let (home, name) = path.rsplit_once('.').unwrap_or(("", path));
            let pair = (home, name.trim_end_matches("[]"));
            if !names.contains(&pair) {
                names.push(pair);
            }
            if home.is_empty() {
                break;
            }
            path = home;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_gets_the_right_suggestion() {
        for (section, key, expected) in [
            ("recorder", "max_limt", "did you mean `max_limit`?"),
            ("recorder", "maxLimit", "did you mean `max_limit`?"),
            ("", "plugnmeet_info", "did you mean `plugNmeet_info`?"),
            ("", "plugNmeet", "did you mean `plugNmeet_info`?"),
            ("log_settings", "log-level", "did you mean `log_level`?"),
            ("", "max_limit", "it belongs under `recorder`"),
            ("recorder", "main_path", "it belongs under `recorder.copy_to_path`"),
            ("recorder", "log_settings", "`log_settings` belongs at the top level, without indentation"),
            ("", "custom_chrome_path", "it belongs under `recorder` or `chrome_settings`"),
            ("plugNmeet_info", "nats_url", "did you mean `nats_urls` under `nats_info`?"),
        ] {
            assert_eq!(suggestion(section, key).as_deref(), Some(expected), "{section}.{key}");
        }
    }

    #[test]
    fn an_unrelated_word_gets_no_suggestion() {
        for key in ["redis_info", "colour", "x", ""] {
            assert_eq!(suggestion("recorder", key), None, "{key}");
        }
    }

    #[test]
    fn a_path_to_a_key_is_known() {
        for path in
            ["recorder", "hooks.post_recording.scripts[]", "hooks.post_recording.scripts", "nats_info.nats_urls"]
        {
            assert!(is_known(path), "{path}");
        }
        for path in ["record", "recorder.max", "hooks.scripts"] {
            assert!(!is_known(path), "{path}");
        }
    }
}
