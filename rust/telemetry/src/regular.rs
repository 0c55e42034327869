//! Regular files, opened without waiting.
//!
//! Opening a pipe waits for a program that writes into it (fifo(7)), and a device may have no end. A path of the
//! configuration that leads to one of them is refused, and holds no thread.

use std::{
    fs::{File, FileType, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

/// `O_NONBLOCK` of Linux. Reading a regular file does not depend on it.
const NONBLOCK: i32 = 0o4000;

/// Opens a file for reading. Folders, pipes, sockets and devices are errors that name what is there.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(NONBLOCK)
        .open(path);
    let found = match &opened {
        Ok(file) => file.metadata(),
        // Sockets cannot be opened, and the system says that there is no device.
        Err(_) => std::fs::metadata(path),
    };
    if let Some(kind) = found
        .as_ref()
        .ok()
        .and_then(|found| other(found.file_type()))
    {
        let why = format!("it is {kind}; name a regular file");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok((opened?, found?))
}

/// Reads a file of up to `most` bytes whole.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, about) = open(path)?;
    let mut bytes = Vec::new();
    if about.len() <= most {
        file.take(most + 1).read_to_end(&mut bytes)?;
    }
    if about.len().max(bytes.len() as u64) > most {
        let why = format!("it is larger than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// The name of a kind of files that is not regular.
fn other(kind: FileType) -> Option<&'static str> {
    match kind {
        _ if kind.is_file() => None,
        _ if kind.is_dir() => Some("a folder"),
        _ if kind.is_fifo() => Some("a pipe"),
        _ if kind.is_socket() => Some("a socket"),
        _ => Some("a device"),
    }
}
