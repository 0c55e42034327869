//! Pixels become bytes of a format, without any metadata.

use edgerouter_core::images::ImageFormat;
use image::{
    DynamicImage, ExtendedColorType, ImageEncoder, RgbImage,
    codecs::png::{CompressionType, FilterType, PngEncoder},
};
use jpeg_encoder::{ColorType, Encoder};
use ravif::{Img, RGB8, RGBA8};

use super::{ImageError, decode::Decoded, webp};

/// From 1 (slow) to 10: past this one the files become larger faster than the time becomes shorter.
const AVIF_SPEED: u8 = 8;
/// The scale of qualities of AVIF is that of JPEG and WebP with so much less.
const AVIF_LESS: u8 = 12;

pub(crate) fn encode(
    image: &Decoded,
    format: ImageFormat,
    quality: u8,
) -> Result<Vec<u8>, ImageError> {
    let pixels = &image.pixels;
    let coded = match format {
        ImageFormat::Webp => webp::encode(pixels, quality),
        ImageFormat::Jpeg => jpeg(pixels, quality),
        ImageFormat::Png => png(pixels),
        ImageFormat::Avif => avif(pixels, quality),
    };
    coded.ok_or(ImageError::Encoding)
}

/// On white, where a pixel is transparent: JPEG has no transparency.
fn jpeg(pixels: &DynamicImage, quality: u8) -> Option<Vec<u8>> {
    let flat;
    let pixels = match pixels {
        DynamicImage::ImageRgb8(pixels) => pixels,
        other => {
            flat = flattened(other);
            &flat
        }
    };
    let columns = u16::try_from(pixels.width()).ok()?;
    let rows = u16::try_from(pixels.height()).ok()?;
    let mut out = Vec::new();
    // Below a quality of 90 the encoder gives colours half the columns and rows, as libvips and Pillow do.
    Encoder::new(&mut out, quality)
        .encode(pixels.as_raw(), columns, rows, ColorType::Rgb)
        .ok()?;
    Some(out)
}

fn flattened(pixels: &DynamicImage) -> RgbImage {
    let pixels = pixels.to_rgba8();
    RgbImage::from_fn(pixels.width(), pixels.height(), |column, row| {
        let [red, green, blue, alpha] = pixels.get_pixel(column, row).0;
        let alpha = u16::from(alpha);
        let on_white = |channel: u8| {
            let mixed = (u16::from(channel) * alpha + 255 * (255 - alpha) + 127) / 255;
            u8::try_from(mixed).unwrap_or(u8::MAX)
        };
        image::Rgb([on_white(red), on_white(green), on_white(blue)])
    })
}

fn png(pixels: &DynamicImage) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let kind = if pixels.color().has_alpha() {
        ExtendedColorType::Rgba8
    } else {
        ExtendedColorType::Rgb8
    };
    PngEncoder::new_with_quality(&mut out, CompressionType::Default, FilterType::Adaptive)
        .write_image(pixels.as_bytes(), pixels.width(), pixels.height(), kind)
        .ok()?;
    Some(out)
}

fn avif(pixels: &DynamicImage, quality: u8) -> Option<Vec<u8>> {
    let (columns, rows) = (pixels.width() as usize, pixels.height() as usize);
    let quality = f32::from(quality.saturating_sub(AVIF_LESS).max(1));
    let encoder = ravif::Encoder::new()
        .with_quality(quality)
        .with_alpha_quality(quality)
        .with_speed(AVIF_SPEED)
        .with_num_threads(Some(1));
    let coded = match pixels {
        DynamicImage::ImageRgb8(pixels) => {
            let pixels: Vec<RGB8> = pixels.pixels().map(|it| it.0.into()).collect();
            encoder.encode_rgb(Img::new(&*pixels, columns, rows))
        }
        other => {
            let pixels = other.to_rgba8();
            let pixels: Vec<RGBA8> = pixels.pixels().map(|it| it.0.into()).collect();
            encoder.encode_rgba(Img::new(&*pixels, columns, rows))
        }
    };
    Some(coded.ok()?.avif_file)
}
