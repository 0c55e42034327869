//! The size of a variant, and the part of the image that it shows.

use super::{Anchor, FitMode, ImageRequest};

/// A part of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImagePart {
    /// Columns to its left.
    pub left: u32,
    /// Rows above it.
    pub top: u32,
    /// Its columns.
    pub width: u32,
    /// Its rows.
    pub height: u32,
}

/// How an image becomes a variant: scaled as a whole, then cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Columns and rows of the scaled image; never more than the image has.
    pub scaled: (u32, u32),
    /// The part of it that is kept; `None`: all.
    pub cut: Option<ImagePart>,
}

impl Geometry {
    /// The variant of an image with so many columns and rows, turned as its orientation says.
    pub fn of(image: (u32, u32), request: &ImageRequest) -> Self {
        let (columns, rows) = (f64::from(image.0.max(1)), f64::from(image.1.max(1)));
        let width = request.width.map(f64::from);
        let height = request.height.map(f64::from);
        match (request.fit, width, height) {
            (FitMode::Cover, Some(width), Some(height)) => {
                // A box larger than the image keeps its shape and becomes as large as fits.
                let shrink = (columns / width).min(rows / height).min(1.0);
                let (width, height) = (pixels(width * shrink), pixels(height * shrink));
                let scale = (f64::from(width) / columns).max(f64::from(height) / rows);
                let scaled = (
                    pixels(columns * scale).max(width),
                    pixels(rows * scale).max(height),
                );
                let cut = ImagePart {
                    left: request.anchor.before(scaled.0 - width, true),
                    top: request.anchor.before(scaled.1 - height, false),
                    width,
                    height,
                };
                Self {
                    scaled,
                    cut: (scaled != (width, height)).then_some(cut),
                }
            }
            (FitMode::Fill, Some(width), Some(height)) => Self {
                scaled: (pixels(width.min(columns)), pixels(height.min(rows))),
                cut: None,
            },
            _ => {
                let by_width = width.map_or(1.0, |width| width / columns);
                let by_height = height.map_or(1.0, |height| height / rows);
                let scale = by_width.min(by_height).min(1.0);
                Self {
                    scaled: (pixels(columns * scale), pixels(rows * scale)),
                    cut: None,
                }
            }
        }
    }

    /// The divisor by which the columns and rows of an image may be reduced while it is decoded: 1, 2, 4 or 8, as JPEG
    /// can. Twice the scaled columns and rows are left, so that the kernel that scales decides the quality.
    pub fn reduction(&self, image: (u32, u32)) -> u32 {
        let leaves = |length: u32, by: u32, scaled: u32| length / by >= scaled.saturating_mul(2);
        [8, 4, 2]
            .into_iter()
            .find(|by| leaves(image.0, *by, self.scaled.0) && leaves(image.1, *by, self.scaled.1))
            .unwrap_or(1)
    }

    /// Columns and rows of the variant.
    pub fn size(&self) -> (u32, u32) {
        self.cut
            .map_or(self.scaled, |place| (place.width, place.height))
    }
}

impl Anchor {
    /// The part of the spare columns or rows that is left out before the kept ones.
    fn before(self, spare: u32, across: bool) -> u32 {
        let place = if across { self.across } else { self.down };
        match place {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => spare / 2,
            std::cmp::Ordering::Greater => spare,
        }
    }
}

/// At least one pixel: a line of 1 × 10,000 scaled to a tenth is a line still.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn pixels(length: f64) -> u32 {
    // A cast from a float saturates.
    (length.round() as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::{ImageFormat, VariantFormat};

    fn request(width: u32, height: u32, fit: FitMode, anchor: &str) -> ImageRequest {
        ImageRequest {
            width: (width > 0).then_some(width),
            height: (height > 0).then_some(height),
            fit,
            anchor: Anchor::named(anchor).unwrap_or_default(),
            output: VariantFormat::Fixed(ImageFormat::Webp),
            quality: 75,
            passes_by: false,
            passes_svg: false,
            passes_avif: false,
            vary: Default::default(),
            foreign: None,
        }
    }

    #[test]
    fn a_variant_fits_covers_or_fills_its_box_and_is_never_larger_than_the_image() {
        use FitMode::{Contain, Cover, Fill};
        for (image, width, height, fit, anchor, size, cut) in [
            ((4_000, 3_000), 800, 0, Contain, "center", (800, 600), None),
            ((4_000, 3_000), 0, 300, Contain, "center", (400, 300), None),
            (
                (4_000, 3_000),
                800,
                300,
                Contain,
                "center",
                (400, 300),
                None,
            ),
            (
                (4_000, 3_000),
                0,
                0,
                Contain,
                "center",
                (4_000, 3_000),
                None,
            ),
            ((400, 300), 800, 0, Contain, "center", (400, 300), None),
            ((1, 1), 800, 800, Cover, "center", (1, 1), None),
            ((1, 10_000), 100, 1_000, Contain, "center", (1, 1_000), None),
            ((4_000, 3_000), 800, 0, Cover, "center", (800, 600), None),
            (
                (4_000, 3_000),
                300,
                300,
                Cover,
                "center",
                (300, 300),
                Some((50, 0)),
            ),
            (
                (4_000, 3_000),
                300,
                300,
                Cover,
                "left",
                (300, 300),
                Some((0, 0)),
            ),
            (
                (4_000, 3_000),
                300,
                300,
                Cover,
                "bottom-right",
                (300, 300),
                Some((100, 0)),
            ),
            (
                (3_000, 4_000),
                300,
                300,
                Cover,
                "top",
                (300, 300),
                Some((0, 0)),
            ),
            (
                (400, 300),
                800,
                800,
                Cover,
                "center",
                (300, 300),
                Some((50, 0)),
            ),
            ((400, 300), 100, 200, Fill, "center", (100, 200), None),
            ((400, 300), 800, 200, Fill, "center", (400, 200), None),
        ] {
            let geometry = Geometry::of(image, &request(width, height, fit, anchor));
            assert_eq!(geometry.size(), size, "{image:?} {width} {height} {fit:?}");
            let place = geometry.cut.map(|place| (place.left, place.top));
            assert_eq!(place, cut, "{image:?} {width} {height} {anchor}");
            assert!(geometry.scaled.0 <= image.0 && geometry.scaled.1 <= image.1);
        }
    }

    #[test]
    fn a_reduced_image_has_at_least_twice_the_columns_and_rows_of_the_variant() {
        for (image, width, height, fit, by) in [
            ((4_000, 3_000), 0, 0, FitMode::Contain, 1),
            ((4_000, 3_000), 1_001, 0, FitMode::Contain, 1),
            ((4_000, 3_000), 1_000, 0, FitMode::Contain, 2),
            ((4_000, 3_000), 500, 0, FitMode::Contain, 4),
            ((4_000, 3_000), 240, 0, FitMode::Contain, 8),
            ((4_000, 3_000), 1, 0, FitMode::Contain, 8),
            ((1, 1), 1, 1, FitMode::Contain, 1),
            ((1, 10_000), 100, 10, FitMode::Contain, 1),
            // Columns that are cut off later are scaled, too.
            ((4_000, 3_000), 100, 700, FitMode::Cover, 2),
            ((4_000, 3_000), 100, 1_000, FitMode::Fill, 1),
            ((4_000, 3_000), 4_000, 10, FitMode::Fill, 1),
        ] {
            let geometry = Geometry::of(image, &request(width, height, fit, "center"));
            assert_eq!(
                geometry.reduction(image),
                by,
                "{image:?} {width} {height} {fit:?}"
            );
        }
    }
}
