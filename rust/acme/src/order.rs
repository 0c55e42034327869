//! One order: from a new account or a stored one to a certificate that has been looked at.

use std::{collections::BTreeMap, sync::Arc, sync::atomic::Ordering, time::Duration};

use edgerouter_core::{
    acme::{RenewalWindow, asked_wait, is_token, may_retry},
    plan::{AcmePolicy, ChallengeKind, Issuer},
    tls::renewal_identifier,
};
use instant_acme::{
    AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::Der;

use crate::{
    account,
    client::AskedWait,
    fault::{NONCES, OrderFault, described, insist, is_bad_nonce, is_problem},
    issued::{Challenge, IssuedCertificates},
    pair::{self, Pair},
    records::RecordCalls,
    storage::Storage,
};

fn offered_as(kind: ChallengeKind) -> ChallengeType {
    match kind {
        ChallengeKind::Http01 => ChallengeType::Http01,
        ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
        ChallengeKind::Dns01 => ChallengeType::Dns01,
    }
}

/// Everything that an order needs besides its issuer.
pub(crate) struct OrderContext {
    pub(crate) name: Box<str>,
    pub(crate) policy: Arc<AcmePolicy>,
    pub(crate) storage: Storage,
    pub(crate) certificates: Arc<IssuedCertificates>,
    pub(crate) exchange_timeout: Duration,
    pub(crate) order_timeout: Duration,
    /// Attempts that have failed before: the next kind of challenge is tried.
    pub(crate) failures: u32,
    /// Unix seconds.
    pub(crate) now: i64,
    /// The certificate in use.
    pub(crate) held: Option<Pair>,
    /// Unix seconds before which an issuer, by its directory, wants no order for the name.
    pub(crate) patience: BTreeMap<Box<str>, i64>,
    pub(crate) records: Arc<RecordCalls>,
}

fn identifier(pair: &Pair) -> Option<CertificateIdentifier<'static>> {
    let (authority, serial) = renewal_identifier(pair.certified.cert.first()?)?;
    let (authority, serial) = (Der::from_slice(authority), Der::from_slice(serial));
    Some(CertificateIdentifier::new(authority, serial).into_owned())
}

/// An issuer that gave no certificate.
pub(crate) struct IssuerFault {
    pub(crate) issuer: Box<str>,
    pub(crate) host: String,
    pub(crate) fault: OrderFault,
    /// Seconds for which it wants no order for the name.
    pub(crate) wait: i64,
}

/// A certificate that was issued: its text, and as it is used.
pub(crate) struct Obtained {
    pub(crate) pem: String,
    pub(crate) pair: Pair,
}

/// A challenge that is live until this is dropped.
enum Live<'a> {
    Here(&'a OrderContext, Challenge),
    /// A record of DNS, with its text.
    Record(&'a OrderContext, String),
}

impl<'a> Live<'a> {
    fn new(context: &'a OrderContext, challenge: Challenge, authorization: &str) -> Self {
        context
            .certificates
            .add_proof(challenge.clone(), authorization);
        // This process answers it all the same, and is the only one that serves unless others share the folder.
        if let Err(error) = context.storage.write_proof(&challenge, authorization) {
            tracing::warn!(
                "the proof for {} cannot be stored in {}: {error}; other processes cannot answer for it",
                context.name,
                context.policy.storage.display()
            );
        }
        Self::Here(context, challenge)
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        match self {
            Self::Here(context, challenge) => {
                context.certificates.remove_proof(challenge);
                context.storage.remove_proof(challenge);
            }
            Self::Record(context, value) => {
                context
                    .records
                    .clear(context.dns(), &context.record(), value);
            }
        }
    }
}

impl OrderContext {
    /// The record of DNS that proves the name (RFC 8555 §8.4).
    fn record(&self) -> String {
        let name = self.name.strip_prefix("*.").unwrap_or(&self.name);
        format!("_acme-challenge.{name}")
    }

    fn dns(&self) -> &str {
        self.policy.dns.as_deref().unwrap_or_default()
    }

    /// Tries the issuers in their order; the reasons of all of them if none gives a certificate.
    pub(crate) async fn obtain(&self) -> Result<Obtained, Vec<IssuerFault>> {
        let mut faults = Vec::new();
        for issuer in &self.policy.issuers {
            let faulty = |fault, wait| IssuerFault {
                issuer: issuer.directory.clone(),
                host: issuer.host().to_owned(),
                fault,
                wait,
            };
            let until = self.patience.get(&issuer.directory).copied();
            if let Some(until) = until.filter(|until| !may_retry(*until, self.now)) {
                let wait = until - self.now;
                faults.push(faulty(OrderFault::Patience(wait), wait));
                continue;
            }
            let asked = Arc::default();
            let counts = &self.certificates.counts;
            counts.under_way.fetch_add(1, Ordering::Relaxed);
            let ended =
                tokio::time::timeout(self.order_timeout, self.obtain_by(issuer, &asked)).await;
            counts.under_way.fetch_sub(1, Ordering::Relaxed);
            match ended.unwrap_or(Err(OrderFault::Slow)) {
                Ok(obtained) => return Ok(obtained),
                Err(fault) => faults.push(faulty(fault, asked_wait(asked.seconds()))),
            }
        }
        Err(faults)
    }

    async fn obtain_by(
        &self,
        issuer: &Issuer,
        asked: &Arc<AskedWait>,
    ) -> Result<Obtained, OrderFault> {
        let timeout = self.exchange_timeout;
        let account = account::of(&self.policy, issuer, &self.storage, timeout, asked).await?;
        if let Some(wanted) = &issuer.profile {
            let mut offered: Vec<&str> = account.profiles().map(|it| it.name).collect();
            if !offered.contains(&&**wanted) {
                offered.sort_unstable();
                let listed = described(&Error::Other(offered.join(", ").into()));
                return Err(OrderFault::NoProfile {
                    wanted: wanted.to_string(),
                    offered: if listed.is_empty() {
                        "none".to_owned()
                    } else {
                        listed
                    },
                });
            }
        }
        let identifiers = [Identifier::Dns(self.name.to_string())];
        let plain = || {
            let new = NewOrder::new(&identifiers);
            match &issuer.profile {
                Some(profile) => new.profile(profile),
                None => new,
            }
        };
        let replaced = self.replaced(issuer).map(|it| plain().replaces(it));
        let mut order = match &replaced {
            Some(new) => insist(async || account.new_order(new).await).await,
            None => Err(Error::Unsupported("")),
        };
        // An issuer that has no such thing, or thinks otherwise of what is replaced, gets an order without it.
        let is_plain = order.as_ref().err().is_some_and(|error| {
            !is_problem(error, "accountDoesNotExist") && !is_problem(error, "rateLimited")
        });
        if is_plain {
            let new = plain();
            order = insist(async || account.new_order(&new).await).await;
        }
        let order = match order {
            // The issuer has lost the account, or it was closed there. The next attempt makes another.
            Err(error) if is_problem(&error, "accountDoesNotExist") => {
                self.storage.retire_account(&account::file_name(issuer))?;
                return Err(error.into());
            }
            ended => ended?,
        };
        self.follow(issuer, order).await
    }

    /// The certificate that an order replaces, as this issuer knows it (RFC 9773 §5).
    fn replaced(&self, issuer: &Issuer) -> Option<CertificateIdentifier<'static>> {
        let pair = self.held.as_ref()?;
        (pair.issuer.as_deref() == Some(&issuer.directory)).then(|| identifier(pair))?
    }

    /// The window in which the issuer wants the certificate to be renewed, and the seconds after which it is read
    /// again.
    pub(crate) async fn window(&self) -> (Option<RenewalWindow>, Option<i64>) {
        let read = async {
            let pair = self.held.as_ref()?;
            let directory = pair.issuer.as_deref()?;
            let issuer = self
                .policy
                .issuers
                .iter()
                .find(|it| *it.directory == *directory)?;
            if !account::is_stored(issuer, &self.storage) {
                return None;
            }
            let (timeout, asked) = (self.exchange_timeout, Arc::default());
            let made = account::of(&self.policy, issuer, &self.storage, timeout, &asked);
            let account = made.await.ok()?;
            let (info, after) = account.renewal_info(&identifier(pair)?).await.ok()?;
            let window = RenewalWindow {
                start: info.suggested_window.start.unix_timestamp(),
                end: info.suggested_window.end.unix_timestamp(),
            };
            Some((Some(window), i64::try_from(after.as_secs()).ok()))
        };
        let read = tokio::time::timeout(self.order_timeout, read).await;
        read.ok().flatten().unwrap_or_default()
    }

    async fn follow(&self, issuer: &Issuer, mut order: Order) -> Result<Obtained, OrderFault> {
        let patience = RetryPolicy::new()
            .initial_delay(Duration::from_millis(500))
            .backoff(1.5)
            .timeout(self.order_timeout);
        let proofs = self.prove(&mut order).await?;
        let status = insist(async || order.poll_ready(&patience).await).await?;
        if status != OrderStatus::Ready {
            return Err(self.refusal(&mut order).await);
        }
        drop(proofs);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![self.name.to_string()])?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key)?;
        insist(async || order.finalize_csr(request.der()).await).await?;
        let chain = insist(async || order.poll_certificate(&patience).await).await?;
        let pem = pair::text(&issuer.directory, &key.serialize_pem(), &chain);
        let pair = pair::read(pem.as_bytes(), &self.name, Some(self.now))?;
        Ok(Obtained { pem, pair })
    }

    /// Answers a challenge of each authorization that is pending, and notifies the issuer.
    async fn prove(&self, order: &mut Order) -> Result<Vec<Live<'_>>, OrderFault> {
        let mut live = Vec::new();
        let mut tries = 0;
        'again: loop {
            let mut authorizations = order.authorizations();
            while let Some(next) = authorizations.next().await {
                let mut authorization = match next {
                    Ok(authorization) => authorization,
                    Err(error) if is_bad_nonce(&error) && tries < NONCES => {
                        tries += 1;
                        continue 'again;
                    }
                    Err(error) => return Err(error.into()),
                };
                match authorization.status {
                    AuthorizationStatus::Valid => continue,
                    AuthorizationStatus::Pending => {}
                    _ => {
                        return Err(OrderFault::Refused(
                            "the authorization is not pending".to_owned(),
                        ));
                    }
                }
                let kind = self.kind(authorization.challenges.iter().map(|it| &it.r#type));
                let kind = kind.ok_or(OrderFault::NoChallenge)?;
                let offered = authorization.challenge(offered_as(kind));
                let mut challenge = offered.ok_or(OrderFault::NoChallenge)?;
                if !is_token(&challenge.token) {
                    return Err(OrderFault::BadToken);
                }
                let shown = match kind {
                    ChallengeKind::Http01 => Challenge::Token(challenge.token.as_str().into()),
                    ChallengeKind::TlsAlpn01 => Challenge::Handshake(self.name.clone()),
                    ChallengeKind::Dns01 => {
                        let value = challenge.key_authorization().dns_value();
                        let record = self.record();
                        live.push(Live::Record(self, value.clone()));
                        let set = self.records.set(self.dns(), &record, &value).await;
                        set.map_err(OrderFault::Record)?;
                        insist(async || challenge.set_ready().await).await?;
                        continue;
                    }
                };
                live.push(Live::new(
                    self,
                    shown,
                    challenge.key_authorization().as_str(),
                ));
                insist(async || challenge.set_ready().await).await?;
            }
            return Ok(live);
        }
    }

    /// The first kind that the issuer offers, beginning with another one after each failure.
    fn kind<'t>(
        &self,
        offered: impl Iterator<Item = &'t ChallengeType> + Clone,
    ) -> Option<ChallengeKind> {
        let kinds = &self.policy.challenges;
        let first = self.failures as usize % kinds.len().max(1);
        let mut turned = kinds.iter().cycle().skip(first).take(kinds.len());
        let found = turned.find(|kind| offered.clone().any(|it| *it == offered_as(**kind)));
        found.copied()
    }

    /// The issuer's reason for not accepting a proof.
    async fn refusal(&self, order: &mut Order) -> OrderFault {
        let mut authorizations = order.authorizations();
        let mut why = "it gives no reason".to_owned();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            if insist(async || authorization.refresh().await.map(drop))
                .await
                .is_err()
            {
                break;
            }
            let problem = authorization
                .challenges
                .iter()
                .find_map(|it| it.error.as_ref());
            if let Some(problem) = problem {
                why = described(&Error::Api(problem.clone()));
            }
        }
        OrderFault::Refused(why)
    }
}
