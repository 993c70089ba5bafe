//! The section `hooks`: for now only whether it is sound and names a script (PROTOCOL 7).

use std::time::Duration;

use super::reader::{Field, Section};

/// The default of the reference's recorder.
const HOOK_TIMEOUT: Duration = Duration::from_secs(60 * 60);
const HOOK_TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Whether any script is named.
pub(super) fn read(root: &Section<'_>) -> bool {
    let section = root.section("hooks");
    let mut any = false;
    for stage in ["post_recording", "pre_transcoding", "post_transcoding"] {
        if let Some(field) = section.field(stage) {
            any |= read_stage(&section, stage, &field);
        }
    }
    any
}

/// Either a list of scripts (the older form) or a section with `scripts`.
fn read_stage(hooks: &Section<'_>, stage: &str, field: &Field<'_>) -> bool {
    if let Some(items) = field.items() {
        return items.iter().filter(|item| item.text("the path of a script").is_some()).count() > 0;
    }
    let section = hooks.section(stage);
    section.whole("pool_size", 0..=1000, 1);
    section.duration("hook_timeout", Duration::ZERO..=HOOK_TIMEOUT_MAX, HOOK_TIMEOUT);
    let mut any = false;
    for item in section.list("scripts") {
        let Some(script) = item.section() else { continue };
        let path = script.required("script", "the path of a script, or `http-request URL`, is required");
        any |= path.and_then(|path| path.text("a text")).is_some();
        script.flag("is_one_shot", false);
    }
    any
}
