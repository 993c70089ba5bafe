//! Condenses the last output of ffmpeg or ffprobe to the cause of a failure. Pure.

/// Size limits of a cause in lines and characters.
const CAUSE_LINES: usize = 4;
const CAUSE_CHARS: usize = 400;

/// The cause of a failure: the end of a program's output, without memory addresses, repetitions and empty phrases.
#[must_use]
pub fn condense(lines: &[String]) -> Option<String> {
    let mut causes: Vec<String> = Vec::new();
    for line in lines {
        let line = without_address(line.trim());
        // Lines of ffmpeg that give no cause.
        let empty =
            line.is_empty() || line == "Conversion failed!" || line.starts_with("Error opening output file file:");
        if !empty && !causes.contains(&line) {
            causes.push(line);
        }
    }
    let last = causes.split_off(causes.len().saturating_sub(CAUSE_LINES)).join("; ");
    (!last.is_empty()).then(|| last.chars().take(CAUSE_CHARS).collect())
}

/// `[mov,mp4 @ 0x55d5c8] text` → `[mov,mp4] text`.
fn without_address(line: &str) -> String {
    if let Some((before, after)) = line.split_once(" @ 0x")
        && before.starts_with('[')
        && let Some((_, text)) = after.split_once(']')
    {
        return format!("{before}]{text}");
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_the_end_of_the_output() {
        let lines = [
            "one",
            "[mov,mp4 @ 0x55d5] moov atom not found",
            "[mov,mp4 @ 0x77] moov atom not found",
            "two",
            "three",
            "Conversion failed!",
        ];
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        assert_eq!(condense(&lines[1..]).unwrap(), "[mov,mp4] moov atom not found; two; three");
        assert_eq!(condense(&[]), None);
        assert_eq!(condense(&["x".repeat(5000)]).unwrap().len(), CAUSE_CHARS);
    }
}
