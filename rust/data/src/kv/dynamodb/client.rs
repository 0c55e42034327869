//! HTTP to DynamoDB: a few connections, signed requests, and the errors of the service.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use edgerouter_core::plan::dynamodb::DynamoEndpoint;
use http::{HeaderMap, HeaderName, header};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{sync::Semaphore, time::sleep};

use super::{
    credentials::{CredentialSource, Credentials, REMEDY},
    sign,
};
use crate::{
    error::DataError,
    http::{Broken, HttpConnection, HttpResponse, HttpServer, hidden},
    sql::roots,
};

/// The largest response that is read; the service sends at most 1 MiB of items, binary ones in base64.
const LARGEST: usize = 4 << 20;
/// Attempts of one request.
const ATTEMPTS: u32 = 4;
/// The pause before a second attempt; it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(25);

/// Why a request has no result.
#[derive(Debug)]
pub(super) enum ServiceError {
    /// Its condition does not hold.
    Condition,
    /// Anything else.
    Data(DataError),
}

impl From<DataError> for ServiceError {
    fn from(error: DataError) -> Self {
        Self::Data(error)
    }
}

/// A kind of request, by the effect of doing it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// A read: it may be repeated after any failure.
    None,
    /// A change: it is repeated only if the service has not done it.
    Once,
}

/// The server of a table.
pub(super) struct Client {
    server: HttpServer,
    authority: String,
    region: Box<str>,
    table: Box<str>,
    idle: Mutex<Vec<HttpConnection>>,
    connections: Semaphore,
    source: CredentialSource,
    credentials: Mutex<Option<Arc<Credentials>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(
        endpoint: &DynamoEndpoint,
        region: Box<str>,
        table: Box<str>,
        connections: usize,
        timeout: Duration,
    ) -> Result<Self, String> {
        let tls = match endpoint.tls {
            false => None,
            true => Some(roots::client(None)?),
        };
        let server = HttpServer::new(&endpoint.host, endpoint.port, tls, timeout);
        Ok(Self {
            authority: server.authority(),
            server,
            region,
            table,
            idle: Mutex::default(),
            connections: Semaphore::new(connections.max(1)),
            source: CredentialSource::of_environment(),
            credentials: Mutex::default(),
        })
    }

    /// Closes the connections that are not in use.
    pub(super) fn close(&self) {
        self.idle.lock().clear();
    }

    /// One operation of the service. Repeats it where that is safe and helps.
    pub(super) async fn request(
        &self,
        operation: &str,
        body: &Value,
        effect: Effect,
    ) -> Result<Value, ServiceError> {
        let body = Bytes::from(body.to_string());
        let mut read_again = false;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let credentials = self.credentials(read_again).await?;
            let last = attempt >= ATTEMPTS;
            match self.exchange(operation, body.clone(), &credentials).await {
                Ok(HttpResponse { status: 200, body }) => {
                    let value = serde_json::from_slice(&body);
                    return value.map_err(|_| unreachable("its answer is no JSON").into());
                }
                Ok(HttpResponse { status, body }) => match fault(status, &body) {
                    Fault::Condition => return Err(ServiceError::Condition),
                    Fault::Throttled if !last => {}
                    Fault::Server if effect == Effect::None && !last => {}
                    Fault::Credentials(why) => {
                        // A file may have newer ones.
                        if read_again || matches!(self.source, CredentialSource::Environment(_)) {
                            return Err(DataError::Refused(why).into());
                        }
                        read_again = true;
                        continue;
                    }
                    fault => return Err(self.refused(fault, operation, status).into()),
                },
                Err(Broken::Unsent(why)) if last => return Err(unreachable(&why).into()),
                Err(Broken::Sent(why)) if last || effect == Effect::Once => {
                    return Err(unreachable(&why).into());
                }
                Err(Broken::TooLong) => {
                    return Err(unreachable("its answer is longer than any of the service").into());
                }
                Err(_) => {}
            }
            let pause = PAUSE * 2_u32.pow(attempt - 1);
            // Others that were throttled at the same moment come back at different ones.
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
    }

    fn refused(&self, fault: Fault, operation: &str, status: u16) -> DataError {
        let table = &self.table;
        let region = &self.region;
        DataError::Refused(match fault {
            Fault::NoTable => format!(
                "there is no table {table} in {region}; make it with a partition key pk and a sort key sk, both strings"
            ),
            Fault::Denied => format!(
                "the access key may not do dynamodb:{operation} on the table {table}; allow it in its policy"
            ),
            Fault::Throttled => format!(
                "the table {table} is throttled, {ATTEMPTS} times in a row; retry later, or raise its capacity"
            ),
            Fault::Invalid(message) => format!("DynamoDB refused {operation}: {message}"),
            _ => return unreachable(&format!("it answered {status} to {operation}")),
        })
    }

    async fn credentials(&self, again: bool) -> Result<Arc<Credentials>, DataError> {
        let known = self.credentials.lock().clone();
        if let Some(known) = known.filter(|_| !again) {
            return Ok(known);
        }
        let source = self.source.clone();
        let read = tokio::task::spawn_blocking(move || source.read()).await;
        let read = read.map_err(|_| DataError::Closed)?;
        let found = Arc::new(read.map_err(DataError::Refused)?);
        *self.credentials.lock() = Some(Arc::clone(&found));
        Ok(found)
    }

    async fn exchange(
        &self,
        operation: &str,
        body: Bytes,
        credentials: &Credentials,
    ) -> Result<HttpResponse, Broken> {
        let fields = self.signed(operation, &body, credentials)?;
        let _one = self.connections.acquire().await;
        let mut connection = self.connection().await.map_err(Broken::Unsent)?;
        let response = connection.post("/", fields, body, LARGEST).await?;
        if !connection.ends() {
            self.idle.lock().push(connection);
        }
        Ok(response)
    }

    /// A connection that can take a request.
    async fn connection(&self) -> Result<HttpConnection, String> {
        loop {
            let Some(mut connection) = self.idle.lock().pop() else {
                return self.server.connect().await;
            };
            if connection.is_ready().await {
                return Ok(connection);
            }
        }
    }

    fn signed(
        &self,
        operation: &str,
        body: &Bytes,
        credentials: &Credentials,
    ) -> Result<HeaderMap, Broken> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let moment = sign::moment(now.as_secs());
        let target = format!("DynamoDB_20120810.{operation}");
        let token = credentials.token.as_ref();
        let token = token.map(|token| String::from_utf8_lossy(token.as_bytes()).into_owned());
        let mut headers = vec![
            ("content-type", "application/x-amz-json-1.0"),
            ("host", self.authority.as_str()),
            ("x-amz-date", moment.as_str()),
        ];
        headers.extend(
            token
                .as_deref()
                .map(|token| ("x-amz-security-token", token)),
        );
        headers.push(("x-amz-target", target.as_str()));
        let signature = sign::authorization(credentials, &self.region, &moment, &headers, body);
        let wrong = || Broken::Unsent("the credentials are no value of a field".to_owned());
        let mut fields = HeaderMap::new();
        for (name, value) in &headers {
            fields.insert(
                HeaderName::try_from(*name).map_err(|_| wrong())?,
                hidden(value).ok_or_else(wrong)?,
            );
        }
        let signature = hidden(&signature).ok_or_else(wrong)?;
        fields.insert(header::AUTHORIZATION, signature);
        Ok(fields)
    }
}

fn unreachable(why: &str) -> DataError {
    DataError::Unreachable(format!("DynamoDB: {why}"))
}

/// An error of the service.
enum Fault {
    Condition,
    Throttled,
    Server,
    NoTable,
    Denied,
    /// Its text has no part of them; the service's own message may.
    Credentials(String),
    Invalid(String),
}

fn fault(status: u16, answer: &[u8]) -> Fault {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let kind = answer
        .get("__type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let kind = kind.rsplit('#').next().unwrap_or_default();
    let credentials =
        |why: &str| Fault::Credentials(format!("DynamoDB did not accept the credentials: {why}"));
    match kind {
        "ConditionalCheckFailedException" => Fault::Condition,
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded" => Fault::Throttled,
        "ResourceNotFoundException" => Fault::NoTable,
        "AccessDeniedException" => Fault::Denied,
        "ExpiredTokenException" | "ExpiredToken" => credentials(
            "the session token has expired; renew AWS_SESSION_TOKEN, or the file that has it",
        ),
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "MissingAuthenticationTokenException" => credentials(&format!(
            "the access key or its token is not known there; {REMEDY}"
        )),
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignatureException"
        | "RequestTimeTooSkewed" => credentials(
            "the secret does not belong to the access key, or the clock of this machine is wrong",
        ),
        _ if status >= 500 => Fault::Server,
        _ => {
            let message = answer.get("message").or_else(|| answer.get("Message"));
            let message = message
                .and_then(Value::as_str)
                .unwrap_or("it gave no reason");
            let message: String = message.chars().take(200).collect();
            Fault::Invalid(match kind {
                "" => format!("status {status}"),
                kind => format!("{kind}: {message}"),
            })
        }
    }
}
