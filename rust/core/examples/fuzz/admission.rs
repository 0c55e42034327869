//! Admission: the result must not depend on how the bytes arrive, and a body ends at the byte that the RFC names.

use edgerouter_core::admit::{
    GuardLimits, GuardStep, HeadGuard, Refusal, Sanitiser, strip_hop_by_hop,
};
use http::HeaderName;

use super::{digest, head};

const WIDE: GuardLimits = GuardLimits {
    head_bytes: 4096,
    head_fields: 50,
    url_bytes: 1024,
    body_bytes: 1 << 20,
};

/// Limits so low that mutated inputs reach them.
const NARROW: GuardLimits = GuardLimits {
    head_bytes: 200,
    head_fields: 5,
    url_bytes: 40,
    body_bytes: 30,
};

#[derive(Debug)]
struct Followed {
    delivered: usize,
    refusal: Option<Refusal>,
    in_body: bool,
}

/// Passes the bytes to the guard piece by piece, as the engine does: undelivered bytes are passed again.
fn follow(data: &[u8], limits: GuardLimits, mut piece: impl FnMut() -> usize) -> Followed {
    let mut guard = HeadGuard::new(limits);
    let (mut delivered, mut arrived) = (0, 0);
    while arrived < data.len() {
        arrived = data.len().min(arrived + piece().max(1));
        loop {
            let held = data.get(delivered..arrived).unwrap_or_default();
            match guard.inspect(held) {
                GuardStep::Deliver(now) => {
                    assert!(now <= held.len(), "delivers more than there is");
                    delivered += now;
                }
                GuardStep::Refuse { after, refusal } => {
                    assert!(after <= held.len(), "delivers more than there is");
                    return Followed {
                        delivered: delivered + after,
                        refusal: Some(refusal),
                        in_body: guard.in_body(),
                    };
                }
            }
            if !guard.is_upgrading() {
                break;
            }
            guard.resume();
        }
    }
    Followed {
        delivered,
        refusal: None,
        in_body: guard.in_body(),
    }
}

pub(crate) fn guard(data: &[u8]) {
    let mut random = digest(data);
    for limits in [WIDE, NARROW] {
        let whole = follow(data, limits, || data.len());
        agree(data, &whole, &follow(data, limits, || 1));
        for _ in 0..3 {
            agree(
                data,
                &whole,
                &follow(data, limits, || {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    (random >> 33) as usize % 40
                }),
            );
        }
    }
}

fn agree(data: &[u8], whole: &Followed, split: &Followed) {
    let text = || {
        format!(
            "{whole:?} whole, {split:?} split, for {:?}",
            data.escape_ascii().to_string()
        )
    };
    assert_eq!(
        whole.refusal.is_some(),
        split.refusal.is_some(),
        "{}",
        text()
    );
    if split.in_body && split.refusal.is_some() {
        // A broken body that came in pieces has passed up to the break; one that came at once has not passed at all.
        assert!(whole.delivered <= split.delivered, "{}", text());
        assert_eq!(whole.refusal, split.refusal, "{}", text());
    } else {
        assert_eq!(whole.in_body, split.in_body, "{}", text());
        assert_eq!(whole.delivered, split.delivered, "{}", text());
    }
}

pub(crate) fn chunked(data: &[u8]) {
    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut guard = HeadGuard::new(WIDE);
    assert_eq!(guard.inspect(HEAD), GuardStep::Deliver(HEAD.len()));
    for (at, byte) in data.iter().enumerate() {
        match guard.inspect(std::slice::from_ref(byte)) {
            GuardStep::Deliver(1) if guard.in_body() => {}
            GuardStep::Deliver(1) => {
                assert_eq!(obvious_end(data), Some(at + 1), "ends elsewhere");
                break;
            }
            GuardStep::Deliver(n) => panic!("{n} of one byte"),
            GuardStep::Refuse { .. } => break,
        }
    }
    guard_of_message(HEAD, data);
}

fn guard_of_message(head: &[u8], body: &[u8]) {
    guard(&[head, body, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
}

/// The end of a chunked body, found as simply as RFC 9112 §7.1.3 describes it.
fn obvious_end(data: &[u8]) -> Option<usize> {
    let line = |at: usize| {
        let rest = data.get(at..)?;
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        Some((rest.get(..end)?, at + end + 2))
    };
    let mut at = 0;
    loop {
        let (size, after) = line(at)?;
        let digits = size.split(|&byte| byte == b';').next()?;
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        at = after;
        if size == 0 {
            break;
        }
        at += size + 2;
    }
    loop {
        let (field, after) = line(at)?;
        at = after;
        if field.is_empty() {
            return Some(at);
        }
    }
}

pub(crate) fn head_fields(data: &[u8]) {
    let own = [HeaderName::from_static("x-user-id")];
    for trusted in [false, true] {
        let mut headers = head(data);
        let rule = Sanitiser {
            edge_fields: &own,
            proxy_fields: &[],
            trusted_peer: trusted,
        };
        rule.clean(&mut headers);
        assert!(!headers.contains_key("x-user-id") && !headers.contains_key("x_user_id"));
        assert!(trusted || !headers.contains_key("x-forwarded-for"));
        strip_hop_by_hop(&mut headers);
        for name in [
            "connection",
            "upgrade",
            "te",
            "transfer-encoding",
            "keep-alive",
        ] {
            assert!(!headers.contains_key(name), "{name} is left");
        }
    }
}
