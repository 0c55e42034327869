//! Access logs of AWS' application and classic load balancers: words between spaces, some in quotes.

use std::borrow::Cow;

use super::{LogLine, address, number, quoted, request_line, scheme, split, time};

const TYPES: [&[u8]; 6] = [b"http", b"https", b"h2", b"grpcs", b"ws", b"wss"];

pub(super) fn parse(line: &[u8]) -> Option<LogLine<'_>> {
    let (first, rest) = split(line, b' ')?;
    let application = TYPES.contains(&first);
    let (at, rest) = if application {
        split(rest, b' ')?
    } else {
        (first, rest)
    };
    let at = time::iso(at)?;
    // The name of the balancer, the client, the target, three times, two statuses, bytes received and bytes sent.
    let mut words: [&[u8]; 10] = [b""; 10];
    let mut rest = rest;
    for word in &mut words {
        (*word, rest) = split(rest, b' ')?;
    }
    let [_, client, _, _, _, _, status, _, _, sent] = words;
    let (request, rest) = quoted(rest.strip_prefix(b"\"")?)?;
    let (method, target) = match &request {
        Cow::Borrowed(request) => {
            let (method, target) = request_line(request)?;
            (Cow::Borrowed(method), Cow::Borrowed(target))
        }
        Cow::Owned(request) => {
            let (method, target) = request_line(request)?;
            (Cow::Owned(method.to_vec()), Cow::Owned(target.to_vec()))
        }
    };
    let agent = rest.strip_prefix(b" \"").and_then(quoted);
    Some(LogLine {
        at,
        client: address(client),
        method,
        target,
        scheme: application.then(|| scheme(first)).flatten(),
        status: u16::try_from(number(status)?).ok()?,
        bytes: number(sent)?,
        agent: agent.map_or_else(Cow::default, |(agent, _)| agent),
        ..LogLine::default()
    })
}
