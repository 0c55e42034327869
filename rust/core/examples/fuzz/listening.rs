//! The beginnings of connections: a proxy's header takes no byte of the client, and certificates give plain text only.

use edgerouter_core::{
    proxy_protocol::{self, ProxyHeader},
    tls::{certificate_facts, ocsp_end},
};

pub(crate) fn proxy_header(data: &[u8]) {
    let mut taken = 0;
    loop {
        let held = data.get(..taken).unwrap_or_default();
        match proxy_protocol::read(held) {
            Err(_) => return,
            Ok(ProxyHeader::Incomplete(more)) => {
                assert!(more > 0, "waits for nothing");
                taken += more;
                assert!(taken <= 4096, "waits for more than the longest header");
                if taken > data.len() {
                    return;
                }
            }
            Ok(ProxyHeader::Complete(source)) => {
                // No shorter part of it is a header as well: the first end is the only one.
                for shorter in 0..taken {
                    let part = proxy_protocol::read(data.get(..shorter).unwrap_or_default());
                    assert!(
                        !matches!(part, Ok(ProxyHeader::Complete(_))),
                        "{source:?} ends twice"
                    );
                }
                let is_second = held.starts_with(b"\r\n\r\n");
                assert!(is_second || (held.len() <= 107 && held.ends_with(b"\r\n")));
                return;
            }
        }
    }
}

pub(crate) fn proxy_headers() -> Vec<Vec<u8>> {
    let mut second = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    second.extend([192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb]);
    let mut sixth = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    sixth.extend([0x20; 36]);
    vec![
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET /".to_vec(),
        b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n".to_vec(),
        b"PROXY UNKNOWN ffff 1 2 3\r\n".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(),
        second,
        sixth,
    ]
}

pub(crate) fn certificate(data: &[u8]) {
    let _ = ocsp_end(data, data);
    let Some(facts) = certificate_facts(data) else {
        return;
    };
    let texts = facts.names.iter().chain([&facts.subject, &facts.serial]);
    for text in texts {
        let plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        assert!(plain, "{text:?} is no value of a field");
    }
    for name in &facts.names {
        assert!(!name.contains(','), "{name:?} is two names in a list");
    }
}

/// A certificate without a signature: version 3, CN=ada, and an alternative name.
pub(crate) fn certificates() -> Vec<Vec<u8>> {
    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        match content.len() {
            short @ 0..=0x7f => bytes.push(short as u8),
            long => bytes.extend([0x81, long as u8]),
        }
        bytes.extend_from_slice(content);
        bytes
    }
    let name = element(
        0x31,
        &element(
            0x30,
            &[element(6, &[0x55, 4, 3]), element(0x0c, b"ada")].concat(),
        ),
    );
    let times = [
        element(0x17, b"260101000000Z"),
        element(0x18, b"20501231235959Z"),
    ];
    let names = element(
        0x30,
        &[
            element(0x82, b"a.example"),
            element(0x87, &[192, 0, 2, 1]),
            element(0x86, b"spiffe://a/b"),
        ]
        .concat(),
    );
    let extension = element(
        0x30,
        &[element(6, &[0x55, 0x1d, 0x11]), element(4, &names)].concat(),
    );
    let parts = [
        element(0xa0, &element(2, &[2])),
        element(2, &[1, 2, 3]),
        element(0x30, &[]),
        element(0x30, &name),
        element(0x30, &times.concat()),
        element(0x30, &name),
        element(0x30, &[]),
        element(0xa3, &element(0x30, &extension)),
    ];
    let response = element(0x30, &[element(0x0a, &[0]), element(0xa0, &[])].concat());
    vec![element(0x30, &element(0x30, &parts.concat())), response]
}
