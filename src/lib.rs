//! plugnmeet-recorder: records plugNmeet meetings and turns the recordings into MP4s.
pub mod protocol;
