//! Recordings in an object store while they run (`storage.archive`), so that another node can finish what a dead one began.
//!
//! [`part_upload`] follows the file that ffmpeg writes, cuts it into pieces of some seconds ([`piece_cutter`]) and puts them
//! into the store; [`names`] says what is where. The bytes of all pieces, one after the other, are the file: a part that is
//! put together from them is one as a crash would have left it. A lease ([`handle::Archive::take_over`]) says who may go on
//! with a recording, [`owner_watch`] whose node is gone.
//!
//! Nothing here holds up a recording: the local file is the queue of a store that is slow or away.

pub mod archives;
pub mod description;
pub mod handle;
pub mod lease;
pub mod names;
pub mod owner_watch;
pub mod part_upload;
pub mod piece_cutter;
pub mod rebuild_request;
