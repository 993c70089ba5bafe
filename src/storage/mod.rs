<<<<<<< HEAD
//! What lies on disk: whole files without ever losing one, and whose the state directory is.

pub mod files;
pub mod lock;
=======
//! What lies on disk: moving whole files without ever losing one, and how much room is left for more.

pub mod files;
pub mod space;
>>>>>>> join
