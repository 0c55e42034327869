//! The response of an image's origin, and the response with a variant of it.

use http::{HeaderValue, StatusCode};

use super::{ImageFormat, ImageRequest};
use crate::http::{Fields, KnownSet, etag, header, list};

/// Why a response of the origin gives no variant. The text is for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoImage {
    /// RFC 9110 §8.4: it was requested without a coding.
    #[error("The image came with a content coding.")]
    Coded,
    /// RFC 9111 §5.2.2.6.
    #[error("The origin forbids changes of the image (no-transform).")]
    NoTransform,
}

/// Fields that describe the image as the origin sent it.
const OF_THE_SOURCE: KnownSet = KnownSet::of(&[
    header::ACCEPT_RANGES,
    header::CONTENT_DIGEST,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_MD5,
    header::CONTENT_RANGE,
    header::DIGEST,
    header::REPR_DIGEST,
    header::TRANSFER_ENCODING,
]);

/// True if a response of the origin is the answer as it is: an error, a redirect, or on a route whose request names no
/// variant something other than an image that the edge decodes.
pub fn passes_by(
    request: &ImageRequest,
    status: StatusCode,
    headers: &Fields,
) -> Result<bool, NoImage> {
    if status != StatusCode::OK {
        return Ok(true);
    }
    let refused = if headers.contains_key(header::CONTENT_ENCODING) {
        Some(NoImage::Coded)
    } else {
        forbids(headers).then_some(NoImage::NoTransform)
    };
    let kind = headers.get(header::CONTENT_TYPE);
    let is_image = kind.is_some_and(|kind| is_decoded(kind.as_bytes()));
    match refused {
        _ if request.passes_by && (!is_image || refused.is_some()) => Ok(true),
        Some(refused) => Err(refused),
        None => Ok(false),
    }
}

fn is_decoded(content_type: &[u8]) -> bool {
    let name = content_type.split(|&byte| byte == b';').next();
    let name = name.unwrap_or_default().trim_ascii().to_ascii_lowercase();
    matches!(
        &*name,
        b"image/jpeg" | b"image/jpg" | b"image/png" | b"image/webp" | b"image/gif"
    )
}

fn forbids(headers: &Fields) -> bool {
    headers.get_all(header::CACHE_CONTROL).iter().any(|line| {
        list(line.as_bytes()).any(|member| member.eq_ignore_ascii_case(b"no-transform"))
    })
}

/// Makes the head of the origin's response that of a variant. Freshness, validators and tags stay: the variant is as
/// old as the image, and is purged with it. Its tag is weak, since another release may encode other bytes.
pub fn head(format: Option<ImageFormat>, length: usize, headers: &mut Fields) {
    headers.remove_all(OF_THE_SOURCE);
    etag::weaken(headers);
    let kind = match format {
        Some(format) => HeaderValue::from_static(format.media_type()),
        // The text of a refusal.
        None => HeaderValue::from_static("text/plain; charset=utf-8"),
    };
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}

/// Makes the head of a 304 of the origin that of a 304 for the variant.
pub fn revalidated(headers: &mut Fields) {
    headers.remove_all(OF_THE_SOURCE);
    headers.remove(header::CONTENT_TYPE);
    etag::weaken(headers);
}

/// Names the request fields that selected the variant in `Vary` (RFC 9110 §12.5.5).
pub fn vary(request: &ImageRequest, headers: &mut Fields) {
    let named: Vec<Vec<u8>> = headers
        .get_all(header::VARY)
        .iter()
        .flat_map(|line| {
            list(line.as_bytes())
                .map(<[u8]>::to_ascii_lowercase)
                .collect::<Vec<_>>()
        })
        .collect();
    let by = request.vary;
    for (name, selects) in [
        ("accept", by.accept),
        ("save-data", by.save_data),
        ("sec-ch-dpr", by.dpr),
        ("dpr", by.dpr),
    ] {
        if selects
            && !named
                .iter()
                .any(|known| known == b"*" || known == name.as_bytes())
        {
            headers.append(header::VARY, HeaderValue::from_static(name));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{images::Parameters, plan::ImagePolicy};

    fn request(query: &str) -> ImageRequest {
        let (parameters, _) = Parameters::read(Some(query), false).unwrap();
        ImageRequest::of(&ImagePolicy::default(), &parameters, &Fields::new()).unwrap()
    }

    fn fields(lines: &[(&'static str, &'static str)]) -> Fields {
        let lines = lines.iter();
        lines
            .map(|&(name, value)| (name, HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_response_that_is_no_image_passes_where_no_variant_is_named() {
        const JPEG: (&str, &str) = ("content-type", "image/jpeg");
        for (query, status, lines, want) in [
            ("w=320", 200, &[JPEG][..], Ok(false)),
            ("w=320", 200, &[("content-type", "text/html")], Ok(false)),
            ("w=320", 404, &[JPEG], Ok(true)),
            (
                "w=320",
                200,
                &[JPEG, ("content-encoding", "gzip")],
                Err(NoImage::Coded),
            ),
            (
                "w=320",
                200,
                &[JPEG, ("cache-control", "no-transform")],
                Err(NoImage::NoTransform),
            ),
            ("", 200, &[JPEG], Ok(false)),
            ("", 200, &[("content-type", "Image/PNG; x=1")], Ok(false)),
            ("", 200, &[("content-type", "image/svg+xml")], Ok(true)),
            (
                "",
                200,
                &[JPEG, ("cache-control", "max-age=1, no-transform")],
                Ok(true),
            ),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let passes = passes_by(&request(query), status, &fields(lines));
            assert_eq!(passes, want, "{query} {lines:?}");
        }
    }

    #[test]
    fn the_head_of_a_variant_keeps_freshness_and_tags_and_names_its_own_bytes() {
        let mut headers = fields(&[
            ("content-type", "image/png"),
            ("content-length", "9"),
            ("etag", "\"1\""),
            ("cache-control", "max-age=60"),
            ("cache-tag", "a"),
            ("repr-digest", "sha-256=:AA==:"),
            ("vary", "Accept"),
        ]);
        head(Some(ImageFormat::Webp), 4, &mut headers);
        vary(&request("w=320"), &mut headers);
        let text = |name: &'static str| headers.get(name).map(|it| it.to_str().unwrap().to_owned());
        for (name, want) in [
            ("content-type", Some("image/webp")),
            ("content-length", Some("4")),
            ("etag", Some("W/\"1\"")),
            ("cache-control", Some("max-age=60")),
            ("cache-tag", Some("a")),
            ("repr-digest", None),
        ] {
            assert_eq!(text(name).as_deref(), want, "{name}");
        }
        let varies: Vec<_> = headers.get_all(header::VARY).iter().collect();
        assert_eq!(varies.len(), 4);
    }
}
