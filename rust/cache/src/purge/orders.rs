//! Purges in the JSON of the admin endpoint, Python and the command line.

use edgerouter_core::{
    cache::purge::{Matcher, Order, Scope, order, scope},
    plan::Plan,
};
use serde_json::{Value, json};

use super::{Denied, Purge, Purges, sweep};
use edgerouter_store::Store;

/// Reads, checks and accepts an order; a dry run returns its matches. Writes to the disk, or walks the store: not for a
/// thread that others wait for.
pub fn place(purges: &Purges, store: &Store, plan: &Plan, order: &Value) -> Result<Value, Denied> {
    let order = Order::read(order)?;
    if order.dry_run {
        order::bounded_number(&order, plan.limits.purge.scopes)?;
        let keys = scope::url_hashes(&order.scopes, plan);
        let census = sweep::census(store, &Matcher::new(&order.scopes, &keys));
        return Ok(json!({
            "dry_run": true,
            "matched": {"objects": census.objects, "bytes": census.bytes},
            "sample": census.sample,
            "warning": nothing(census.objects),
        }));
    }
    let (purge, new) = purges.order(order, plan)?;
    let mut answer = purge.to_json();
    if let Value::Object(fields) = &mut answer {
        fields.insert("new".to_owned(), Value::Bool(new));
    }
    Ok(answer)
}

/// The remembered purges as JSON, newest first, at most so many.
pub fn list(purges: &Purges, most: usize) -> Value {
    let purges = purges.list();
    let purges: Vec<Value> = purges.iter().take(most).map(|p| p.to_json()).collect();
    json!({"purges": purges})
}

fn nothing(objects: u64) -> Option<&'static str> {
    (objects == 0).then_some("nothing in the store matched: check spelling, host and query")
}

impl Purge {
    /// As CloudFront's API names it: `InProgress` or `Completed`.
    pub fn status(&self) -> &'static str {
        if self.completed() {
            "Completed"
        } else {
            "InProgress"
        }
    }

    fn warning(&self) -> Option<&'static str> {
        if !self.durable() {
            return Some(
                "in effect, but not written to the full disk: a restart now may bring back purged responses",
            );
        }
        self.completed().then(|| nothing(self.objects())).flatten()
    }

    /// As the answers of the API describe it; `created` in Unix seconds.
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "status": self.status(),
            "created": self.created as f64 / 1000.0,
            "soft": self.soft,
            "scopes": self.scopes.iter().map(describe).collect::<Vec<_>>(),
            "reference": self.reference,
            "matched": {"objects": self.objects(), "bytes": self.bytes()},
            "durable": self.durable(),
            "warning": self.warning(),
        })
    }
}

/// `url: host/path?query`, `tag: name`: for people.
fn describe(scope: &Scope) -> Value {
    let text = match scope {
        Scope::Url { host, path, query } => {
            let host = host.as_deref().unwrap_or_default();
            match query {
                Some(query) => format!("{host}{path}?{query}"),
                None => format!("{host}{path}"),
            }
        }
        Scope::Path { host, pattern } => {
            format!("{}{pattern}", host.as_deref().unwrap_or_default())
        }
        Scope::Host(name) | Scope::Tag(name) => name.clone(),
        Scope::Everything => "*".to_owned(),
    };
    json!({"kind": scope.kind(), "value": text})
}
