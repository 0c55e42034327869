//! Static files: the file of a folder that a request is for, its coding, and the head of its response.
//!
//! Here are the names and the fields; opening and reading is the work of the crate `files`. Data flows from the
//! request's path to a [`FilePath`], and from the facts about the opened file to an answer. Nothing here trusts a name:
//! a path that could be read in two ways names no file.

pub mod listing;
pub mod path;
pub mod response;

pub use path::{FilePath, NoFile};
pub use response::{FileAnswer, FileFacts};
