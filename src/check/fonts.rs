//! Has Chrome draw characters of several scripts, and looks at their pixels.

use std::time::Duration;

use crate::capture::process_tag;
use crate::check::command::output_of;
use crate::check::glyphs;
use crate::check::place::Place;
use crate::check::programs::find_chrome;
use crate::check::report::Finding;
use crate::config::Config;

/// Draws each character into a canvas, and shows the pixels as hexadecimal numbers, a line for each.
const PAGE: &str = include_str!("fonts.html");
const SLOT: &str = "/*CHARACTERS*/[]";
const BEFORE: &str = "<pre id=\"glyphs\">";
const BEHIND: &str = "</pre>";
/// Chrome takes a second for it, on a machine that is not busy.
const LIMIT: Duration = Duration::from_secs(25);
/// Bytes of its answer, of which each character takes 18 KiB.
const ANSWER: u64 = 2 << 20;

/// The line `fonts`. `sandbox`: whether Chrome's sandbox works here.
pub async fn check(config: &Config, sandbox: bool) -> Finding {
    let drawn = async {
        let chrome = find_chrome(config)?;
        let dir = Place::new().await?;
        let page = dir.path().join("fonts.html");
        let characters = serde_json::to_string(&glyphs::characters().collect::<Vec<_>>()).unwrap_or_default();
        std::fs::write(&page, PAGE.replace(SLOT, &characters))
            .map_err(|error| format!("cannot write {}: {error}", page.display()))?;
        let mut args = ["--headless", "--disable-gpu", "--no-first-run", "--disable-extensions", "--dump-dom"]
            .map(str::to_owned)
            .to_vec();
        if !sandbox {
            args.push("--no-sandbox".to_owned());
        }
        args.push(format!("--user-data-dir={}", dir.path().join(process_tag::PROFILE).display()));
        args.push(format!("file://{}", page.display()));
        // By the last, and by its profile, what is left of a killed check is recognised.
        let env = [("HOME", dir.path()), ("TMPDIR", dir.path()), (process_tag::VARIABLE, dir.path())];
        let dom = output_of(&chrome, args, &env, ANSWER, LIMIT).await?;
        Ok::<_, String>(pixels(&String::from_utf8_lossy(&dom)))
    };
    match drawn.await {
        Ok(pixels) => glyphs::judge(&pixels),
        Err(why) => Finding::fault("fonts", why),
    }
}

/// The pixels of each character, of the page as Chrome shows it.
fn pixels(dom: &str) -> Vec<Vec<u8>> {
    let shown = dom.split_once(BEFORE).and_then(|(_, behind)| Some(behind.split_once(BEHIND)?.0)).unwrap_or_default();
    shown.lines().filter_map(|line| hex::decode(line.trim()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pixels_are_found_in_the_page() {
        assert!(PAGE.contains(SLOT) && PAGE.contains(BEFORE));
        assert_eq!(pixels("<html><pre id=\"glyphs\">00ff\n0a0b</pre></html>"), [vec![0, 255], vec![10, 11]]);
        assert_eq!(pixels("<html>"), Vec::<Vec<u8>>::new());
    }
}
