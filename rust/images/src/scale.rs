//! Pixels become those of the variant: scaled, turned, cut, in sRGB.

use edgerouter_core::images::Geometry;
use fast_image_resize::{
    PixelType, Resizer,
    images::{Image, ImageRef},
};
use image::{DynamicImage, RgbImage, RgbaImage, metadata::Orientation};
use moxcms::{ColorProfile, DataColorSpace, Layout, TransformOptions};

use super::{ImageError, decode::Decoded};

/// Scales, turns and cuts, in this order: the smaller image is the one that is turned.
pub(crate) fn scale(image: &mut Decoded, geometry: &Geometry) -> Result<(), ImageError> {
    let whole = (image.pixels.width(), image.pixels.height());
    let is_turned = image.turned_size() != whole;
    let scaled = if is_turned {
        (geometry.scaled.1, geometry.scaled.0)
    } else {
        geometry.scaled
    };
    if scaled != whole {
        image.pixels = resized(&image.pixels, scaled).ok_or(ImageError::Encoding)?;
    }
    image.pixels.apply_orientation(image.orientation);
    image.orientation = Orientation::NoTransforms;
    if let Some(place) = geometry.cut {
        image.pixels = image
            .pixels
            .crop_imm(place.left, place.top, place.width, place.height);
    }
    if let Some(profile) = image.profile.take() {
        to_srgb(&mut image.pixels, &profile);
    }
    Ok(())
}

/// Lanczos with the weights of all pixels that a result covers; colours count as much as they are opaque.
fn resized(pixels: &DynamicImage, size: (u32, u32)) -> Option<DynamicImage> {
    let kind = if pixels.color().has_alpha() {
        PixelType::U8x4
    } else {
        PixelType::U8x3
    };
    let (columns, rows) = (pixels.width(), pixels.height());
    let source = ImageRef::new(columns, rows, pixels.as_bytes(), kind);
    let source = source.ok()?;
    let mut result = Image::new(size.0, size.1, kind);
    Resizer::new().resize(&source, &mut result, None).ok()?;
    let bytes = result.into_vec();
    if kind == PixelType::U8x4 {
        RgbaImage::from_raw(size.0, size.1, bytes).map(DynamicImage::ImageRgba8)
    } else {
        RgbImage::from_raw(size.0, size.1, bytes).map(DynamicImage::ImageRgb8)
    }
}

/// Converts the colours by the image's profile. A profile that cannot be read, or is for other channels than these,
/// such as for inks that the decoder has converted, is ignored.
fn to_srgb(pixels: &mut DynamicImage, profile: &[u8]) {
    let Ok(profile) = ColorProfile::new_from_slice(profile) else {
        return;
    };
    if profile.color_space != DataColorSpace::Rgb {
        return;
    }
    let layout = if pixels.color().has_alpha() {
        Layout::Rgba
    } else {
        Layout::Rgb
    };
    let srgb = ColorProfile::new_srgb();
    let options = TransformOptions::default();
    let Ok(transform) = profile.create_transform_8bit(layout, &srgb, layout, options) else {
        return;
    };
    let (columns, rows) = (pixels.width(), pixels.height());
    let mut converted = vec![0; pixels.as_bytes().len()];
    if transform
        .transform(pixels.as_bytes(), &mut converted)
        .is_err()
    {
        return;
    }
    let converted = match layout {
        Layout::Rgba => RgbaImage::from_raw(columns, rows, converted).map(DynamicImage::ImageRgba8),
        _ => RgbImage::from_raw(columns, rows, converted).map(DynamicImage::ImageRgb8),
    };
    if let Some(converted) = converted {
        *pixels = converted;
    }
}
