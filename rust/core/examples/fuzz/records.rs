//! Records and sidecars: any bytes are read without a panic, a record that was read is written again to the same bytes,
//! and nothing is accepted that was not written with the seed.

use edgerouter_core::{
    http::{FieldName, header},
    record::{
        Front, Record, RecordKind, checksum,
        frame::{self, Label},
        sidecar::SegmentContents,
        stored,
    },
};

const SEED: u64 = 0x5eed;

fn label(kind: RecordKind) -> Label {
    Label {
        kind,
        sequence: 5,
        last_purge: 6,
        hash: 7,
    }
}

fn framed(parts: (&[u8], &[u8], &[u8]), body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write_front(&mut out, SEED, label(RecordKind::OBJECT), parts, [body]).unwrap();
    out.extend_from_slice(body);
    out
}

/// The bytes as a record, as the inside of one, and as the key of another.
pub(crate) fn record(data: &[u8]) {
    let _ = Front::length(data);
    let _ = Front::read(SEED, data);
    if let Ok(Record { front, body }) = Record::read(SEED, data) {
        let mut again = Vec::new();
        let parts = (front.key, front.tags, front.head);
        frame::write_front(&mut again, SEED, front.label, parts, [body]).unwrap();
        let fixed = frame::STATE_AT as usize;
        assert_eq!(again.get(..fixed), data.get(..fixed));
        assert_eq!(again.get(fixed + 2..), data.get(fixed + 2..again.len()));
        assert!(Record::read(SEED + 1, data).is_err());
    }
    let (key, body) = data.split_at(data.len() / 2);
    let whole = framed((key, b"", body), data);
    let read = Record::read(SEED, &whole).unwrap();
    assert_eq!((read.front.key, read.body), (key, data));
    if let Ok(head) = stored::read_head(data) {
        let mut again = Vec::new();
        stored::write_head(&mut again, &(&head).into()).unwrap();
        assert_eq!(stored::read_head(&again).unwrap(), head);
    }
    if let Ok((viewer, tags)) = stored::read_facts(data) {
        let mut again = Vec::new();
        stored::write_facts(&mut again, viewer, &tags).unwrap();
        assert_eq!(again, data);
    }
    if let Ok((names, nonce)) = stored::read_variants(data) {
        let mut again = Vec::new();
        stored::write_variants(&mut again, &names, nonce).unwrap();
        assert_eq!(stored::read_variants(&again).unwrap(), (names, nonce));
    }
}

/// The bytes as a sidecar, and as one whose checksums are right.
pub(crate) fn sidecar(data: &[u8]) {
    let mut mended = data.to_vec();
    for bytes in [data, mend(&mut mended)] {
        if let Ok((head, contents)) = SegmentContents::read(SEED, bytes) {
            for line in contents.lines() {
                assert!(u64::from(line.offset) + u64::from(line.length) <= head.segment_bytes);
                let _ = contents.names(line);
            }
            let again = contents.write(SEED, head.segment_bytes);
            assert_eq!(
                SegmentContents::read(SEED, &again).unwrap().1.lines(),
                contents.lines()
            );
        }
    }
}

/// Corrects lengths and checksums, so that mutated inputs reach the code behind these checks.
fn mend(bytes: &mut [u8]) -> &[u8] {
    use edgerouter_core::record::sidecar::{FIXED_BYTES, LINE_BYTES};
    let Some(behind) = bytes.len().checked_sub(FIXED_BYTES) else {
        return bytes;
    };
    let lines = behind / LINE_BYTES / 2 * LINE_BYTES;
    let sums = bytes
        .get(FIXED_BYTES..)
        .and_then(|rest| rest.split_at_checked(lines))
        .map(|(lines, names)| (checksum(SEED, lines), checksum(SEED, names)));
    let Some((lines_sum, names_sum)) = sums else {
        return bytes;
    };
    let mut put = |at: usize, number: u64| {
        if let Some(place) = bytes.get_mut(at..at + 8) {
            place.copy_from_slice(&number.to_le_bytes());
        }
    };
    put(16, (lines / LINE_BYTES) as u64);
    put(24, (behind - lines) as u64);
    put(32, lines_sum);
    put(40, names_sum);
    let sum = checksum(SEED, bytes.get(..FIXED_BYTES - 8).unwrap_or_default());
    if let Some(place) = bytes.get_mut(FIXED_BYTES - 8..FIXED_BYTES) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
    bytes
}

pub(crate) fn records() -> Vec<Vec<u8>> {
    let mut variants = Vec::new();
    let names = [header::ACCEPT_ENCODING].map(FieldName::known);
    stored::write_variants(&mut variants, &names, 9).unwrap();
    let mut head = vec![200, 0, 0, 0];
    head.extend_from_slice(&[1; 32]);
    head.extend_from_slice(&[0, 0, 1, 0, 4, 0]);
    head.extend_from_slice(b"x-ab\x02\0\0\0ok");
    vec![
        framed((b"key", b"tag", &head), b"body"),
        framed((b"", b"", &variants), b""),
        head,
        variants,
    ]
}

pub(crate) fn sidecars() -> Vec<Vec<u8>> {
    let mut contents = SegmentContents::default();
    for at in 0..4u32 {
        let names = (&b"a key"[..], &b"a tag"[..]);
        contents
            .push(label(RecordKind(at as u8)), (at * 64, 64), names)
            .unwrap();
    }
    vec![
        contents.write(SEED, 256),
        SegmentContents::default().write(SEED, 0),
    ]
}
