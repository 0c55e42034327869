//! The way to a libSQL server, as a pool of connections needs it.

use std::time::Duration;

use bytes::Bytes;
use edgerouter_core::{
    plan::{database_server::ServerTls, libsql_server::LibSqlServer},
    secret::Secret,
};
use http::{HeaderMap, HeaderValue, header};

use super::super::{connection::Trouble, pool::Dial, roots};
use crate::{
    error::DataError,
    http::{Broken, HttpConnection, HttpResponse, HttpServer, hidden},
};

pub(super) fn unreachable(why: &str) -> DataError {
    DataError::Unreachable(format!("the libSQL server: {why}"))
}

/// The way to a server.
pub(super) struct LibSqlDial {
    server: HttpServer,
    /// The fields of each request.
    fields: HeaderMap,
}

impl LibSqlDial {
    pub(super) fn new(
        server: &LibSqlServer,
        token: Option<&Secret>,
        timeout: Duration,
    ) -> Result<Self, String> {
        let tls = match &server.tls {
            ServerTls::Off => None,
            ServerTls::Verified(file) => Some(roots::client(file.as_deref())?),
        };
        let server = HttpServer::new(&server.host, server.port, tls, timeout);
        let authority = HeaderValue::try_from(server.authority());
        let json = HeaderValue::from_static("application/json");
        let mut fields = HeaderMap::new();
        fields.insert(
            header::HOST,
            authority.map_err(|_| "its host is no valid name")?,
        );
        fields.insert(header::CONTENT_TYPE, json.clone());
        fields.insert(header::ACCEPT, json);
        fields.insert(header::USER_AGENT, HeaderValue::from_static("edgerouter"));
        if let Some(token) = token {
            let token = String::from_utf8_lossy(token.as_bytes());
            let value = hidden(&format!("Bearer {token}"));
            fields.insert(
                header::AUTHORIZATION,
                value.ok_or("its token is no value of a field")?,
            );
        }
        Ok(Self { server, fields })
    }

    /// Sends a request, and takes in the response, whose body may have `most` bytes.
    pub(super) async fn post(
        &self,
        connection: &mut HttpConnection,
        path: &str,
        body: Bytes,
        most: usize,
    ) -> Result<HttpResponse, Trouble> {
        let posted = connection.post(path, self.fields.clone(), body, most).await;
        posted.map_err(|broken| {
            Trouble::Lost(match broken {
                Broken::Unsent(why) | Broken::Sent(why) => unreachable(&why),
                Broken::TooLong => DataError::Refused(format!(
                    "the result has more than {most} bytes of JSON, twice limits.data.result_bytes; read fewer rows with \
                     LIMIT, or raise it"
                )),
            })
        })
    }
}

impl Dial for LibSqlDial {
    type Connection = HttpConnection;

    async fn connect(&self) -> Result<HttpConnection, DataError> {
        let connected = self.server.connect().await;
        connected.map_err(|why| unreachable(&why))
    }

    async fn is_alive(&self, connection: &mut HttpConnection) -> bool {
        connection.is_ready().await
    }

    fn abandon(&self, connection: HttpConnection) {
        drop(connection);
    }
}
