//! Documents on a Redis server that keeps JSON: scripts, which Python's part of the package writes, and their replies.

pub(crate) mod call;

use std::sync::Arc;

use edgerouter_core::{plan::limits::DataLimits, secret::Secret};
use redis::{RedisError, Script};
use tokio::runtime::Handle;

use call::{DocumentCall, DocumentReply};

use crate::{answer::Answer, error::DataError, redis_link::RedisLink, remote::RemoteThread};

/// A server with documents.
#[derive(Debug)]
pub(crate) struct DocumentServer {
    link: Arc<RedisLink>,
    handle: Handle,
    value_bytes: usize,
    reply_bytes: usize,
}

impl DocumentServer {
    pub(crate) fn new(
        url: &Secret,
        limits: &DataLimits,
        remote: &RemoteThread,
    ) -> Result<Self, String> {
        Ok(Self {
            link: Arc::new(RedisLink::new(url, limits.timeout)?),
            handle: remote.events()?,
            value_bytes: limits.value_bytes,
            reply_bytes: limits.result_bytes,
        })
    }

    /// The reason for which a call is not made.
    pub(crate) fn at_once(&self, call: &DocumentCall) -> Option<DataError> {
        let DocumentCall::Run { arguments, .. } = call else {
            return None;
        };
        let longest = arguments.iter().map(String::len).max().unwrap_or_default();
        (longest > self.value_bytes).then(|| {
            DataError::Invalid(format!(
                "value: has {longest} bytes, and limits.data.value_bytes is {}; raise it, or store less",
                self.value_bytes
            ))
        })
    }

    pub(crate) fn begin(&self, call: DocumentCall, answer: Answer) {
        let (link, most) = (Arc::clone(&self.link), self.reply_bytes);
        answer.after(&self.handle, async move { done(&link, &call, most).await });
    }

    pub(crate) fn close(&self) {
        let link = Arc::clone(&self.link);
        self.handle.spawn(async move { link.close().await });
    }
}

async fn done(
    link: &RedisLink,
    call: &DocumentCall,
    most: usize,
) -> Result<DocumentReply, DataError> {
    let (mut connection, number) = link.connection().await?;
    let reply = link.awaited(number);
    let done = match call {
        DocumentCall::Ping => {
            let pinged = redis::cmd("PING").query_async::<()>(&mut connection).await;
            pinged.map(|()| DocumentReply::Reached)
        }
        DocumentCall::Run {
            script,
            prefix,
            arguments,
            ..
        } => {
            let script = Script::new(script);
            let mut run = script.key(&**prefix);
            run.arg(most).arg(arguments);
            let replied = run.invoke_async(&mut connection).await;
            replied.map(DocumentReply::Parts)
        }
    };
    reply.came();
    match done {
        Ok(reply) => Ok(reply),
        Err(error) => match link.lost(&error, number).await {
            Some(lost) => Err(lost),
            None => Err(refused(&error, most)),
        },
    }
}

fn refused(error: &RedisError, most: usize) -> DataError {
    let text = error.to_string();
    let has = |part: &str| text.to_ascii_lowercase().contains(part);
    DataError::Refused(if has("unknown redis command") || has("unknown command") {
        "the Redis server does not keep JSON (it has no JSON.SET), and so no documents; use Redis 8, Redis Stack, or the \
         module RedisJSON or valkey-json, or keep them in sqlite:FILE or postgresql://"
            .to_owned()
    } else if text.contains("TOOLONG") {
        format!(
            "a document has more than {most} bytes of JSON (limits.data.result_bytes); raise it"
        )
    } else if text.contains("TOOMANY") {
        "the collection has as many indexes as it may have; find by a field that has one".to_owned()
    } else {
        format!("the Redis server: {text}")
    })
}
