//! The account at an issuer: its key is made once and kept, and processes that share the folder share it.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use edgerouter_core::{
    plan::{AcmePolicy, Issuer},
    tls::hexadecimal,
};
use instant_acme::{Account, AccountCredentials, Error, ExternalAccountKey, NewAccount};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    client::{AskedWait, IssuerClient},
    fault::{OrderFault, insist},
    storage::Storage,
};

/// An account as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredAccount {
    /// As instant-acme writes them: the key, and the account's URL.
    credentials: Value,
    contact: Vec<String>,
}

/// Time between two looks at an account that another process is making.
const TURN: Duration = Duration::from_millis(200);

/// The name of an account's file: one for each issuer and external account.
pub(crate) fn file_name(issuer: &Issuer) -> String {
    let mut whole = issuer.directory.to_string();
    if let Some(external) = &issuer.external_account {
        let _ = write!(whole, "\0{}", external.key_id);
    }
    let hash = hexadecimal(digest(&SHA256, whole.as_bytes()).as_ref());
    let host = issuer
        .host()
        .replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    format!("{host}-{}", hash.get(..16).unwrap_or_default())
}

/// True if there is an account at an issuer.
pub(crate) fn is_stored(issuer: &Issuer, storage: &Storage) -> bool {
    matches!(storage.read_account(&file_name(issuer)), Ok(Some(_)))
}

/// The stored account, or a new one. Waits for another process that is making one; the caller bounds the time.
pub(crate) async fn of(
    policy: &AcmePolicy,
    issuer: &Issuer,
    storage: &Storage,
    timeout: Duration,
    asked: &Arc<AskedWait>,
) -> Result<Account, OrderFault> {
    let name = file_name(issuer);
    let _locked = loop {
        match storage.lock(&name)? {
            Some(locked) => break locked,
            None => tokio::time::sleep(TURN).await,
        }
    };
    let http = || {
        let client = IssuerClient::new(issuer, timeout, Arc::clone(asked));
        client.map_err(|why| Error::Other(why.into()))
    };
    let contact: Vec<String> = policy
        .email
        .iter()
        .map(|email| format!("mailto:{email}"))
        .collect();
    let contacts: Vec<&str> = contact.iter().map(String::as_str).collect();
    if let Some(bytes) = storage.read_account(&name)? {
        let unreadable = |_| OrderFault::Account(format!("accounts/{name}.json"));
        let mut stored: StoredAccount = serde_json::from_slice(&bytes).map_err(unreadable)?;
        let credentials =
            AccountCredentials::deserialize(&stored.credentials).map_err(unreadable)?;
        let known = Account::builder_with_http(Box::new(http()?));
        let account = known.from_credentials(credentials).await?;
        if stored.contact != contact {
            insist(async || account.update_contacts(&contacts).await).await?;
            stored.contact = contact;
            store(storage, &name, &stored)?;
        }
        return Ok(account);
    }
    // One that is made and cannot be kept would be made again with each attempt, and issuers count accounts.
    storage.try_account(&name)?;
    let external = issuer.external_account.as_ref();
    let new = NewAccount {
        contact: &contacts,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let directory = issuer.directory.to_string();
    let made = insist(async || {
        let external = external
            .map(|it| ExternalAccountKey::new(it.key_id.to_string(), it.hmac_key.as_bytes()));
        Account::builder_with_http(Box::new(http()?))
            .create(&new, directory.clone(), external.as_ref())
            .await
    });
    let (account, credentials) = made.await?;
    let credentials =
        serde_json::to_value(&credentials).map_err(|error| Error::Other(error.into()))?;
    store(
        storage,
        &name,
        &StoredAccount {
            credentials,
            contact,
        },
    )?;
    Ok(account)
}

fn store(storage: &Storage, name: &str, account: &StoredAccount) -> Result<(), OrderFault> {
    let json = serde_json::to_vec(account).map_err(|error| Error::Other(error.into()))?;
    Ok(storage.write_account(name, &json)?)
}
