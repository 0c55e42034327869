//! Visiting every entry on disk, from the sidecars. Reads files: never for a worker.

use std::{fmt, str::FromStr, sync::Arc, time::Instant};

use edgerouter_core::record::{
    RecordKind,
    sidecar::{SegmentContents, SidecarLine},
    stored,
};

use super::{Disk, Inner, form, index::Slot, writer};
use crate::Entry;

/// The data of an entry on disk that is known without reading it.
#[derive(Debug, Clone, Copy)]
pub struct Meta<'a> {
    /// The kind of its content.
    pub kind: RecordKind,
    /// The whole cache key.
    pub key: &'a [u8],
    /// Number of the newest purge when it was stored.
    pub last_purge: u64,
    /// The path that the viewer requested, if it differs from the one in the key.
    pub viewer: Option<&'a str>,
    /// Hashes of its tags, sorted.
    pub tags: &'a [u64],
    /// Bytes on disk.
    pub bytes: u64,
}

/// A place on disk from which a walk continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskCursor {
    segment: u32,
    line: usize,
}

impl fmt::Display for DiskCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.segment, self.line)
    }
}

impl FromStr for DiskCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (segment, line) = text.split_once('.').ok_or(())?;
        Ok(Self {
            segment: segment.parse().map_err(drop)?,
            line: line.parse().map_err(drop)?,
        })
    }
}

/// A response on disk, from the head of its record.
#[derive(Debug)]
pub struct DiskResponse {
    /// Without its body.
    pub entry: Arc<Entry>,
    /// Bytes of the body in this record.
    pub body_bytes: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

impl Disk {
    /// Visits the data of every entry on disk, or on its way there. Reads the sidecars: not for a worker.
    pub fn scan(&self, mut visit: impl FnMut(&Meta<'_>)) {
        self.scan_slots(|meta, _, _| visit(meta));
    }

    /// Removes every entry that `matches`, and returns their number and bytes. Reads the sidecars: not for a worker.
    /// Does not change memory.
    pub fn remove_where(&self, mut matches: impl FnMut(&Meta<'_>) -> bool) -> (u64, u64) {
        let (mut entries, mut bytes) = (0, 0);
        self.scan_slots(|meta, hash, seen| {
            if !matches(meta) {
                return;
            }
            let same = |slot: Option<&Slot>| match (seen, slot) {
                (Some(seen), Some(slot)) => slot.is(seen),
                (None, slot) => slot.is_none(),
                (Some(_), None) => false,
            };
            if let Some(removed) = self.remove_if(hash, same) {
                entries += 1;
                bytes += removed;
            }
        });
        (entries, bytes)
    }

    fn scan_slots(&self, mut visit: impl FnMut(&Meta<'_>, u64, Option<&Slot>)) {
        let inner = &*self.inner;
        for entry in inner.index.pending() {
            let Some(kind) = form::kind(&entry) else {
                continue;
            };
            let meta = Meta {
                kind,
                key: entry.key(),
                last_purge: entry.last_purge(),
                viewer: entry.viewer(),
                tags: entry.tags(),
                bytes: entry.size(),
            };
            visit(&meta, inner.hash(entry.key()), None);
        }
        let mut each = |id: u32, contents: &SegmentContents| {
            for line in contents.lines() {
                with_meta(inner, id, contents, line, |meta, slot| {
                    visit(meta, line.hash, Some(slot));
                });
            }
        };
        let mut ids: Vec<u32> = inner.sealed.read().keys().copied().collect();
        let active = inner
            .active
            .lock()
            .as_ref()
            .map(|(segment, contents)| (segment.id, contents.clone()));
        if let Some((id, contents)) = active {
            each(id, &contents);
            ids.retain(|&sealed| sealed != id);
        }
        for id in ids {
            if let Ok(contents) = writer::contents(inner, id) {
                each(id, &contents);
            }
        }
    }

    /// Wanted responses from `from` on that memory does not have: at most `most`, and those found by `deadline`.
    /// Returns where to continue; `None` at the end.
    pub fn page(
        &self,
        from: DiskCursor,
        most: usize,
        deadline: Instant,
        wants: impl Fn(&Meta<'_>) -> bool,
    ) -> (Vec<DiskResponse>, Option<DiskCursor>) {
        let inner = &*self.inner;
        let mut found = Vec::new();
        let sealed = inner.sealed.read();
        let mut ids: Vec<u32> = sealed.range(from.segment..).map(|(id, _)| *id).collect();
        drop(sealed);
        let active = inner
            .active
            .lock()
            .as_ref()
            .map(|(segment, contents)| (segment.id, contents.clone()));
        if let Some((id, _)) = &active
            && *id >= from.segment
            && !ids.contains(id)
        {
            ids.push(*id);
        }
        for segment in ids {
            let read;
            let contents = match &active {
                Some((id, contents)) if *id == segment => contents,
                _ => {
                    read = writer::contents(inner, segment);
                    let Ok(contents) = &read else { continue };
                    contents
                }
            };
            let first = if segment == from.segment {
                from.line
            } else {
                0
            };
            for (line, one) in contents.lines().iter().enumerate().skip(first) {
                if found.len() >= most || (line % 256 == 0 && Instant::now() > deadline) {
                    return (found, Some(DiskCursor { segment, line }));
                }
                with_meta(inner, segment, contents, one, |meta, slot| {
                    if meta.kind == RecordKind::OBJECT
                        && inner.memory.peek(meta.key).is_none()
                        && wants(meta)
                    {
                        found.extend(describe(inner, slot, meta.key));
                    }
                });
            }
        }
        (found, None)
    }
}

/// Passes on the data of a line if the index still points at it.
fn with_meta(
    inner: &Inner,
    segment: u32,
    contents: &SegmentContents,
    line: &SidecarLine,
    visit: impl FnOnce(&Meta<'_>, &Slot),
) {
    if matches!(line.kind, RecordKind::REMOVED | RecordKind::PROBE) {
        return;
    }
    let slot = Slot::new(line.hash, segment, line.offset, u64::from(line.length));
    if !inner.index.lock(line.hash).points_at(&slot) {
        return;
    }
    if let Ok((key, tags)) = contents.names(line)
        && let Ok((viewer, tags)) = stored::read_facts(tags)
    {
        let meta = Meta {
            kind: line.kind,
            key,
            last_purge: line.last_purge,
            viewer,
            tags: &tags,
            bytes: slot.length(),
        };
        visit(&meta, &slot);
    }
}

fn describe(inner: &Inner, slot: &Slot, key: &[u8]) -> Option<DiskResponse> {
    /// Usually the head ends within this.
    const FIRST: u64 = 4 << 10;
    let segment = inner.segment(slot.segment)?;
    let mut bytes = segment.read(slot.offset, slot.length().min(FIRST)).ok()?;
    let front = form::front_bytes(&bytes).filter(|front| *front <= slot.length())?;
    if front > bytes.len() as u64 {
        bytes = segment.read(slot.offset, front).ok()?;
    }
    let (entry, body_bytes) = form::read_head(inner.folder.seed, &bytes, key)?;
    Some(DiskResponse {
        entry: Arc::new(entry),
        body_bytes,
        bytes: slot.length(),
    })
}
