//! A JPEG at a half, a quarter or an eighth of its columns and rows: its blocks are transformed to fewer pixels.
//!
//! The decoder of whole images cannot do that. It decides what an image is, and is used wherever this one fails. Where
//! colours have as many pixels as brightness, it takes less time than this one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{DynamicImage, RgbImage};
use jpeg_decoder::{Decoder, PixelFormat};

/// Scans of an image, at most: each may take as long as all pixels do, however few bytes it has. Ten are usual.
const MOST_SCANS: usize = 32;
/// The marker before each scan (T.81, table B.1). Thumbnails in the metadata have it, too.
pub(crate) const START_OF_SCAN: [u8; 2] = [0xFF, 0xDA];

/// True for an image of three channels of which the first, the brightness, has more pixels than the others (T.81,
/// B.2.2).
fn is_subsampled(bytes: &[u8]) -> Option<bool> {
    let mut rest = bytes.get(2..)?;
    loop {
        let (&[0xFF, marker, high, low], _) = rest.split_first_chunk()? else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (segment, after) = rest.get(2..)?.split_at_checked(length)?;
        if matches!(marker, 0xC0..=0xC2) {
            let (channels, sampling) = (segment.get(7)?, segment.get(9)?);
            return Some(*channels == 3 && *sampling != 0x11);
        }
        rest = after;
    }
}

/// Decodes an image of so many columns and rows to `by` times fewer, rounded up; `None` if that is not possible.
pub(crate) fn decode(bytes: &[u8], (columns, rows): (u32, u32), by: u32) -> Option<DynamicImage> {
    if !is_subsampled(bytes)? {
        return None;
    }
    let scans = memchr::memmem::find_iter(bytes, &START_OF_SCAN);
    if scans.take(MOST_SCANS + 1).count() > MOST_SCANS {
        return None;
    }
    let (columns, rows) = (columns.div_ceil(by), rows.div_ceil(by));
    let wanted = (u16::try_from(columns).ok()?, u16::try_from(rows).ok()?);
    let pixels = catch_unwind(AssertUnwindSafe(|| {
        let mut decoder = Decoder::new(bytes);
        // The size is that of the head that was judged, or the image has two heads.
        if decoder.scale(wanted.0, wanted.1).ok()? != wanted {
            return None;
        }
        (decoder.info()?.pixel_format == PixelFormat::RGB24).then_some(())?;
        decoder.decode().ok()
    }))
    .ok()??;
    RgbImage::from_raw(columns, rows, pixels).map(DynamicImage::ImageRgb8)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

    const SIZE: (u32, u32) = (203, 101);

    /// Smooth colours, in several scans if they are progressive.
    fn coded(sampling: SamplingFactor, progressive: bool) -> Vec<u8> {
        let (columns, rows) = SIZE;
        let mut pixels = Vec::new();
        for row in 0..rows {
            for column in 0..columns {
                let colours = [column * 255 / columns, row * 255 / rows, 128];
                pixels.extend(colours.map(|colour| u8::try_from(colour).unwrap()));
            }
        }
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out, 90);
        encoder.set_sampling_factor(sampling);
        encoder.set_progressive(progressive);
        encoder.encode(&pixels, 203, 101, ColorType::Rgb).unwrap();
        out
    }

    fn subsampled(progressive: bool) -> Vec<u8> {
        coded(SamplingFactor::F_2_2, progressive)
    }

    #[test]
    fn pixels_are_the_means_of_those_of_the_whole() {
        for progressive in [false, true] {
            let bytes = subsampled(progressive);
            for by in [2, 4, 8] {
                let reduced = decode(&bytes, SIZE, by).unwrap().into_rgb8();
                let size = (SIZE.0.div_ceil(by), SIZE.1.div_ceil(by));
                assert_eq!(reduced.dimensions(), size);
                // The last columns and rows are means of pixels beside the image, too.
                for (column, row) in [(1, 1), (size.0 / 2, size.1 / 2), (size.0 - 2, 3)] {
                    let middle = |place: u32, of: u32| (place * by + by / 2) * 255 / of;
                    let wanted = [middle(column, SIZE.0), middle(row, SIZE.1), 128];
                    let got = reduced.get_pixel(column, row).0;
                    let off = wanted
                        .iter()
                        .zip(got)
                        .map(|(it, got)| it.abs_diff(u32::from(got)));
                    assert!(
                        off.max() <= Some(6),
                        "{progressive} {by}: {got:?}, not {wanted:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_image_with_as_many_pixels_for_colours_is_left_to_the_other_decoder() {
        assert!(decode(&coded(SamplingFactor::F_1_1, false), SIZE, 2).is_none());
    }

    #[test]
    fn another_size_than_that_of_the_head_is_refused() {
        let bytes = subsampled(false);
        assert!(decode(&bytes, (2_030, 1_010), 2).is_none());
        assert!(decode(&bytes, (100, 101), 2).is_none());
    }

    #[test]
    fn an_image_of_many_scans_is_left_to_the_other_decoder() {
        let mut bytes = subsampled(true);
        let last = memchr::memmem::rfind(&bytes, &START_OF_SCAN).unwrap();
        let scan = bytes[last..bytes.len() - 2].to_vec();
        assert!(decode(&bytes, SIZE, 2).is_some());
        for _ in 0..MOST_SCANS {
            bytes.splice(last..last, scan.iter().copied());
        }
        assert!(decode(&bytes, SIZE, 2).is_none());
    }

    #[test]
    fn malformed_bytes_give_nothing_or_an_image_of_the_size() {
        for progressive in [false, true] {
            let bytes = subsampled(progressive);
            for length in (0..bytes.len()).step_by(37) {
                assert!(decode(&bytes[..length], SIZE, 4).is_none(), "{length}");
            }
            let mut random = fastrand::Rng::with_seed(7);
            for _ in 0..300 {
                let mut other = bytes.clone();
                for _ in 0..3 {
                    let at = random.usize(..other.len());
                    other[at] = random.u8(..);
                }
                if let Some(image) = decode(&other, SIZE, 4) {
                    assert_eq!((image.width(), image.height()), (51, 26));
                }
            }
        }
    }
}
