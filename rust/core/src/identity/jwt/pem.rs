//! Public keys in PEM (RFC 7468): `PUBLIC KEY` (SubjectPublicKeyInfo, RFC 5280 §4.1.2.7) and `RSA PUBLIC KEY` (PKCS#1,
//! RFC 8017 §A.1.1). The error for any other PEM names its kind and the command that converts it.

use aws_lc_rs::signature::RsaParameters;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Algorithm, JwtKey, algorithm::KeyFamily, key::RSA_BITS};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// The kind of a public key, for those that are not tokens'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PemFamily {
    /// RSA of a length that is allowed.
    Rsa,
    /// EC on P-256.
    P256,
    /// Another one, in words.
    Other(&'static str),
}

/// A public key in its family's own encoding; or the fault of the PEM, in words that do not repeat its content.
pub(crate) fn public_pem(pem: &str) -> Result<(PemFamily, Vec<u8>), String> {
    let der = public_der(pem)?;
    let found = encoded_key(&der)?;
    let family = match found.family {
        KeyFamily::Rsa => PemFamily::Rsa,
        KeyFamily::P256 => PemFamily::P256,
        other => PemFamily::Other(other.describe()),
    };
    Ok((family, found.raw.to_vec()))
}

/// The key for `algorithm`, and its DER; or the fault of the PEM, in words that do not repeat its content.
pub(super) fn key(pem: &str, algorithm: Algorithm) -> Result<(JwtKey, Vec<u8>), String> {
    let der = public_der(pem)?;
    let found = encoded_key(&der)?;
    if found.family != algorithm.family() {
        return Err(format!(
            "is {}; {algorithm} needs {}",
            found.family.describe(),
            algorithm.family().describe()
        ));
    }
    let key = JwtKey::public(algorithm, found.raw)
        .ok_or_else(|| format!("is not a valid key for {algorithm}"))?;
    Ok((key, der.content))
}

/// The content of a PEM block.
struct PublicDer {
    content: Vec<u8>,
    /// PKCS#1, without the algorithm.
    is_pkcs1: bool,
}

fn public_der(pem: &str) -> Result<PublicDer, String> {
    let (label, content) = block(pem)?;
    let is_pkcs1 = match label {
        "PUBLIC KEY" => false,
        "RSA PUBLIC KEY" => true,
        "CERTIFICATE" => {
            return Err(
                "is a certificate; give its public key: openssl x509 -pubkey -noout -in FILE"
                    .into(),
            );
        }
        label if label.ends_with("PRIVATE KEY") => {
            return Err(
                "is a private key; the edge needs only the public one: openssl pkey -pubout -in FILE".into(),
            );
        }
        _ => return Err("is PEM, but of neither PUBLIC KEY nor RSA PUBLIC KEY".into()),
    };
    Ok(PublicDer { content, is_pkcs1 })
}

fn encoded_key(der: &PublicDer) -> Result<EncodedKey<'_>, String> {
    let found = if der.is_pkcs1 {
        EncodedKey::of(KeyFamily::Rsa, &der.content)
    } else {
        family(&der.content).ok_or(
            "is a public key of a kind that is not supported: take RSA, EC on P-256, P-384 or P-521, or Ed25519",
        )?
    };
    if found.family == KeyFamily::Rsa {
        let bits = RsaParameters::public_modulus_len(found.raw)
            .map_err(|_| "is not a valid RSA public key")?;
        if !RSA_BITS.contains(&bits) {
            return Err(format!(
                "is an RSA key of {bits} bits; it must have {} to {}",
                RSA_BITS.start(),
                RSA_BITS.end()
            ));
        }
    }
    Ok(found)
}

/// The label and content of the only block.
fn block(pem: &str) -> Result<(&str, Vec<u8>), String> {
    let begin = pem
        .find(BEGIN)
        .ok_or("is not PEM: there is no -----BEGIN PUBLIC KEY-----")?;
    let after = pem.get(begin + BEGIN.len()..).unwrap_or_default();
    let (label, after) = after
        .split_once(DASHES)
        .ok_or("is not PEM: its first line is cut")?;
    let (body, after) = after
        .split_once(END)
        .ok_or("is not PEM: there is no -----END line")?;
    let (end, after) = after
        .split_once(DASHES)
        .ok_or("is not PEM: its last line is cut")?;
    if end != label {
        return Err("is not PEM: its BEGIN and END lines differ".into());
    }
    if after.contains(BEGIN) {
        return Err("has more than one PEM block; give the one public key".into());
    }
    if label.ends_with("PRIVATE KEY") || label == "CERTIFICATE" {
        // Its content does not matter, and may have header lines (RFC 1421).
        return Ok((label, Vec::new()));
    }
    let text: Vec<u8> = body
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let der = STANDARD
        .decode(text)
        .map_err(|_| "is not PEM: its content is not base64")?;
    Ok((label, der))
}

/// A key as its family's own encoding: PKCS#1, uncompressed point, or 32 bytes.
struct EncodedKey<'a> {
    family: KeyFamily,
    raw: &'a [u8],
}

impl<'a> EncodedKey<'a> {
    fn of(family: KeyFamily, raw: &'a [u8]) -> Self {
        Self { family, raw }
    }
}

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// The content of a SubjectPublicKeyInfo: SEQUENCE { SEQUENCE { OID, parameters }, BIT STRING }.
fn family(der: &[u8]) -> Option<EncodedKey<'_>> {
    let (info, rest) = element(der, 0x30)?;
    if !rest.is_empty() {
        return None;
    }
    let (algorithm, rest) = element(info, 0x30)?;
    let (bits, rest) = element(rest, 0x03)?;
    let (&0, raw) = bits.split_first()? else {
        return None;
    };
    if !rest.is_empty() {
        return None;
    }
    let (oid, parameters) = element(algorithm, 0x06)?;
    let family = match oid {
        RSA => KeyFamily::Rsa,
        ED25519 => KeyFamily::Ed25519,
        EC => match element(parameters, 0x06)? {
            (P256, []) => KeyFamily::P256,
            (P384, []) => KeyFamily::P384,
            (P521, []) => KeyFamily::P521,
            _ => return None,
        },
        _ => return None,
    };
    Some(EncodedKey::of(family, raw))
}

/// Content of the DER element with `tag` at the start of `der`, and the rest.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if !(1..=3).contains(&count) {
            return None;
        }
        let (digits, rest) = rest.split_at_checked(count)?;
        let length = digits
            .iter()
            .fold(0, |sum, digit| sum << 8 | usize::from(*digit));
        (length, rest)
    };
    rest.split_at_checked(length)
}
