//! Variants of images, without any I/O: bytes of an image go in, and bytes of its variant come out.
//!
//! [`Images::make`] has a thread decode an image, turn it as its EXIF orientation says, scale it, convert its colours
//! to sRGB and encode it without any metadata. The variant is decided in `edgerouter_core::images`. Memory and time are
//! bounded by the number of threads and by the pixels of an image, which its head has before any of them is decoded.

mod decode;
mod encode;
mod figures;
mod reduced;
mod scale;
mod webp;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgerouter_core::{
    images::{Geometry, ImageFormat, ImageRequest, SourceFormat, VariantFormat},
    plan::limits::ImageLimits,
};
use edgerouter_telemetry::cores;
use edgerouter_threads::{NotDone, ThreadPool};

use figures::Figures;

/// Why there is no variant. The text is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The bytes are of no format that the edge decodes.
    #[error("The source is no image that this edge decodes (JPEG, PNG, WebP, GIF).")]
    Format,
    /// SVG, where the policy refuses it.
    #[error("SVG images are not served here (Images.svg).")]
    Svg,
    /// AVIF, where the policy refuses it.
    #[error("AVIF images are not decoded (Images.avif).")]
    Avif,
    /// The head of the image, or the variant in AVIF, announces too many pixels.
    #[error("The image has {got} pixels; the limit is {limit} ({name}).")]
    Pixels {
        /// Columns times rows.
        got: u64,
        /// The bound.
        limit: u64,
        /// Its name.
        name: &'static str,
    },
    /// The image is cut off or malformed.
    #[error("The image is malformed or cut off.")]
    Broken,
    /// The encoder failed.
    #[error("The variant could not be encoded.")]
    Encoding,
    /// As many images wait as may.
    #[error("Too many images wait to be scaled.")]
    Busy,
    /// No thread had it done in time.
    #[error("The image could not be scaled in time (limits.images.timeout).")]
    TimedOut,
}

impl ImageError {
    /// True if the same image would be refused again: it may be remembered as long as the image.
    pub fn lasts(&self) -> bool {
        !matches!(self, Self::Busy | Self::TimedOut)
    }

    /// True if the image has the wrong type, rather than a wrong content (RFC 9110 §15.5.16, §15.5.21).
    pub fn is_type(&self) -> bool {
        matches!(self, Self::Format | Self::Svg | Self::Avif)
    }
}

/// The outcome for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// A variant.
    Coded(ImageFormat, Bytes),
    /// The image is passed as it is.
    Unchanged(SourceFormat),
}

/// The threads that make variants.
#[derive(Debug)]
pub struct Images {
    threads: Arc<ThreadPool>,
    /// AVIF takes many times as long, and nothing else waits for it.
    slow: Arc<ThreadPool>,
    bounds: Bounds,
    figures: Figures,
}

#[derive(Debug, Default)]
struct Bounds {
    source_bytes: AtomicUsize,
    pixels: AtomicU64,
    avif_pixels: AtomicU64,
    /// In milliseconds.
    timeout: AtomicU64,
}

/// Variants in AVIF that wait for a thread: they are made behind others, and further ones are made later.
const MOST_SLOW: usize = 8;

impl Images {
    /// Without any thread yet: they are started on demand.
    pub fn new(limits: &ImageLimits) -> Arc<Self> {
        let own = Self {
            threads: ThreadPool::new("edge-images"),
            slow: ThreadPool::new("edge-avif"),
            bounds: Bounds::default(),
            figures: Figures::default(),
        };
        own.bound(limits);
        Arc::new(own)
    }

    /// Sets the bounds, which a reload may change.
    pub fn bound(&self, limits: &ImageLimits) {
        let threads = limits.threads.unwrap_or(cores() / 2).max(1);
        self.threads.bound(threads, limits.queue);
        self.slow.bound((threads / 2).max(1), MOST_SLOW);
        let bounds = &self.bounds;
        bounds
            .source_bytes
            .store(limits.source_bytes, Ordering::Relaxed);
        bounds.pixels.store(limits.pixels, Ordering::Relaxed);
        bounds
            .avif_pixels
            .store(limits.avif_pixels, Ordering::Relaxed);
        let timeout = u64::try_from(limits.timeout.as_millis()).unwrap_or(u64::MAX);
        bounds.timeout.store(timeout, Ordering::Relaxed);
    }

    /// Bytes of an image as its origin sends it, at most.
    pub fn source_bytes(&self) -> usize {
        self.bounds.source_bytes.load(Ordering::Relaxed)
    }

    /// Ends the threads once they are idle.
    pub fn close(&self) {
        self.threads.end();
        self.slow.end();
    }

    /// Makes a variant of an image. Nothing is left to do once the caller waits no longer, except for a step that has
    /// begun.
    pub async fn make(
        self: &Arc<Self>,
        source: Bytes,
        request: ImageRequest,
    ) -> Result<Made, ImageError> {
        let length = source.len();
        let threads = if request.output == VariantFormat::Best(ImageFormat::Avif)
            || request.output == VariantFormat::Fixed(ImageFormat::Avif)
        {
            &self.slow
        } else {
            &self.threads
        };
        let patience = Duration::from_millis(self.bounds.timeout.load(Ordering::Relaxed));
        let own = Arc::clone(self);
        let job = move || {
            let begun = Instant::now();
            // Decoders and encoders of others may panic on bytes that nobody has tried yet.
            let made = catch_unwind(AssertUnwindSafe(|| own.variant(&source, &request)));
            own.figures.worked(begun.elapsed());
            made.unwrap_or(Err(ImageError::Broken))
        };
        let made = match threads.submit(patience, job).await {
            Ok(made) => made,
            Err(NotDone::Busy) => Err(ImageError::Busy),
            Err(NotDone::TimedOut) => Err(ImageError::TimedOut),
        };
        self.figures.made(length, &made);
        made
    }

    /// One variant, on the thread that makes it.
    fn variant(&self, source: &[u8], request: &ImageRequest) -> Result<Made, ImageError> {
        let format = SourceFormat::recognise(source).ok_or(ImageError::Format)?;
        match format {
            SourceFormat::Svg if request.passes_svg => return Ok(Made::Unchanged(format)),
            SourceFormat::Svg => return Err(ImageError::Svg),
            SourceFormat::Avif if request.passes_avif => return Ok(Made::Unchanged(format)),
            SourceFormat::Avif => return Err(ImageError::Avif),
            _ => {}
        }
        let most = self.bounds.pixels.load(Ordering::Relaxed);
        let image = decode::open(source, format, most)?;
        let geometry = Geometry::of(image.turned_size(), request);
        let mut image = image.pixels(&geometry)?;
        scale::scale(&mut image, &geometry)?;
        let (width, height) = geometry.size();
        let output = self.output(request.output, format, image.is_opaque(), (width, height))?;
        let coded = encode::encode(&image, output, request.quality)?;
        Ok(Made::Coded(output, coded.into()))
    }

    /// The format of a variant with so many columns and rows.
    fn output(
        &self,
        wanted: VariantFormat,
        source: SourceFormat,
        opaque: bool,
        (width, height): (u32, u32),
    ) -> Result<ImageFormat, ImageError> {
        let pixels = u64::from(width) * u64::from(height);
        let limit = self.bounds.avif_pixels.load(Ordering::Relaxed);
        let is_large = pixels > limit;
        let plain = if opaque {
            source.like()
        } else {
            ImageFormat::Png
        };
        let webp = if webp::fits(width, height) {
            ImageFormat::Webp
        } else {
            plain
        };
        Ok(match wanted {
            VariantFormat::Fixed(ImageFormat::Avif) if is_large => {
                let name = "limits.images.avif_pixels";
                let got = pixels;
                return Err(ImageError::Pixels { got, limit, name });
            }
            // A client that takes AVIF takes WebP.
            VariantFormat::Best(ImageFormat::Avif) if is_large => webp,
            VariantFormat::Best(ImageFormat::Webp) => webp,
            VariantFormat::Fixed(format) | VariantFormat::Best(format) => format,
            VariantFormat::Plain => plain,
        })
    }

    /// The figures as metrics.
    pub fn render(&self, out: &mut String) {
        let threads = self.threads.count() + self.slow.count();
        self.figures.render(threads, out);
    }
}
