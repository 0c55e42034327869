//! The header of the PROXY protocol, versions 1 and 2, by which a proxy says whose connection it forwards.
//!
//! It comes before anything else on a connection, TLS included. Which peers may send one is decided by the plan.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The source of a connection by its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxySource {
    /// The peer itself: its own check, or a source that is no address of TCP.
    Peer,
    /// Another client's.
    Client(SocketAddr),
}

/// A header as far as it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// So many bytes more, and no more than that: the next ones may be the client's.
    Incomplete(usize),
    /// The whole header.
    Complete(ProxySource),
}

/// Why a header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    /// The bytes begin no header.
    #[error("the connection does not begin with a header of the PROXY protocol")]
    Absent,
    /// Longer than its version allows.
    #[error("the header of the PROXY protocol is longer than {0} bytes")]
    TooLong(usize),
    /// It begins like one.
    #[error("the header of the PROXY protocol is malformed")]
    Malformed,
    /// It is not as the proxy has sent it.
    #[error("the checksum in the header of the PROXY protocol is not that of the header")]
    Checksum,
    /// A datagram, or a family that no header has.
    #[error("the header of the PROXY protocol is of a kind that is not supported")]
    Unsupported,
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes that every header has: version 1 is not shorter than `PROXY UNKNOWN`, CR and LF.
const LEAST: usize = 15;
/// Longest line of version 1, its end included.
const MOST_V1: usize = 107;
/// Longest header of version 2.
const MOST_V2: usize = 4096;

/// Reads a header from all bytes of a connection so far.
pub fn read(bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let compared = bytes.len().min(SIGNATURE.len());
    let start = bytes.get(..compared).unwrap_or_default();
    if SIGNATURE.starts_with(start) && !start.is_empty() {
        return second(bytes);
    }
    let line = b"PROXY ";
    let compared = bytes.len().min(line.len());
    if bytes.get(..compared) != line.get(..compared) {
        return Err(ProxyHeaderError::Absent);
    }
    if bytes.is_empty() {
        return Ok(ProxyHeader::Incomplete(LEAST));
    }
    first(bytes)
}

fn first(bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let Some(line) = bytes.strip_suffix(b"\r\n") else {
        if bytes.len() >= MOST_V1 {
            return Err(ProxyHeaderError::TooLong(MOST_V1));
        }
        // A line break elsewhere would let bytes of the client pass as a part of the header.
        let body = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if body.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            return Err(ProxyHeaderError::Malformed);
        }
        return Ok(ProxyHeader::Incomplete(
            LEAST.saturating_sub(bytes.len()).max(1),
        ));
    };
    if bytes.len() > MOST_V1 {
        return Err(ProxyHeaderError::TooLong(MOST_V1));
    }
    let line = std::str::from_utf8(line).map_err(|_| ProxyHeaderError::Malformed)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(ProxyHeader::Complete(ProxySource::Peer));
    }
    let source = words.next().and_then(|word| word.parse::<IpAddr>().ok());
    let destination = words.next().and_then(|word| word.parse::<IpAddr>().ok());
    let port = words.next().and_then(port);
    let destination_port = words.next().and_then(self::port);
    let (Some(source), Some(destination), Some(port), Some(_), None) =
        (source, destination, port, destination_port, words.next())
    else {
        return Err(ProxyHeaderError::Malformed);
    };
    let is_right = match family {
        Some("TCP4") => source.is_ipv4() && destination.is_ipv4(),
        Some("TCP6") => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    if is_right {
        Ok(ProxyHeader::Complete(client(source, port)))
    } else {
        Err(ProxyHeaderError::Malformed)
    }
}

/// A port in digits only, without leading zeros.
fn port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit());
    let leading = word.len() > 1 && word.starts_with('0');
    (plain && !leading).then(|| word.parse().ok()).flatten()
}

/// IPv4 in the form of IPv6 is IPv4: lists of networks are compared with it.
fn client(address: IpAddr, port: u16) -> ProxySource {
    ProxySource::Client(SocketAddr::new(address.to_canonical(), port))
}

fn second(bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    const HEAD: usize = 16;
    let Some((head, rest)) = bytes.split_at_checked(HEAD) else {
        return Ok(ProxyHeader::Incomplete(HEAD - bytes.len()));
    };
    let &[.., version_and_command, family, high, low] = head else {
        return Err(ProxyHeaderError::Malformed);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if HEAD + length > MOST_V2 {
        return Err(ProxyHeaderError::TooLong(MOST_V2));
    }
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyHeaderError::Malformed),
    };
    if rest.len() < length {
        return Ok(ProxyHeader::Incomplete(length - rest.len()));
    }
    if rest.len() > length {
        return Err(ProxyHeaderError::Malformed);
    }
    if is_local {
        return Ok(ProxyHeader::Complete(ProxySource::Peer));
    }
    let addresses = match family {
        0x11 => 12,
        0x21 => 36,
        // The others are not used, and neither is what follows them.
        _ => length,
    };
    let extensions = rest.get(addresses..).ok_or(ProxyHeaderError::Malformed)?;
    is_whole(bytes, extensions)?;
    let source = match family {
        0x11 => {
            let [a, b, c, d, _, _, _, _, high, low, _, _, ..] = *rest else {
                return Err(ProxyHeaderError::Malformed);
            };
            let address = Ipv4Addr::new(a, b, c, d);
            client(address.into(), u16::from_be_bytes([high, low]))
        }
        0x21 => {
            let address = rest.get(..16).and_then(|it| <[u8; 16]>::try_from(it).ok());
            let port = rest.get(32..34).and_then(|it| <[u8; 2]>::try_from(it).ok());
            let (Some(address), Some(port), Some(_)) = (address, port, rest.get(34..36)) else {
                return Err(ProxyHeaderError::Malformed);
            };
            client(Ipv6Addr::from(address).into(), u16::from_be_bytes(port))
        }
        // Unspecified, and unix sockets.
        0x00 | 0x31 => ProxySource::Peer,
        _ => return Err(ProxyHeaderError::Unsupported),
    };
    Ok(ProxyHeader::Complete(source))
}

/// The type of an extension with the checksum of the whole header.
const CHECKSUM: u8 = 0x03;

/// Extensions fill their place, and the checksum among them, if there is one, is that of the header (§2.2.3 of the
/// protocol): a header that was damaged on its way would name another client.
fn is_whole(header: &[u8], mut extensions: &[u8]) -> Result<(), ProxyHeaderError> {
    while let Some((&kind, rest)) = extensions.split_first() {
        let (length, rest) = rest
            .split_first_chunk()
            .ok_or(ProxyHeaderError::Malformed)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let place = header.len() - rest.len();
        let (value, rest) = rest
            .split_at_checked(length)
            .ok_or(ProxyHeaderError::Malformed)?;
        extensions = rest;
        if kind != CHECKSUM {
            continue;
        }
        let sent = <[u8; 4]>::try_from(value).map_err(|_| ProxyHeaderError::Malformed)?;
        // It is of the header with zeros in its place.
        let before = header.get(..place).unwrap_or_default();
        let after = header.get(place + 4..).unwrap_or_default();
        let summed = [before, &[0; 4], after].into_iter().flatten();
        if u32::from_be_bytes(sent) != crc32c(summed) {
            return Err(ProxyHeaderError::Checksum);
        }
    }
    Ok(())
}

/// The checksum of RFC 4960, appendix B. A header is short and comes once: a table would save nothing.
fn crc32c<'b>(bytes: impl Iterator<Item = &'b u8>) -> u32 {
    const REVERSED: u32 = 0x82f6_3b78;
    !bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            sum >> 1 ^ REVERSED & (sum & 1).wrapping_neg()
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(text: &str) -> ProxyHeader {
        ProxyHeader::Complete(ProxySource::Client(text.parse().unwrap()))
    }

    const PEER: ProxyHeader = ProxyHeader::Complete(ProxySource::Peer);

    fn v2(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([version_and_command, family]);
        bytes.extend((rest.len() as u16).to_be_bytes());
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn a_line_of_version_1_gives_its_source() {
        use ProxyHeaderError::{Absent, Malformed, TooLong};
        for (line, want) in [
            (
                "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
                Ok(of("192.0.2.1:56324")),
            ),
            (
                "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
                Ok(of("[2001:db8::1]:1")),
            ),
            (
                "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
                Ok(of("192.0.2.1:1")),
            ),
            ("PROXY UNKNOWN\r\n", Ok(PEER)),
            (
                "PROXY UNKNOWN ffff:f...f:ffff any 65535 65535\r\n",
                Ok(PEER),
            ),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\n", Err(Malformed)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n", Err(Malformed)),
            (
                "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 9\r\n",
                Err(Malformed),
            ),
            (
                "PROXY TCP4 192.0.2.1  192.0.2.2 56324 443\r\n",
                Err(Malformed),
            ),
            (
                "PROXY TCP4 192.0.2.1 192.0.2.2 056324 443\r\n",
                Err(Malformed),
            ),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 +1 443\r\n", Err(Malformed)),
            (
                "PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n",
                Err(Malformed),
            ),
            ("PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", Err(Malformed)),
            ("PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n", Err(Malformed)),
            ("PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", Err(Malformed)),
            ("PROXY \r\n", Err(Malformed)),
            ("proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Err(Absent)),
            ("GET / HTTP/1.1\r\n", Err(Absent)),
            ("\u{16}\u{3}\u{1}", Err(Absent)),
            ("", Ok(ProxyHeader::Incomplete(15))),
            ("PROXY T", Ok(ProxyHeader::Incomplete(8))),
            ("PROXY TCP4 192.0.2.1", Ok(ProxyHeader::Incomplete(1))),
        ] {
            assert_eq!(read(line.as_bytes()), want, "{line:?}");
        }
        let long = format!("PROXY UNKNOWN {}", "x".repeat(93));
        assert_eq!(long.len(), 107);
        assert_eq!(read(long.as_bytes()), Err(TooLong(107)));
        let fits = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
        assert_eq!((fits.len(), read(fits.as_bytes())), (107, Ok(PEER)));
    }

    #[test]
    fn a_header_of_version_2_gives_its_source() {
        use ProxyHeaderError::{Malformed, TooLong, Unsupported};
        let four = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 1, 0xbb];
        let six: Vec<u8> = ["2001:db8::1", "2001:db8::2"]
            .iter()
            .flat_map(|text| text.parse::<Ipv6Addr>().unwrap().octets())
            .chain([0, 80, 1, 0xbb])
            .collect();
        let with_extensions = [&four[..], &[1, 0, 2, b'h', b'2', 4, 0, 0]].concat();
        for (bytes, want) in [
            (v2(0x21, 0x11, &four), Ok(of("192.0.2.1:56324"))),
            (v2(0x21, 0x11, &with_extensions), Ok(of("192.0.2.1:56324"))),
            (v2(0x21, 0x21, &six), Ok(of("[2001:db8::1]:80"))),
            (v2(0x20, 0x00, &[]), Ok(PEER)),
            (v2(0x20, 0x11, &four), Ok(PEER)),
            (v2(0x21, 0x00, &[]), Ok(PEER)),
            (v2(0x21, 0x31, &[0; 216]), Ok(PEER)),
            (v2(0x21, 0x12, &four), Err(Unsupported)),
            (v2(0x21, 0x11, &four[..11]), Err(Malformed)),
            (v2(0x21, 0x21, &six[..35]), Err(Malformed)),
            (v2(0x11, 0x11, &four), Err(Malformed)),
            (v2(0x22, 0x11, &four), Err(Malformed)),
            (v2(0x21, 0x11, &[0; 4080]), Ok(of("0.0.0.0:0"))),
            (v2(0x21, 0x11, &[0; 4081]), Err(TooLong(4096))),
            (
                v2(0x21, 0x11, &four)[..20].to_vec(),
                Ok(ProxyHeader::Incomplete(8)),
            ),
            (SIGNATURE[..5].to_vec(), Ok(ProxyHeader::Incomplete(11))),
        ] {
            assert_eq!(read(&bytes), want, "{bytes:?}");
        }
    }

    #[test]
    fn extensions_that_do_not_fit_and_a_wrong_checksum_are_refused() {
        use ProxyHeaderError::{Checksum, Malformed};
        assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283);
        let four = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 1, 0xbb];
        let with = |extensions: &[u8]| v2(0x21, 0x11, &[&four[..], extensions].concat());
        let mut right = with(&[4, 0, 1, 9, 3, 0, 4, 0, 0, 0, 0, 4, 0, 0]);
        let sum = crc32c(right.iter()).to_be_bytes();
        right[35..39].copy_from_slice(&sum);
        let mut wrong = right.clone();
        wrong[16] = 193;
        for (bytes, want) in [
            (right, Ok(of("192.0.2.1:56324"))),
            (wrong, Err(Checksum)),
            (with(&[3, 0, 4, 1, 2, 3, 4]), Err(Checksum)),
            (with(&[3, 0, 3, 1, 2, 3]), Err(Malformed)),
            (with(&[3, 0]), Err(Malformed)),
            (with(&[4, 0, 9, 1]), Err(Malformed)),
            (v2(0x20, 0x11, &[3, 0, 4, 1, 2, 3, 4]), Ok(PEER)),
            (v2(0x21, 0x31, &[3, 0, 4]), Ok(PEER)),
        ] {
            assert_eq!(read(&bytes), want, "{bytes:?}");
        }
    }

    #[test]
    fn reading_as_much_as_is_missing_never_takes_a_byte_of_the_client() {
        let whole = [
            &b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"[..],
            b"PROXY UNKNOWN\r\n",
            &v2(
                0x21,
                0x11,
                &[192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 1, 0xbb],
            ),
        ];
        for header in whole {
            let stream = [header, b"GET"].concat();
            let mut taken = 0;
            while let ProxyHeader::Incomplete(more) = read(&stream[..taken]).unwrap() {
                taken += more;
            }
            assert_eq!(taken, header.len(), "{header:?}");
        }
    }
}
