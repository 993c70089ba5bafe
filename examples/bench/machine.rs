//! What a measurement was made on.

use std::process::Command;

use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub processor: String,
    pub processors: usize,
    pub system: String,
    pub kernel: String,
    pub ffmpeg: String,
    pub chrome: String,
    /// Whether the recorder was built for speed.
    pub build: &'static str,
}

impl Machine {
    pub fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, key: &str, separator: char| {
            let line = text.lines().find(|line| line.starts_with(key)).map(str::to_owned);
            line.and_then(|line| line.split_once(separator).map(|(_, value)| value.trim().trim_matches('"').to_owned()))
                .unwrap_or_else(|| "unknown".to_owned())
        };
        let chrome = plugnmeet_recorder::capture::browser::chrome_arguments::PROGRAMS
            .iter()
            .find_map(|name| first_line(name, "--version"));
        Self {
            processor: after(&read("/proc/cpuinfo"), "model name", ':'),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            system: after(&read("/etc/os-release"), "PRETTY_NAME", '='),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            ffmpeg: first_line("ffmpeg", "-version")
                .and_then(|line| line.split_whitespace().nth(2).map(str::to_owned))
                .unwrap_or_default(),
            chrome: chrome.unwrap_or_default(),
            build: if cfg!(debug_assertions) { "dev" } else { "release" },
        }
    }

    /// In one line, for people.
    pub fn line(&self) -> String {
        let chrome = self.chrome.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        format!(
            "{} × {}, {}, ffmpeg {}, {chrome}, {} build",
            self.processors, self.processor, self.system, self.ffmpeg, self.build
        )
    }
}

fn first_line(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(|line| line.trim().to_owned())
}
