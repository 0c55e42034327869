//! A folder whose files a route serves.

use std::{path::Path, sync::Arc};

use super::PathPattern;

/// A folder that a route serves.
#[derive(Debug, Clone)]
pub struct FileFolder {
    /// Absolute.
    pub root: Arc<Path>,
    /// The part of the request's path that stands for the folder: begins and ends with `/`.
    pub prefix: Arc<str>,
    /// Name of the file that answers for a folder; `None`: no file does.
    pub index: Option<Arc<str>>,
    /// The file that answers a navigation to a path without a file, for single-page sites; a path in the folder.
    pub fallback: Option<Arc<str>>,
    /// Files beside a file with the same name and `.br`, `.zst` or `.gz` are its codings.
    pub precompressed: bool,
    /// A folder without an index file is answered with the list of its files.
    pub listing: bool,
    /// Names of files whose content never changes.
    pub immutable: Option<PathPattern>,
}
