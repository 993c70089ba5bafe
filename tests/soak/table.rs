//! The ledger as it is printed.

use std::fmt::{self, Write as _};

use super::ledger::{Evidence, Ledger, MEMORY_LIMIT, Outcome, Sample};

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Evidence { seed, faults, loose, processes, kills, terms, .. } = &self.evidence;
        writeln!(f, "\nasked at  recording      parts  film (at least)   outcome")?;
        for row in &self.rows {
            let film = row.seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}"));
            let mut outcome = match &row.outcome {
                Outcome::Delivered => "delivered".to_owned(),
                Outcome::Failed(why) => format!("failed: {why}"),
                Outcome::Refused(why) => format!("refused: {why}"),
                Outcome::Unanswered { taken_on: true } => {
                    "no answer reached the server, but it was taken on".to_owned()
                }
                Outcome::Unanswered { taken_on: false } => "no answer reached the server".to_owned(),
            };
            if !row.cause.is_empty() && row.outcome == Outcome::Delivered {
                write!(outcome, "; ended: {}", row.cause)?;
            }
            if row.twice > 0 {
                write!(outcome, "; {} told twice, beside a kill", row.twice)?;
            }
            let (asked, id, parts, least) = (row.asked_at, &row.id, row.parts, row.at_least);
            writeln!(f, "{asked:6.1} s  {id:<14} {parts:>5}  {film:>6} ({least:6.1})   {outcome}")?;
            for problem in &row.problems {
                writeln!(f, "          UNACCOUNTED FOR: {problem}")?;
            }
        }
        let struck: Vec<String> = faults.iter().map(|(fault, times)| format!("{fault} {times}")).collect();
        writeln!(f, "\nfaults       {}", struck.join(", "))?;
        writeln!(f, "daemon       killed {} times, told to end {} times", kills.len(), terms.len())?;
        write!(f, "{}", memory(&self.evidence.memory))?;
        for one in loose {
            writeln!(f, "LEFT OR WRONG {one}")?;
        }
        for one in processes {
            writeln!(f, "LEAKED       {one}")?;
        }
        let delivered = self.count(|outcome| *outcome == Outcome::Delivered);
        let failed = self.count(|outcome| matches!(outcome, Outcome::Failed(_)));
        let unaccounted = self.unaccounted();
        writeln!(
            f,
            "not counted  {} refused, {} unanswered\n\
             seed {seed}: {} recordings started = {delivered} delivered + {failed} failed with a reason + \
             {unaccounted} unaccounted for; {} leaked processes",
            self.count(|outcome| matches!(outcome, Outcome::Refused(_))),
            self.count(|outcome| matches!(outcome, Outcome::Unanswered { .. })),
            delivered + failed + unaccounted,
            processes.len()
        )
    }
}

/// A line for each life of the daemon: first and last where it had as many recordings as most of the time.
fn memory(samples: &[Sample]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "MiB with one decimal")]
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut text = String::new();
    for life in samples.chunk_by(|one, next| one.life == next.life) {
        let times = |sample: &&Sample| life.iter().filter(|other| other.running == sample.running).count();
        let Some(usual) = life.iter().max_by_key(times) else { continue };
        let alike: Vec<u64> = life.iter().filter(|one| one.running == usual.running).map(|one| one.bytes).collect();
        let most = life.iter().map(|one| one.bytes).max().unwrap_or(0);
        let (first, last) = (alike.first().copied().unwrap_or(0), alike.last().copied().unwrap_or(0));
        let line = format!(
            "memory       life {:>2}, with {} recordings: first {:.1}, last {:.1} MiB ({} samples); most of all {:.1} MiB{}\n",
            usual.life,
            usual.running,
            mib(first),
            mib(last),
            alike.len(),
            mib(most),
            if most > MEMORY_LIMIT { ": TOO MUCH" } else { "" }
        );
        text.push_str(&line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_compared_where_as_much_is_done() {
        let sample = |life, running, mib: u64| Sample { life, running, bytes: mib << 20 };
        let text = memory(&[sample(0, 0, 20), sample(0, 2, 60), sample(0, 2, 61), sample(1, 1, 151)]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].contains("with 2 recordings: first 60.0, last 61.0 MiB (2 samples); most of all 61.0"),
            "{text}"
        );
        assert!(lines[1].ends_with("TOO MUCH"), "{text}");
    }
}
