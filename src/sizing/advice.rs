//! From what was measured to what is advised: table, recommendation, JSON. Pure.

use serde_json::{Value, json};

use crate::cli::size::Scene;
use crate::sizing::search::SearchEnd;
use crate::sizing::window::Window;
use crate::storage::disk_space::ByteSize;

/// Four fifths of what holds: real meetings differ from the scenes and from each other, and each opening of a Chrome takes a
/// processor for seconds.
const RECOMMENDED: (u32, u32) = (4, 5);
/// Columns are this far apart.
const GAP: &str = "   ";

/// What was found of a scene.
#[derive(Clone, Debug, PartialEq)]
pub struct SceneResult {
    pub scene: Scene,
    /// The largest number that holds; `None`: not even one.
    pub held: Option<Window>,
    /// The smallest number that does not hold.
    pub failed: Option<Window>,
    pub end: SearchEnd,
    pub transcoding: Option<TranscodingResult>,
}

/// What holds while MP4s are made beside the recordings.
#[derive(Clone, Debug, PartialEq)]
pub struct TranscodingResult {
    pub held: Option<Window>,
    pub failed: Option<Window>,
    /// ffmpegs that ran at once.
    pub jobs: usize,
    /// Seconds of a recording that they turned into MP4s in a second, together, beside as many as hold.
    pub speed: f64,
}

fn number(window: Option<&Window>) -> u32 {
    window.map_or(0, |window| window.recordings)
}

/// `max_limit` where so many hold; 0 where none does.
#[must_use]
pub fn recommended(held: u32) -> u32 {
    let (part, whole) = (u64::from(RECOMMENDED.0), u64::from(RECOMMENDED.1));
    let share = u32::try_from(u64::from(held) * part / whole).unwrap_or(u32::MAX);
    share.max(held.min(1))
}

impl SceneResult {
    /// `max_limit` of a node that only records.
    #[must_use]
    pub fn recording(&self) -> u32 {
        recommended(number(self.held.as_ref()))
    }

    /// `max_limit` of this node: beside transcodes where they were measured.
    #[must_use]
    pub fn max_limit(&self) -> u32 {
        self.transcoding.as_ref().map_or(self.recording(), |beside| recommended(number(beside.held.as_ref())))
    }

    /// What one more was like.
    fn at_more(&self) -> String {
        let at =
            |window: &Window| format!("{} lose {}", window.recordings, window.fault()).replace("1 lose ", "1 loses ");
        let held = number(self.held.as_ref());
        match (&self.failed, &self.end) {
            (Some(failed), SearchEnd::Full) => at(failed),
            (_, SearchEnd::NotStarted(_)) => "one more does not start".to_owned(),
            (_, SearchEnd::Memory) => "no memory for one more".to_owned(),
            (_, SearchEnd::Most) => format!("more than {held} not tried"),
            (Some(failed), _) => format!("{}; time over", at(failed)),
            (None, _) => "time over, may hold more".to_owned(),
        }
    }

    fn row(&self) -> [String; 7] {
        let needs = self.held.as_ref().map(|window| window.needs);
        let beside = self.transcoding.as_ref().map_or_else(
            || "-".to_owned(),
            |beside| format!("{} (held {})", self.max_limit(), number(beside.held.as_ref())),
        );
        [
            self.scene.name().to_owned(),
            number(self.held.as_ref()).to_string(),
            self.at_more(),
            needs.map_or_else(|| "-".to_owned(), |needs| format!("{:.2}", needs.cores)),
            needs.map_or_else(|| "-".to_owned(), |needs| ByteSize(needs.memory).to_string()),
            self.recording().to_string(),
            beside,
        ]
    }

    fn json(&self) -> Value {
        let ended = match &self.end {
            SearchEnd::Full => "full",
            SearchEnd::Most => "most",
            SearchEnd::Memory => "memory",
            SearchEnd::NotStarted(_) => "not_started",
            SearchEnd::Time => "time",
        };
        json!({
            "scene": self.scene.name(),
            "held": number(self.held.as_ref()),
            "ended_by": ended,
            "at_held": self.held,
            "at_more": self.failed,
            "max_limit": self.recording(),
            "with_transcoding": self.transcoding.as_ref().map(|beside| json!({
                "held": number(beside.held.as_ref()),
                "at_held": beside.held,
                "at_more": beside.failed,
                "jobs": beside.jobs,
                "speed": beside.speed,
                "max_limit": self.max_limit(),
            })),
        })
    }
}

/// The number for the configuration: that of the scene that allows the fewest. `None`: one of them allows none, or none was
/// measured.
#[must_use]
pub fn most_cautious(results: &[SceneResult]) -> Option<u32> {
    results.iter().map(SceneResult::max_limit).min().filter(|limit| *limit > 0)
}

/// The lines for people.
#[must_use]
pub fn table(results: &[SceneResult]) -> Vec<String> {
    let names =
        ["scene", "held", "one more", "CPU each", "memory each", "max_limit", "with transcoding"].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(names).chain(results.iter().map(SceneResult::row)).collect();
    let transcodes = results.iter().any(|result| result.transcoding.is_some());
    let columns = if transcodes { 7 } else { 6 };
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let line = |row: &[String; 7]| {
        let cells = row.iter().enumerate().take(columns).map(|(column, cell)| format!("{cell:<0$}", width(column)));
        cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.push(String::new());
    for result in results {
        let name = result.scene.name();
        if let SearchEnd::NotStarted(why) = &result.end {
            lines.push(format!("{name}: one more does not start: {why}"));
        }
        if result.held.is_none() {
            lines.push(format!(
                "{name}: this machine holds no recording of this scene. Give it more processors, end what else runs on it, \
                 or record a smaller picture (recorder.width and height)."
            ));
        }
        if let Some(beside) = &result.transcoding {
            lines.push(match &beside.held {
                Some(held) => {
                    let keeps_up = beside.speed >= f64::from(result.max_limit());
                    let so = if keeps_up { "they keep up" } else { "they wait until fewer run" };
                    format!(
                        "{name}: beside {} recordings, {:.1} s of meetings become MP4s a second: at max_limit {} {so}.",
                        held.recordings,
                        beside.speed,
                        result.max_limit()
                    )
                }
                None => format!(
                    "{name}: no recording holds beside transcoding: leave that to other nodes (recorder.mode: recorderOnly)."
                ),
            });
        }
    }
    lines.push("max_limit is four fifths of what holds: real meetings differ, and each one that begins takes a processor for seconds.".to_owned());
    lines
}

/// `{"max_limit": …, "scenes": […]}`; see docs/size.md.
#[must_use]
pub fn json(results: &[SceneResult], mode: &str, machine: &str) -> Value {
    json!({
        "machine": machine,
        "mode": mode,
        "max_limit": most_cautious(results),
        "scenes": results.iter().map(SceneResult::json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::recording_needs::RecordingNeeds;
    use proptest::prelude::*;

    fn window(recordings: u32, frames_lost: f64) -> Window {
        let needs = RecordingNeeds { cores: 0.3, memory: 300 << 20, ..RecordingNeeds::default() };
        Window { recordings, frames_lost, pace: 1.0, needs, ..Window::default() }
    }

    fn result(scene: Scene, held: u32) -> SceneResult {
        SceneResult {
            scene,
            held: (held > 0).then(|| window(held, 0.0)),
            failed: Some(window(held + 1, 0.043)),
            end: SearchEnd::Full,
            transcoding: None,
        }
    }

    #[test]
    fn the_table_tells_what_holds_and_what_to_set() {
        let mut both = result(Scene::OneWebcam, 6);
        both.transcoding =
            Some(TranscodingResult { held: Some(window(5, 0.0)), failed: Some(window(6, 0.2)), jobs: 1, speed: 2.5 });
        let results = [result(Scene::Slides, 34), both, result(Scene::FourWebcams, 0)];
        let lines = table(&results);
        assert_eq!(
            lines[..4],
            [
                "scene       held   one more                    CPU each   memory each   max_limit   with transcoding",
                "slides      34     35 lose 4 % of the frames   0.30       300 MiB       27          -",
                "1-webcam    6      7 lose 4 % of the frames    0.30       300 MiB       4           4 (held 5)",
                "4-webcams   0      1 loses 4 % of the frames   -          -             0           -",
            ],
            "{lines:#?}"
        );
        assert!(lines.iter().any(|line| line.starts_with("4-webcams: this machine holds no recording of this scene")));
        assert!(lines.iter().any(|line| line == "1-webcam: beside 5 recordings, 2.5 s of meetings become MP4s a second: at max_limit 4 they wait until fewer run."));
        assert_eq!(most_cautious(&results), None);
        assert_eq!(most_cautious(&results[..2]), Some(4));
        assert_eq!(most_cautious(&[]), None);
        let value = json(&results[..2], "both", "this one");
        assert_eq!(value["max_limit"], 4);
        assert_eq!(value["scenes"][1]["with_transcoding"]["max_limit"], 4);
        assert_eq!(value["scenes"][0]["at_more"]["recordings"], 35);
    }

    #[test]
    fn an_end_that_is_not_the_border_is_told_as_what_it_is() {
        let ended = |end| SceneResult { failed: None, end, ..result(Scene::Slides, 3) }.at_more();
        assert_eq!(ended(SearchEnd::Most), "more than 3 not tried");
        assert_eq!(ended(SearchEnd::Memory), "no memory for one more");
        assert_eq!(ended(SearchEnd::Time), "time over, may hold more");
        let result = SceneResult { end: SearchEnd::NotStarted("Xvfb: no".into()), ..result(Scene::Slides, 3) };
        assert!(table(&[result]).contains(&"slides: one more does not start: Xvfb: no".to_owned()));
    }

    proptest! {
        #[test]
        fn a_recommendation_is_below_what_holds_and_one_where_one_holds(held in 0u32..5000) {
            let limit = recommended(held);
            prop_assert!(limit <= held && (limit == 0) == (held == 0));
            prop_assert!(f64::from(limit) <= f64::from(held) * 0.8 || held == 1);
            prop_assert!(recommended(held + 1) >= limit);
        }
    }
}
