//! The connection to an issuer: one for each exchange, by https only, within a time and a size.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use edgerouter_core::{http::date, plan::Issuer};
use http::{HeaderMap, HeaderValue, Request, Response, header, response::Parts};
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Largest response that is read.
const LARGEST: usize = 1 << 20;

/// The fault of an issuer's own authorities, if it has any.
pub fn issuer_fault(issuer: &Issuer) -> Option<String> {
    issuer.ca.as_ref()?;
    IssuerClient::new(issuer, Duration::ZERO, Arc::default()).err()
}

/// Speaks to one issuer.
#[derive(Clone)]
pub(crate) struct IssuerClient {
    tls: TlsConnector,
    timeout: Duration,
    asked: Arc<AskedWait>,
}

/// Seconds for which the last response of an issuer wants no further ones (RFC 8555 §6.6); 0 if it does not.
#[derive(Debug, Default)]
pub(crate) struct AskedWait(AtomicU64);

impl AskedWait {
    pub(crate) fn seconds(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn note(&self, headers: &HeaderMap) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = headers.get(header::RETRY_AFTER).and_then(|value| {
            date::retry_after(value.as_bytes(), now.map_or(0, |now| now.as_secs()))
        });
        self.0.store(seconds.unwrap_or(0), Ordering::Relaxed);
    }
}

impl IssuerClient {
    pub(crate) fn new(
        issuer: &Issuer,
        timeout: Duration,
        asked: Arc<AskedWait>,
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match &issuer.ca {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let added = certificate
                        .map_err(|error| error.to_string())
                        .and_then(|it| roots.add(it).map_err(|error| error.to_string()));
                    added.map_err(|error| {
                        pem.fault(&format!("holds a certificate that cannot be used: {error}"))
                    })?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
            }
        }
        if let (true, Some(pem)) = (roots.is_empty(), &issuer.ca) {
            return Err(pem.fault(
                "holds no certificate in PEM; give those of the authorities of the issuer's server",
            ));
        }
        if roots.is_empty() {
            let why = "there is no certificate to verify the issuer's server with; install the system's, or give ca_file";
            return Err(why.to_owned());
        }
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            timeout,
            asked,
        })
    }

    async fn exchange(
        self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Result<BytesResponse, Error> {
        self.asked.0.store(0, Ordering::Relaxed);
        let uri = request.uri().clone();
        let (Some("https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(Error::Str(
                "the issuer named a URL that is not one of https",
            ));
        };
        let host = authority.host().trim_matches(['[', ']']);
        let port = authority.port_u16().unwrap_or(443);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Error::Str("the issuer named a URL without a valid host"))?;
        let socket = TcpStream::connect((host, port)).await.map_err(other)?;
        let stream = self.tls.connect(name, socket).await.map_err(other)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(other)?;
        let authority = HeaderValue::from_str(authority.as_str()).map_err(other)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().map_err(other)?;
        request.headers_mut().insert(header::HOST, authority);
        let agent = HeaderValue::from_static(concat!(
            "edgerouter/",
            env!("CARGO_PKG_VERSION"),
            " instant-acme/0.8"
        ));
        request.headers_mut().insert(header::USER_AGENT, agent);
        let read = async {
            let (parts, body) = sender
                .send_request(request)
                .await
                .map_err(other)?
                .into_parts();
            let body = Limited::new(body, LARGEST)
                .collect()
                .await
                .map_err(Error::Other)?;
            Ok::<_, Error>(Response::from_parts(parts, body.to_bytes()))
        };
        tokio::pin!(connection, read);
        let response: Response<Bytes> = tokio::select! {
            biased;
            response = &mut read => response?,
            // It ends when the response is there, or fails; the read then says which.
            _ = &mut connection => read.await?,
        };
        let (parts, body) = response.into_parts();
        self.asked.note(&parts.headers);
        if let Some(why) = unfit(&parts) {
            return Err(Error::Other(why.into()));
        }
        Ok(BytesResponse {
            parts,
            body: Box::new(body),
        })
    }
}

impl HttpClient for IssuerClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let timeout = self.timeout;
        let exchange = self.clone().exchange(request);
        Box::pin(async move {
            match tokio::time::timeout(timeout, exchange).await {
                Ok(ended) => ended,
                Err(_) => Err(Error::Str(
                    "the issuer did not answer in time (limits.tls.issuer_timeout)",
                )),
            }
        })
    }
}

/// The reason why a response is none of ACME: a page of a proxy, or of a server that is at work on something else.
fn unfit(parts: &Parts) -> Option<String> {
    let kind = parts.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.to_ascii_lowercase();
    let is_error = parts.status.is_client_error() || parts.status.is_server_error();
    (kind.starts_with("text/html") || (is_error && !kind.contains("json"))).then(|| {
        let kind = if kind.is_empty() {
            "no Content-Type"
        } else {
            &kind
        };
        format!(
            "the issuer answered {} with {kind}, which is no answer of ACME",
            parts.status
        )
    })
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(Box::new(error))
}
