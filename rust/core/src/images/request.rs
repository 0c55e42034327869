//! The variant that a request wants, by its parameters, its fields and the policy.

use std::{cmp::Ordering, fmt};

use http::{HeaderValue, Method};

use super::{ImageFormat, ImageRefusal, Parameters};
use crate::{
    http::{FieldName, Fields, PathAndQuery, RequestParts, accept, header},
    plan::ImagePolicy,
};

/// The field that carries the variant into the key; no origin and no client sees it.
pub const VARIANT: FieldName = FieldName::from_static("edgerouter-image");

/// Largest number of columns or rows in a signed URL; `docs/limits.md` names it.
pub(crate) const MOST_PIXELS: u32 = 16_384;
/// Pixels of a device for each of the page.
const DEVICE_PIXELS: [u32; 3] = [1, 2, 3];
/// Quality for a client that saves data, where the policy lists none.
const SAVING_QUALITY: u8 = 45;

/// How an image fits a box of both sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FitMode {
    /// It fits within the box.
    #[default]
    Contain,
    /// It covers the box, and the rest is cut off.
    Cover,
    /// It has the shape of the box, and is distorted.
    Fill,
}

/// The part of an image that is kept where something is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Left, middle or right.
    pub across: Ordering,
    /// Top, middle or bottom.
    pub down: Ordering,
}

impl Default for Anchor {
    fn default() -> Self {
        Self {
            across: Ordering::Equal,
            down: Ordering::Equal,
        }
    }
}

const ANCHORS: [&str; 9] = [
    "top-left",
    "top",
    "top-right",
    "left",
    "center",
    "right",
    "bottom-left",
    "bottom",
    "bottom-right",
];

impl Anchor {
    /// `top`, `bottom-left`, …
    pub fn named(name: &str) -> Option<Self> {
        const PLACES: [Ordering; 3] = [Ordering::Less, Ordering::Equal, Ordering::Greater];
        let at = ANCHORS.iter().position(|known| *known == name)?;
        Some(Self {
            across: *PLACES.get(at % 3)?,
            down: *PLACES.get(at / 3)?,
        })
    }

    fn name(self) -> &'static str {
        let place = |ordering| match ordering {
            Ordering::Less => 0,
            Ordering::Equal => 1,
            Ordering::Greater => 2,
        };
        let at = place(self.down) * 3 + place(self.across);
        ANCHORS.get(at).copied().unwrap_or("center")
    }
}

/// The format of a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariantFormat {
    /// The one that the request names.
    Fixed(ImageFormat),
    /// The best one that the request accepts.
    Best(ImageFormat),
    /// The request accepts none of the better ones: that of the image, as far as the edge encodes it.
    Plain,
}

/// Request fields on which the variant of a URL depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Varies {
    /// `Accept`.
    pub accept: bool,
    /// `Save-Data`.
    pub save_data: bool,
    /// `Sec-CH-DPR` and `DPR`.
    pub dpr: bool,
}

/// A variant of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRequest {
    /// Columns, in pixels of the device.
    pub width: Option<u32>,
    /// Rows, in pixels of the device.
    pub height: Option<u32>,
    /// How it fits both.
    pub fit: FitMode,
    /// The part that is kept.
    pub anchor: Anchor,
    /// Its format.
    pub output: VariantFormat,
    /// From 1 to 100; without effect on PNG.
    pub quality: u8,
    /// A response that is no image that the edge decodes is passed as it is: no parameter names a variant.
    pub passes_by: bool,
    /// SVG is passed as it is.
    pub passes_svg: bool,
    /// AVIF is passed as it is.
    pub passes_avif: bool,
    /// The fields that selected it.
    pub vary: Varies,
    /// The URL of an image of another host, whatever the key says of the query.
    pub foreign: Option<Box<str>>,
}

impl ImageRequest {
    /// The variant that a request wants.
    pub fn of(
        policy: &ImagePolicy,
        parameters: &Parameters<'_>,
        request: &Fields,
    ) -> Result<Self, ImageRefusal> {
        let mut vary = Varies::default();
        let width = size(
            "w",
            parameters.width.as_deref(),
            policy.widths.as_deref(),
            "widths",
        )?;
        let heights = policy.heights.as_deref();
        let height = size("h", parameters.height.as_deref(), heights, "heights")?;
        let scale = match parameters.dpr.as_deref() {
            Some(text) => {
                let number = text.parse().ok();
                number
                    .filter(|number| DEVICE_PIXELS.contains(number))
                    .ok_or_else(|| ImageRefusal::new("dpr", text, "must be 1, 2 or 3"))?
            }
            None if width.is_some() || height.is_some() => {
                vary.dpr = policy.hints;
                if policy.hints { hinted(request) } else { 1 }
            }
            None => 1,
        };
        let scaled = |length: Option<u32>| length.map(|it| (it * scale).min(MOST_PIXELS));
        let quality = match parameters.quality.as_deref() {
            Some(text) => quality(text, policy)?,
            None => {
                vary.save_data = true;
                if saves(request) {
                    let least = policy.qualities.iter().flatten().copied().min();
                    least.unwrap_or(SAVING_QUALITY).min(policy.quality)
                } else {
                    policy.quality
                }
            }
        };
        let output = match parameters.format.as_deref() {
            None | Some("auto") => {
                vary.accept = true;
                best(policy, request)
            }
            Some(name) => VariantFormat::Fixed(format(name, policy)?),
        };
        let fit = match parameters.fit.as_deref() {
            None | Some("contain") => FitMode::Contain,
            Some("cover") => FitMode::Cover,
            Some("fill") => FitMode::Fill,
            Some(other) => {
                let must = "must be contain, cover or fill";
                return Err(ImageRefusal::new("fit", other, must));
            }
        };
        let anchor = match parameters.crop.as_deref() {
            None => Anchor::default(),
            Some(name) => Anchor::named(name).ok_or_else(|| {
                let must = format!("must be one of {}", ANCHORS.join(", "));
                ImageRefusal::new("crop", name, must)
            })?,
        };
        Ok(Self {
            width: scaled(width),
            height: scaled(height),
            fit,
            anchor,
            output,
            quality,
            passes_by: !parameters.names_variant(),
            passes_svg: policy.svg,
            passes_avif: policy.avif,
            vary,
            foreign: None,
        })
    }

    /// The variant as the key has it: one spelling for all requests that want it.
    fn dimension(&self) -> HeaderValue {
        let text = match &self.foreign {
            Some(url) => format!("{self} of {url}"),
            None => self.to_string(),
        };
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("image"))
    }

    /// Fits the fields of the request: the key gets the variant, and the whole image is requested as the origin has it.
    pub fn select(&self, headers: &mut Fields) {
        for name in [header::RANGE, header::IF_RANGE, header::ACCEPT_ENCODING] {
            headers.remove(name);
        }
        for name in ["save-data", "sec-ch-dpr", "dpr"] {
            headers.remove(name);
        }
        let accept = HeaderValue::from_static(
            "image/jpeg, image/png, image/webp, image/gif;q=0.9, */*;q=0.5",
        );
        headers.insert(header::ACCEPT, accept);
        headers.insert(VARIANT, self.dimension());
    }

    /// Has the key name the whole image instead of the variant: nothing, or its URL if another host has it. `None` if
    /// the key cannot name it.
    pub fn select_original(&self, headers: &mut Fields) -> Option<()> {
        headers.remove(VARIANT);
        if let Some(url) = &self.foreign {
            headers.insert(VARIANT, HeaderValue::try_from(format!("of {url}")).ok()?);
        }
        Some(())
    }

    /// The variant that answers until this one is made, which takes long.
    pub fn meanwhile(&self, policy: &ImagePolicy) -> Option<Self> {
        if self.output != VariantFormat::Best(ImageFormat::Avif) {
            return None;
        }
        let webp = policy.formats.contains(&ImageFormat::Webp);
        Some(Self {
            output: if webp {
                VariantFormat::Best(ImageFormat::Webp)
            } else {
                VariantFormat::Plain
            },
            ..self.clone()
        })
    }
}

impl fmt::Display for ImageRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, length) in [("w", self.width), ("h", self.height)] {
            if let Some(length) = length {
                write!(f, "{name}={length} ")?;
            }
        }
        if self.width.is_some() && self.height.is_some() {
            match self.fit {
                FitMode::Contain => {}
                FitMode::Cover => write!(f, "fit=cover crop={} ", self.anchor.name())?,
                FitMode::Fill => f.write_str("fit=fill ")?,
            }
        }
        match self.output {
            VariantFormat::Fixed(format) => write!(f, "f={}", format.as_str())?,
            VariantFormat::Best(format) => write!(f, "f=auto:{}", format.as_str())?,
            VariantFormat::Plain => f.write_str("f=auto")?,
        }
        write!(f, " q={}", self.quality)?;
        f.write_str(if self.passes_by { " any" } else { "" })
    }
}

/// The variant that a request of a route with images wants, whose parameters are taken out of its query; `None` if it
/// is for no image.
pub fn requested(
    policy: &ImagePolicy,
    head: &mut RequestParts,
) -> Result<Option<ImageRequest>, ImageRefusal> {
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Ok(None);
    }
    let (path, query) = (head.target.path(), head.target.query());
    let (parameters, rest) = Parameters::read(query, false)?;
    if !wants_image(path, &parameters) {
        return Ok(None);
    }
    let request = ImageRequest::of(policy, &parameters, &head.headers)?;
    if parameters.names_variant() {
        let target = match rest {
            Some(rest) => PathAndQuery::try_from(format!("{path}?{rest}")),
            None => PathAndQuery::try_from(path),
        };
        head.target = target.map_err(|_| ImageRefusal::new("w", path, "is no valid query"))?;
    }
    request.select(&mut head.headers);
    Ok(Some(request))
}

/// True if a request of a route that scales images is for one by its path, or names a variant.
fn wants_image(path: &str, parameters: &Parameters<'_>) -> bool {
    const ENDS: [&str; 5] = [".jpg", ".jpeg", ".png", ".webp", ".gif"];
    let end = path.get(path.len().saturating_sub(5)..).unwrap_or(path);
    let end = end.to_ascii_lowercase();
    parameters.names_variant() || ENDS.iter().any(|known| end.ends_with(known))
}

fn size(
    name: &'static str,
    text: Option<&str>,
    allowed: Option<&[u32]>,
    field: &str,
) -> Result<Option<u32>, ImageRefusal> {
    let Some(text) = text else {
        return Ok(None);
    };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse::<u32>().ok()).flatten();
    let number = number.filter(|number| match allowed {
        Some(allowed) => allowed.contains(number),
        None => (1..=MOST_PIXELS).contains(number),
    });
    number.map(Some).ok_or_else(|| match allowed {
        Some(allowed) => {
            let allowed: Vec<String> = allowed.iter().map(u32::to_string).collect();
            let must = format!("must be one of {} (Images.{field})", allowed.join(", "));
            ImageRefusal::new(name, text, must)
        }
        None => ImageRefusal::new(name, text, format!("must be from 1 to {MOST_PIXELS}")),
    })
}

fn quality(text: &str, policy: &ImagePolicy) -> Result<u8, ImageRefusal> {
    let number = text.parse::<u8>().ok();
    let allowed = policy.qualities.as_deref();
    let number = number.filter(|number| match allowed {
        Some(allowed) => allowed.contains(number),
        None => (1..=100).contains(number),
    });
    number.ok_or_else(|| match allowed {
        Some(allowed) => {
            let allowed: Vec<String> = allowed.iter().map(u8::to_string).collect();
            let must = format!("must be one of {} (Images.qualities)", allowed.join(", "));
            ImageRefusal::new("q", text, must)
        }
        None => ImageRefusal::new("q", text, "must be from 1 to 100"),
    })
}

fn format(name: &str, policy: &ImagePolicy) -> Result<ImageFormat, ImageRefusal> {
    let named = ImageFormat::named(name).filter(|format| policy.formats.contains(format));
    named.ok_or_else(|| {
        let formats: Vec<&str> = policy.formats.iter().map(|it| it.as_str()).collect();
        let must = format!(
            "must be auto or one of {} (Images.formats)",
            formats.join(", ")
        );
        ImageRefusal::new("f", name, must)
    })
}

/// The best format that a request accepts by its name. `*/*` and `image/*` come from clients that take no new format.
fn best(policy: &ImagePolicy, request: &Fields) -> VariantFormat {
    let newer = [ImageFormat::Avif, ImageFormat::Webp];
    let mut accepted = newer.into_iter().filter(|format| {
        policy.formats.contains(format) && accept::names(request, format.media_type())
    });
    accepted
        .next()
        .map_or(VariantFormat::Plain, VariantFormat::Best)
}

/// `Save-Data: on` (Save Data API §3).
fn saves(request: &Fields) -> bool {
    let value = request.get("save-data");
    value.is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"on"))
}

/// Pixels of the device by `Sec-CH-DPR` (Responsive Image Client Hints) or its older name, rounded up.
fn hinted(request: &Fields) -> u32 {
    let value = request.get("sec-ch-dpr").or_else(|| request.get("dpr"));
    let number = value.and_then(|value| value.to_str().ok()?.trim().parse::<f64>().ok());
    match number {
        Some(number) if number > 2.0 => 3,
        Some(number) if number > 1.0 => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn decided(query: &str, fields: &[(&'static str, &'static str)]) -> Result<String, String> {
        let policy = ImagePolicy::default();
        let (parameters, _) = Parameters::read(Some(query), false).unwrap();
        let fields: Fields = fields
            .iter()
            .map(|&(name, value)| (name, HeaderValue::from_static(value)))
            .collect();
        let decided = ImageRequest::of(&policy, &parameters, &fields);
        decided
            .map(|it| it.to_string())
            .map_err(|it| it.to_string())
    }

    #[test]
    fn a_variant_is_decided_by_parameters_and_fields() {
        const CHROME: (&str, &str) = ("accept", "image/avif,image/webp,image/apng,*/*;q=0.8");
        const WEBP: (&str, &str) = ("accept", "image/webp, */*");
        for (query, fields, want) in [
            ("w=640", &[CHROME][..], "w=640 f=auto:avif q=75"),
            ("w=640&f=auto", &[WEBP], "w=640 f=auto:webp q=75"),
            ("w=640", &[("accept", "*/*")], "w=640 f=auto q=75"),
            (
                "w=640",
                &[("accept", "image/avif;q=0, image/webp;q=0.5")],
                "w=640 f=auto:webp q=75",
            ),
            ("w=640&f=jpg&q=60", &[CHROME], "w=640 f=jpeg q=60"),
            ("", &[WEBP], "f=auto:webp q=75 any"),
            (
                "w=320&h=160&fit=cover&crop=top",
                &[],
                "w=320 h=160 fit=cover crop=top f=auto q=75",
            ),
            ("w=320&fit=cover&crop=top", &[], "w=320 f=auto q=75"),
            ("w=320&dpr=2", &[("sec-ch-dpr", "3")], "w=640 f=auto q=75"),
            ("w=320", &[("sec-ch-dpr", "1.5")], "w=640 f=auto q=75"),
            ("w=320", &[("dpr", "2.625")], "w=960 f=auto q=75"),
            ("w=320", &[("save-data", "on")], "w=320 f=auto q=40"),
            ("w=320&q=90", &[("save-data", "on")], "w=320 f=auto q=90"),
        ] {
            assert_eq!(
                decided(query, fields).as_deref(),
                Ok(want),
                "{query} {fields:?}"
            );
        }
    }

    #[test]
    fn a_refusal_names_the_parameter_the_value_and_the_remedy() {
        for (query, want) in [
            (
                "w=641",
                "w: \"641\": must be one of 160, 320, 480, 640, 960, 1280, 1920, 2560 (Images.widths)",
            ),
            ("w=-1", "w: \"-1\": must be one of"),
            ("w=%2b640", "w: \"+640\": must be one of"),
            ("w=", "w: \"\": must be one of"),
            ("h=7", "h: \"7\": must be one of"),
            (
                "q=101",
                "q: \"101\": must be one of 40, 60, 75, 90 (Images.qualities)",
            ),
            (
                "f=gif",
                "f: \"gif\": must be auto or one of avif, webp, jpeg, png (Images.formats)",
            ),
            ("fit=pad", "fit: \"pad\": must be contain, cover or fill"),
            ("crop=face", "crop: \"face\": must be one of top-left, "),
            ("dpr=4", "dpr: \"4\": must be 1, 2 or 3"),
        ] {
            let refused = decided(query, &[]).unwrap_err();
            assert!(refused.starts_with(want), "{query}: {refused}");
        }
    }

    #[test]
    fn avif_is_made_behind_webp() {
        let policy = ImagePolicy::default();
        let (parameters, _) = Parameters::read(Some("w=320"), false).unwrap();
        let accept = HeaderValue::from_static("image/avif,image/webp");
        let fields: Fields = [("accept", accept)].into_iter().collect();
        let request = ImageRequest::of(&policy, &parameters, &fields).unwrap();
        let meanwhile = request.meanwhile(&policy).unwrap();
        assert_eq!(meanwhile.to_string(), "w=320 f=auto:webp q=75");
        assert_eq!(meanwhile.meanwhile(&policy), None);
    }
}
