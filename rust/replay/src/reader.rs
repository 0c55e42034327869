//! Lines of files, plain or compressed by gzip, in bounded memory.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    ops::ControlFlow,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use flate2::bufread::MultiGzDecoder;

/// Bytes of a line; longer ones are passed over.
pub(crate) const LONGEST: usize = 64 << 10;
const BUFFER: usize = 256 << 10;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A line, or the fact that one was longer than [`LONGEST`].
pub(crate) enum Read1<'a> {
    Line(&'a [u8]),
    TooLong,
}

/// Bytes as they are in the file, counted for the progress.
struct Counted<'p> {
    file: File,
    read: &'p AtomicU64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Gives each line of a file to `take`, without its end, until it breaks.
pub(crate) fn lines(
    file: &Path,
    read: &AtomicU64,
    mut take: impl FnMut(Read1<'_>) -> ControlFlow<()>,
) -> io::Result<()> {
    let file = File::open(file)?;
    let mut plain = BufReader::with_capacity(BUFFER, Counted { file, read });
    if plain.fill_buf()?.starts_with(&GZIP) {
        each(
            &mut BufReader::with_capacity(BUFFER, MultiGzDecoder::new(plain)),
            &mut take,
        )
    } else {
        each(&mut plain, &mut take)
    }
}

fn each(
    reader: &mut impl BufRead,
    take: &mut impl FnMut(Read1<'_>) -> ControlFlow<()>,
) -> io::Result<()> {
    // The begin of a line that the buffer does not hold whole.
    let mut held: Vec<u8> = Vec::new();
    let mut too_long = false;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            if too_long {
                let _ = take(Read1::TooLong);
            } else if !held.is_empty() {
                let _ = take(Read1::Line(without_return(&held)));
            }
            return Ok(());
        }
        let end = memchr::memchr(b'\n', buffer);
        let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or(buffer);
        let consumed = part.len() + usize::from(end.is_some());
        too_long |= held.len() + part.len() > LONGEST;
        let flow = match end {
            None => {
                if !too_long {
                    held.extend_from_slice(part);
                }
                ControlFlow::Continue(())
            }
            Some(_) if too_long => take(Read1::TooLong),
            Some(_) if held.is_empty() => take(Read1::Line(without_return(part))),
            Some(_) => {
                held.extend_from_slice(part);
                take(Read1::Line(without_return(&held)))
            }
        };
        if end.is_some() {
            held.clear();
            too_long = false;
        }
        reader.consume(consumed);
        if flow.is_break() {
            return Ok(());
        }
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_wherever_the_buffer_ends() {
        let long = "x".repeat(LONGEST + 1);
        let text = format!("one\r\n\n{long}\ntwo\n{long}{long}\nthree");
        for capacity in [1, 3, 64, BUFFER] {
            let mut found = Vec::new();
            let mut reader = BufReader::with_capacity(capacity, text.as_bytes());
            let read = each(&mut reader, &mut |line| {
                found.push(match line {
                    Read1::Line(line) => String::from_utf8_lossy(line).into_owned(),
                    Read1::TooLong => "too long".to_owned(),
                });
                ControlFlow::Continue(())
            });
            assert!(read.is_ok());
            assert_eq!(found, ["one", "", "too long", "two", "too long", "three"]);
        }
    }
}
