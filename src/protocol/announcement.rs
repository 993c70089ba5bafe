//! A recorder's announcement in the NATS bucket, as the server reads it (PROTOCOL 2).

use crate::protocol::ids::RecorderId;

/// The fields of one recorder; their keys are `recorder_<id>-FIELD_<n>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnouncementField {
    MaxLimit = 0,
    LastPing = 1,
    TotalCores = 2,
    CurrentProgress = 3,
    CpuScore = 4,
}

impl AnnouncementField {
    pub const ALL: [Self; 5] =
        [Self::MaxLimit, Self::LastPing, Self::TotalCores, Self::CurrentProgress, Self::CpuScore];

    /// The key of this field for `recorder`.
    #[must_use]
    pub fn key(self, recorder: &RecorderId) -> String {
        format!("recorder_{recorder}-FIELD_{}", self as u8)
    }
}

/// The key that names the holder of the id. It is this program's own: the server ignores the field, but forgets the
/// recorder when the key is purged, as with each of them.
#[must_use]
pub fn holder_key(recorder: &RecorderId) -> String {
    format!("recorder_{recorder}-FIELD_100")
}

/// Processor load, 0…1, with four decimals, as the server expects it.
#[must_use]
pub fn cpu_score(load: f64) -> String {
    format!("{:.4}", if load.is_finite() { load.clamp(0.0, 1.0) } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_as_the_server_reads_them() {
        let id = RecorderId::parse("node_01").unwrap();
        assert_eq!(AnnouncementField::MaxLimit.key(&id), "recorder_node_01-FIELD_0");
        assert_eq!(AnnouncementField::CpuScore.key(&id), "recorder_node_01-FIELD_4");
        assert_eq!(holder_key(&id), "recorder_node_01-FIELD_100");
        assert_eq!(cpu_score(0.123_456), "0.1235");
        assert_eq!(cpu_score(7.0), "1.0000");
        assert_eq!(cpu_score(f64::NAN), "1.0000");
    }
}
