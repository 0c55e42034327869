//! HTTP/1.1 to one server, as far as a pipeline needs it: a POST with a body, and a response of a bounded length.

use std::{io, sync::Arc, time::Duration};

use edgerouter_core::{
    plan::{database_server::ServerTls, libsql_server::LibSqlServer},
    secret::Secret,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

use super::super::{connection::Trouble, pool::Dial, roots};
use crate::error::DataError;

/// Time to connect.
const BRIEF: Duration = Duration::from_secs(2);
/// Bytes and fields of a response's head.
const LONGEST_HEAD: usize = 16 << 10;
const MOST_FIELDS: usize = 64;

pub(super) fn unreachable(why: &str) -> DataError {
    DataError::Unreachable(format!("the libSQL server: {why}"))
}

fn lost(error: &io::Error) -> Trouble {
    Trouble::Lost(unreachable(&error.to_string()))
}

fn garbled() -> Trouble {
    Trouble::Lost(unreachable("sent no response of HTTP/1.1"))
}

/// The way to a server.
pub(super) struct HttpDial {
    host: Box<str>,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    /// The fields of each request that are always the same.
    fields: String,
    patience: Duration,
}

impl HttpDial {
    pub(super) fn new(
        server: &LibSqlServer,
        token: Option<&Secret>,
        timeout: Duration,
    ) -> Result<Self, String> {
        let tls = match &server.tls {
            ServerTls::Off => None,
            ServerTls::Verified(file) => Some(roots::client(file.as_deref())?),
        };
        let host = match server.host.contains(':') {
            true => format!("[{}]", server.host),
            false => server.host.to_string(),
        };
        let port = match (server.port, &tls) {
            (443, Some(_)) | (80, None) => String::new(),
            (port, _) => format!(":{port}"),
        };
        let mut fields = format!(
            "Host: {host}{port}\r\nContent-Type: application/json\r\nAccept: application/json\r\nUser-Agent: edgerouter\r\n"
        );
        if let Some(token) = token {
            let token = String::from_utf8_lossy(token.as_bytes());
            fields.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        Ok(Self {
            host: server.host.clone(),
            port: server.port,
            tls,
            fields,
            patience: BRIEF.min(timeout),
        })
    }

    async fn connected(&self) -> io::Result<Box<dyn Wire>> {
        let stream = TcpStream::connect((&*self.host, self.port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(self.host.to_string()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
        Ok(Box::new(stream.await?))
    }
}

impl Dial for HttpDial {
    type Connection = HttpConnection;

    async fn connect(&self) -> Result<HttpConnection, DataError> {
        let wire = match tokio::time::timeout(self.patience, self.connected()).await {
            Ok(Ok(wire)) => wire,
            Ok(Err(error)) => return Err(unreachable(&error.to_string())),
            Err(_) => return Err(unreachable("no connection within 2 seconds")),
        };
        Ok(HttpConnection {
            wire,
            fields: self.fields.clone(),
            buffer: Vec::new(),
            ends: false,
        })
    }

    async fn is_alive(&self, connection: &mut HttpConnection) -> bool {
        // Between two responses a server sends nothing but the end of the connection.
        let mut byte = [0];
        let silent = tokio::time::timeout(Duration::ZERO, connection.wire.read(&mut byte)).await;
        silent.is_err()
    }

    fn abandon(&self, connection: HttpConnection) {
        drop(connection);
    }
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection.
pub(super) struct HttpConnection {
    wire: Box<dyn Wire>,
    fields: String,
    /// Bytes that were read and not used.
    buffer: Vec<u8>,
    /// The server ends it after the response.
    ends: bool,
}

/// A response.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// The length of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Bytes(usize),
    Chunked,
    UntilEnd,
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    length: Length,
    ends: bool,
}

impl HttpConnection {
    /// True if it can carry no other request.
    pub(super) fn ends(&self) -> bool {
        self.ends
    }

    /// Sends a request, and reads the response, whose body may have `most` bytes.
    pub(super) async fn post(
        &mut self,
        path: &str,
        body: &[u8],
        most: usize,
    ) -> Result<Response, Trouble> {
        let mut request = format!(
            "POST {path} HTTP/1.1\r\n{}Content-Length: {}\r\n\r\n",
            self.fields,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        let sent = self.wire.write_all(&request).await;
        sent.map_err(|error| lost(&error))?;
        self.wire.flush().await.map_err(|error| lost(&error))?;
        let head = self.head().await?;
        self.ends = head.ends;
        let body = match head.length {
            Length::Bytes(length) => {
                bounded(length, most)?;
                self.take(length).await?
            }
            Length::Chunked => self.chunks(most).await?,
            Length::UntilEnd => {
                self.ends = true;
                while self.fill().await? > 0 {
                    bounded(self.buffer.len(), most)?;
                }
                std::mem::take(&mut self.buffer)
            }
        };
        Ok(Response {
            status: head.status,
            body,
        })
    }

    /// Reads more; the number of bytes, 0 at the end.
    async fn fill(&mut self) -> Result<usize, Trouble> {
        self.buffer.reserve(16 << 10);
        let read = self.wire.read_buf(&mut self.buffer).await;
        read.map_err(|error| lost(&error))
    }

    async fn more(&mut self) -> Result<(), Trouble> {
        match self.fill().await? {
            0 => Err(Trouble::Lost(unreachable("ended the connection"))),
            _ => Ok(()),
        }
    }

    async fn head(&mut self) -> Result<Head, Trouble> {
        loop {
            if let Some((length, head)) = parsed(&self.buffer).ok_or_else(garbled)? {
                self.buffer.drain(..length);
                // An interim response comes before the final one.
                if !(100..200).contains(&head.status) {
                    return Ok(head);
                }
                continue;
            }
            if self.buffer.len() > LONGEST_HEAD {
                return Err(garbled());
            }
            self.more().await?;
        }
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>, Trouble> {
        while self.buffer.len() < length {
            self.more().await?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    async fn line(&mut self) -> Result<Vec<u8>, Trouble> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let mut line = self.take(at + 2).await?;
                line.truncate(at);
                return Ok(line);
            }
            if self.buffer.len() > LONGEST_HEAD {
                return Err(garbled());
            }
            self.more().await?;
        }
    }

    async fn chunks(&mut self, most: usize) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let size = std::str::from_utf8(size).ok().map(str::trim);
            let size = size.and_then(|it| usize::from_str_radix(it, 16).ok());
            let size = size.ok_or_else(garbled)?;
            if size == 0 {
                // Trailers.
                while !self.line().await?.is_empty() {}
                return Ok(body);
            }
            bounded(body.len().saturating_add(size), most)?;
            body.extend(self.take(size).await?);
            if !self.line().await?.is_empty() {
                return Err(garbled());
            }
        }
    }
}

fn bounded(length: usize, most: usize) -> Result<(), Trouble> {
    if length <= most {
        return Ok(());
    }
    Err(Trouble::Lost(DataError::Refused(format!(
        "the result has more than {most} bytes of JSON, twice limits.data.result_bytes; read fewer rows with LIMIT, or raise it"
    ))))
}

/// The length and the content of a head. `Some(None)`: it is not whole; `None`: it is none.
fn parsed(bytes: &[u8]) -> Option<Option<(usize, Head)>> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = response.parse(bytes).ok()? else {
        return Some(None);
    };
    let (status, minor) = (response.code?, response.version?);
    let (mut body, mut ends, mut chunked) = (None, minor == 0, false);
    for field in response.headers.iter() {
        let value = std::str::from_utf8(field.value).unwrap_or_default().trim();
        if field.name.eq_ignore_ascii_case("content-length") {
            let all_digits = value.bytes().all(|byte| byte.is_ascii_digit());
            let length: usize = value.parse().ok().filter(|_| all_digits)?;
            // Two that differ are two readings of the message.
            if body.replace(length).is_some_and(|before| before != length) {
                return None;
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") || chunked {
                return None;
            }
            chunked = true;
        } else if field.name.eq_ignore_ascii_case("connection") {
            ends |= value
                .split(',')
                .any(|it| it.trim().eq_ignore_ascii_case("close"));
        }
    }
    if chunked && body.is_some() {
        return None;
    }
    let length_of = match (chunked, body) {
        _ if matches!(status, 100..200 | 204 | 304) => Length::Bytes(0),
        (true, _) => Length::Chunked,
        (false, Some(length)) => Length::Bytes(length),
        (false, None) => Length::UntilEnd,
    };
    Some(Some((
        length,
        Head {
            status,
            length: length_of,
            ends,
        },
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_how_its_body_ends() {
        let of = |text: &str| parsed(text.as_bytes());
        let head = |status, length, ends| Some((status, length, ends));
        for (text, want) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                head(200, Length::Bytes(5), false),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                head(200, Length::Chunked, false),
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\n",
                head(200, Length::UntilEnd, false),
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
                head(200, Length::Bytes(5), true),
            ),
            (
                "HTTP/1.1 204 No\r\nConnection: x, Close\r\n\r\n",
                head(204, Length::Bytes(0), true),
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", None),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                None,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                None,
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", None),
            ("SSH-2.0-x\r\n\r\n", None),
        ] {
            let found = of(text).flatten();
            let found = found.map(|(_, head)| (head.status, head.length, head.ends));
            assert_eq!(found, want, "{text}");
        }
        assert_eq!(of("HTTP/1.1 200 OK\r\nContent-"), Some(None));
    }
}
