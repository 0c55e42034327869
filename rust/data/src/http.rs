//! HTTP/1.1 to one server that keeps data: connections, and a POST with its whole response.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    body::Body as _,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

use crate::BRIEF;

/// Bytes and fields of a response's head.
const LONGEST_HEAD: usize = 16 << 10;
const MOST_FIELDS: usize = 64;

/// The way to a server.
pub(crate) struct HttpServer {
    host: Box<str>,
    port: u16,
    tls: Option<TlsConnector>,
    patience: Duration,
}

/// Why an exchange failed.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The request has not been sent.
    Unsent(String),
    /// The server may have got it.
    Sent(String),
    /// The response has more bytes than it may have.
    TooLong,
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl HttpServer {
    /// `tls`: `None` for plain text.
    pub(crate) fn new(
        host: &str,
        port: u16,
        tls: Option<Arc<ClientConfig>>,
        timeout: Duration,
    ) -> Self {
        Self {
            host: host.into(),
            port,
            tls: tls.map(TlsConnector::from),
            patience: BRIEF.min(timeout),
        }
    }

    /// The value of `Host`.
    pub(crate) fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.to_string(),
        };
        let usual = if self.tls.is_some() { 443 } else { 80 };
        match self.port == usual {
            true => host,
            false => format!("{host}:{}", self.port),
        }
    }

    /// Makes a connection; `Err`: the reason.
    pub(crate) async fn connect(&self) -> Result<HttpConnection, String> {
        match tokio::time::timeout(self.patience, self.connected()).await {
            Ok(connected) => connected,
            Err(_) => {
                let seconds = self.patience.as_secs_f64();
                Err(format!("no connection within {seconds} s"))
            }
        }
    }

    async fn connected(&self) -> Result<HttpConnection, String> {
        let text = |error: io::Error| error.to_string();
        let stream = TcpStream::connect((&*self.host, self.port))
            .await
            .map_err(text)?;
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return begun(stream).await;
        };
        let name = ServerName::try_from(self.host.to_string());
        let name = name.map_err(|_| "its host is no valid name".to_owned())?;
        begun(tls.connect(name, stream).await.map_err(text)?).await
    }
}

async fn begun<S>(stream: S) -> Result<HttpConnection, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let begun = http1::Builder::new()
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_FIELDS)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = begun.map_err(|error| error.to_string())?;
    // It ends with the sender, or with its server.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(HttpConnection {
        sender,
        ends: false,
    })
}

/// A connection.
pub(crate) struct HttpConnection {
    sender: SendRequest<Full<Bytes>>,
    ends: bool,
}

impl HttpConnection {
    /// True if it can carry no other request.
    pub(crate) fn ends(&self) -> bool {
        self.ends || self.sender.is_closed()
    }

    /// True once it can take a request; false if the server has ended it.
    pub(crate) async fn is_ready(&mut self) -> bool {
        !self.ends && self.sender.ready().await.is_ok()
    }

    /// Sends a request, and takes in the response, whose body may have `most` bytes.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        fields: HeaderMap,
        body: Bytes,
        most: usize,
    ) -> Result<HttpResponse, Broken> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.headers_mut() = fields;
        let path = path.parse();
        *request.uri_mut() = path.map_err(|_| Broken::Unsent("its path is none".to_owned()))?;
        let response = match self.sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut failed) => {
                self.ends = true;
                let unsent = failed.take_message().is_some();
                let why = reason(failed.error());
                return Err(match unsent {
                    true => Broken::Unsent(why),
                    false => Broken::Sent(why),
                });
            }
        };
        let connection = response.headers().get(header::CONNECTION);
        self.ends |=
            connection.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
        let status = response.status().as_u16();
        if response.body().size_hint().lower() > most as u64 {
            self.ends = true;
            return Err(Broken::TooLong);
        }
        match Limited::new(response.into_body(), most).collect().await {
            Ok(whole) => Ok(HttpResponse {
                status,
                body: whole.to_bytes(),
            }),
            Err(error) => {
                self.ends = true;
                Err(match error.is::<LengthLimitError>() {
                    true => Broken::TooLong,
                    false => Broken::Sent("ended the connection within a response".to_owned()),
                })
            }
        }
    }
}

fn reason(error: &hyper::Error) -> String {
    if error.is_parse() {
        "sent no response of HTTP/1.1".to_owned()
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        "ended the connection".to_owned()
    } else {
        error.to_string()
    }
}

/// A value that is not shown; `None`: it is no value of a field.
pub(crate) fn hidden(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}
