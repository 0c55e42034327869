//! A store in a table of DynamoDB with the keys `pk`, which all entries share, and `sk`.
//!
//! `client` speaks to the service, with the signatures of `sign` and the `credentials` of the environment; `item` is
//! the form of entries. Reads are consistent. Every change is one request with a condition, so it happens whole or not
//! at all.

mod client;
mod credentials;
mod item;
mod sign;

use std::sync::Arc;

use edgerouter_core::plan::{
    dynamodb::{DynamoEndpoint, DynamoTable},
    limits::DataLimits,
};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::call::{
    KeyPage, KvCall, KvReply, KvResult, PutCondition, added, after, cursor_after, page,
};
use crate::{
    answer::Answer,
    clock::{WallClock, millis},
    error::DataError,
    remote::RemoteThread,
};
use client::{Client, Effect, ServiceError};
use item::Item;

/// The largest item that the service takes, in bytes.
const MOST_ITEM: usize = 400 << 10;
/// Bytes of an item besides value, key and metadata, at most.
const REST_OF_ITEM: usize = 256;
/// Requests for one page of keys: expired ones are left out after they were read.
const STEPS: usize = 16;
/// Attempts to change a value that others change at the same time.
const TURNS: usize = 16;
/// True for an item whose time has not ended.
const ALIVE: &str = "(attribute_not_exists(kv_expires) OR kv_expires > :now)";
/// True where there is no item, or one whose time has ended.
const FREE: &str = "(attribute_not_exists(sk) OR kv_expires <= :now)";

/// A store in a table.
#[derive(Debug)]
pub(crate) struct DynamoStore {
    table: Arc<Table>,
    handle: Handle,
}

#[derive(Debug)]
struct Table {
    client: Client,
    name: Box<str>,
    partition: Box<str>,
    value_bytes: usize,
    clock: Arc<WallClock>,
}

impl DynamoStore {
    pub(crate) fn new(
        address: &DynamoTable,
        binding: &str,
        limits: &DataLimits,
        remote: &RemoteThread,
        clock: Arc<WallClock>,
    ) -> Result<Self, String> {
        let handle = remote.events()?;
        let endpoint = match (&address.endpoint, credentials::endpoint()) {
            (Some(endpoint), _) => Some(endpoint.clone()),
            (None, Some(text)) => Some(DynamoEndpoint::parse(&text).ok_or(
                "needs AWS_ENDPOINT_URL_DYNAMODB to be https://HOST:PORT, or http:// without TLS",
            )?),
            (None, None) => None,
        };
        let region = address.region.clone();
        let region = region.or_else(|| credentials::region().map(Into::into));
        let (region, endpoint) = match (region, endpoint) {
            (Some(region), Some(endpoint)) => (region, endpoint),
            (None, Some(endpoint)) => ("us-east-1".into(), endpoint),
            (Some(region), None) => {
                let host = format!("dynamodb.{region}.amazonaws.com").into();
                let (tls, port) = (true, 443);
                (region, DynamoEndpoint { tls, host, port })
            }
            (None, None) => {
                return Err(
                    "needs a region: write dynamodb://TABLE?region=eu-central-1, or set AWS_REGION"
                        .to_owned(),
                );
            }
        };
        let (connections, timeout) = (limits.connections, limits.timeout);
        let table = address.table.clone();
        Ok(Self {
            table: Arc::new(Table {
                client: Client::new(&endpoint, region, table, connections, timeout)?,
                name: address.table.clone(),
                partition: address.partition.clone().unwrap_or_else(|| binding.into()),
                value_bytes: limits.value_bytes,
                clock,
            }),
            handle,
        })
    }

    pub(crate) fn begin(&self, call: KvCall, answer: Answer) {
        let table = Arc::clone(&self.table);
        answer.after(&self.handle, async move { table.call(&call).await });
    }

    pub(crate) fn close(&self) {
        self.table.client.close();
    }
}

/// True if the request was done, false if its condition does not hold.
fn held(result: Result<Value, ServiceError>) -> Result<bool, DataError> {
    match result {
        Ok(_) => Ok(true),
        Err(ServiceError::Condition) => Ok(false),
        Err(ServiceError::Data(error)) => Err(error),
    }
}

/// A result of a request without a condition.
fn plain(result: Result<Value, ServiceError>) -> Result<Value, DataError> {
    result.map_err(|error| match error {
        ServiceError::Condition => DataError::Refused("DynamoDB: a condition failed".to_owned()),
        ServiceError::Data(error) => error,
    })
}

/// Twice the same for one key is as good as impossible.
fn new_version() -> String {
    format!("{:016x}", fastrand::u64(..))
}

impl Table {
    fn key(&self, key: &str) -> Value {
        json!({"pk": {"S": &*self.partition}, "sk": {"S": key}})
    }

    fn now(&self) -> Value {
        json!({"N": self.clock.millis().to_string()})
    }

    async fn call(&self, call: &KvCall) -> KvResult {
        match call {
            KvCall::Get { key, .. } => {
                let found = self.find(key).await?;
                Ok(KvReply::Entry(found.map(|item| item.entry)))
            }
            KvCall::Put {
                key,
                value,
                metadata,
                ttl,
                condition,
            } => {
                let expires = ttl.map(|ttl| self.clock.millis().saturating_add(millis(ttl)));
                let metadata = metadata.as_deref();
                let entry = (&value[..], metadata, expires);
                self.put(key, entry, condition).await.map(KvReply::Done)
            }
            KvCall::Delete { key } => {
                let request = json!({
                    "TableName": &*self.name,
                    "Key": self.key(key),
                    "ConditionExpression": format!("attribute_exists(sk) AND {ALIVE}"),
                    "ExpressionAttributeValues": {":now": self.now()},
                });
                let done = self.client.request("DeleteItem", &request, Effect::Once);
                held(done.await).map(KvReply::Done)
            }
            KvCall::Add { key, by, ttl } => {
                for _ in 0..TURNS {
                    let added = match self.add_to_number(key, *by).await? {
                        Some(number) => Some(number),
                        None => self.add_to_other(key, *by, *ttl).await?,
                    };
                    if let Some(number) = added {
                        return Ok(KvReply::Number(number));
                    }
                }
                let why = "others change this key all the time; retry later";
                Err(DataError::Refused(why.to_owned()))
            }
            KvCall::List {
                prefix,
                cursor,
                limit,
            } => self
                .list(prefix, cursor.as_deref(), *limit)
                .await
                .map(KvReply::Page),
            KvCall::Ping => {
                let request = json!({
                    "TableName": &*self.name,
                    "Key": self.key("edgerouter"),
                    "ProjectionExpression": "sk",
                });
                plain(self.client.request("GetItem", &request, Effect::None).await)?;
                Ok(KvReply::Reached)
            }
        }
    }

    async fn find(&self, key: &str) -> Result<Option<Item>, DataError> {
        let request = json!({
            "TableName": &*self.name,
            "Key": self.key(key),
            "ConsistentRead": true,
        });
        let found = plain(self.client.request("GetItem", &request, Effect::None).await)?;
        match found.get("Item") {
            Some(item) => item::read(item, self.clock.millis(), self.value_bytes),
            None => Ok(None),
        }
    }

    async fn put(
        &self,
        key: &str,
        (value, metadata, expires): (&[u8], Option<&str>, Option<u64>),
        condition: &PutCondition,
    ) -> Result<bool, DataError> {
        let metadata_bytes = metadata.map_or(0, str::len);
        let bytes = value.len() + key.len() + self.partition.len() + metadata_bytes;
        if bytes > MOST_ITEM - REST_OF_ITEM {
            return Err(DataError::Refused(format!(
                "value: has {bytes} bytes with its keys and metadata, and DynamoDB keeps {} in an item; store less",
                MOST_ITEM - REST_OF_ITEM
            )));
        }
        let mut item = item::attributes(value, metadata, expires, &new_version());
        if let Value::Object(keys) = self.key(key) {
            item.extend(keys);
        }
        let mut request = json!({"TableName": &*self.name, "Item": item});
        let condition = match condition {
            PutCondition::Always => None,
            PutCondition::Absent => Some((FREE.to_owned(), json!({":now": self.now()}))),
            PutCondition::Version(version) => Some((
                format!("kv_version = :version AND {ALIVE}"),
                json!({":now": self.now(), ":version": {"S": &**version}}),
            )),
        };
        let effect = Effect::Once;
        if let (Value::Object(request), Some((condition, values))) = (&mut request, condition) {
            request.insert("ConditionExpression".to_owned(), condition.into());
            request.insert("ExpressionAttributeValues".to_owned(), values);
        }
        held(self.client.request("PutItem", &request, effect).await)
    }

    /// Adds to a number of the service; `None`: there is none, or it would leave its range.
    async fn add_to_number(&self, key: &str, by: i64) -> Result<Option<i64>, DataError> {
        let low = i64::MIN.saturating_sub(by.min(0));
        let high = i64::MAX.saturating_sub(by.max(0));
        let request = json!({
            "TableName": &*self.name,
            "Key": self.key(key),
            "UpdateExpression": "SET kv_version = :version ADD kv_number :by",
            "ConditionExpression":
                format!("attribute_exists(kv_number) AND (kv_number BETWEEN :low AND :high) AND {ALIVE}"),
            "ExpressionAttributeValues": {
                ":version": {"S": new_version()},
                ":by": {"N": by.to_string()},
                ":low": {"N": low.to_string()},
                ":high": {"N": high.to_string()},
                ":now": self.now(),
            },
            "ReturnValues": "UPDATED_NEW",
        });
        let done = match self
            .client
            .request("UpdateItem", &request, Effect::Once)
            .await
        {
            Ok(done) => done,
            Err(ServiceError::Condition) => return Ok(None),
            Err(ServiceError::Data(error)) => return Err(error),
        };
        let number = done
            .pointer("/Attributes/kv_number/N")
            .and_then(Value::as_str);
        let number = number.and_then(|number| number.parse().ok());
        let none = || DataError::Unreachable("DynamoDB: its answer has no number".to_owned());
        number.map(Some).ok_or_else(none)
    }

    /// Adds to a value that is no number of the service, or makes a counter; `None`: it has changed meanwhile.
    async fn add_to_other(
        &self,
        key: &str,
        by: i64,
        ttl: Option<std::time::Duration>,
    ) -> Result<Option<i64>, DataError> {
        let Some(item) = self.find(key).await? else {
            let expires = ttl.map(|ttl| self.clock.millis().saturating_add(millis(ttl)));
            let text = by.to_string();
            let entry = (text.as_bytes(), None, expires);
            let made = self.put(key, entry, &PutCondition::Absent).await?;
            return Ok(made.then_some(by));
        };
        let entry = item.entry;
        let number = added(&entry.value, by)?;
        if item.is_number {
            return Ok(None);
        }
        let request = json!({
            "TableName": &*self.name,
            "Key": self.key(key),
            "UpdateExpression": "SET kv_version = :version, kv_number = :number REMOVE kv_value",
            "ConditionExpression": "kv_version = :before",
            "ExpressionAttributeValues": {
                ":version": {"S": new_version()},
                ":number": {"N": number.to_string()},
                ":before": {"S": &*entry.version},
            },
        });
        let done = self
            .client
            .request("UpdateItem", &request, Effect::Once)
            .await;
        Ok(held(done)?.then_some(number))
    }

    async fn list(
        &self,
        prefix: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<KeyPage, DataError> {
        let mut from = after(cursor)?;
        let mut keys = Vec::new();
        for _ in 0..STEPS {
            let mut condition = "pk = :pk".to_owned();
            let mut values = json!({":pk": {"S": &*self.partition}, ":now": self.now()});
            if !prefix.is_empty() {
                condition.push_str(" AND begins_with(sk, :prefix)");
            }
            let mut request = json!({
                "TableName": &*self.name,
                "KeyConditionExpression": condition,
                "FilterExpression": ALIVE,
                "ProjectionExpression": "sk",
                "ConsistentRead": true,
                "Limit": limit + 1 - keys.len(),
            });
            if let (Value::Object(request), Value::Object(values)) = (&mut request, &mut values) {
                if !prefix.is_empty() {
                    values.insert(":prefix".to_owned(), json!({"S": prefix}));
                }
                if let Some(from) = &from {
                    request.insert("ExclusiveStartKey".to_owned(), self.key(from));
                }
                let values = std::mem::take(values);
                request.insert("ExpressionAttributeValues".to_owned(), values.into());
            }
            let found = plain(self.client.request("Query", &request, Effect::None).await)?;
            let items = found.get("Items").and_then(Value::as_array);
            let names = items.into_iter().flatten();
            let names = names.filter_map(|item| item.pointer("/sk/S")?.as_str());
            keys.extend(names.map(str::to_owned));
            let last = found.pointer("/LastEvaluatedKey/sk/S");
            let last = last.and_then(Value::as_str).map(str::to_owned);
            if last.is_none() || keys.len() > limit {
                return Ok(page(keys, limit));
            }
            from = last;
        }
        Ok(KeyPage {
            cursor: from.as_deref().map(cursor_after),
            keys,
        })
    }
}
