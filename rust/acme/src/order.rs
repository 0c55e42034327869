//! One order: from a new account or a stored one to a certificate that has been looked at.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use edgerouter_core::{
    acme::is_token,
    plan::{AcmePolicy, ChallengeKind, Issuer},
};
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus,
    RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use crate::{
    account,
    fault::{NONCES, OrderFault, described, insist, is_bad_nonce, is_problem},
    issued::IssuedCertificates,
    pair::{self, Pair},
    storage::Storage,
};

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
}

/// A certificate that was issued: its text, and as it is used.
pub(crate) struct Obtained {
    pub(crate) pem: String,
    pub(crate) pair: Pair,
}

/// A token that is live until this is dropped.
struct LiveToken<'a> {
    context: &'a OrderContext,
    token: String,
}

impl Drop for LiveToken<'_> {
    fn drop(&mut self) {
        self.context.certificates.remove_token(&self.token);
        self.context.storage.remove_token(&self.token);
    }
}

impl OrderContext {
    /// Tries the issuers in their order; the reasons of all of them if none gives a certificate.
    pub(crate) async fn obtain(&self) -> Result<Obtained, Vec<(String, OrderFault)>> {
        let mut faults = Vec::new();
        for issuer in &self.policy.issuers {
            let counts = &self.certificates.counts;
            counts.under_way.fetch_add(1, Ordering::Relaxed);
            let ended = tokio::time::timeout(self.order_timeout, self.obtain_by(issuer)).await;
            counts.under_way.fetch_sub(1, Ordering::Relaxed);
            match ended.unwrap_or(Err(OrderFault::Slow)) {
                Ok(obtained) => return Ok(obtained),
                Err(fault) => faults.push((issuer.host().to_owned(), fault)),
            }
        }
        Err(faults)
    }

    async fn obtain_by(&self, issuer: &Issuer) -> Result<Obtained, OrderFault> {
        let account =
            account::of(&self.policy, issuer, &self.storage, self.exchange_timeout).await?;
        let identifiers = [Identifier::Dns(self.name.to_string())];
        let new = NewOrder::new(&identifiers);
        let order = match insist(async || account.new_order(&new).await).await {
            // The issuer has lost the account, or it was closed there. The next attempt makes another.
            Err(error) if is_problem(&error, "accountDoesNotExist") => {
                self.storage.retire_account(&account::file_name(issuer))?;
                return Err(error.into());
            }
            ended => ended?,
        };
        self.follow(&account, order).await
    }

    async fn follow(&self, _account: &Account, mut order: Order) -> Result<Obtained, OrderFault> {
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
        let pem = format!("{}{chain}", key.serialize_pem());
        let pair = pair::read(pem.as_bytes(), &self.name, Some(self.now))?;
        Ok(Obtained { pem, pair })
    }

    /// Answers a challenge of each authorization that is pending, and notifies the issuer.
    async fn prove(&self, order: &mut Order) -> Result<Vec<LiveToken<'_>>, OrderFault> {
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
                let mut challenge = authorization
                    .challenge(kind)
                    .ok_or(OrderFault::NoChallenge)?;
                if !is_token(&challenge.token) {
                    return Err(OrderFault::BadToken);
                }
                let authorized = challenge.key_authorization();
                let token = challenge.token.clone();
                self.certificates.add_token(&token, authorized.as_str());
                live.push(LiveToken {
                    context: self,
                    token: token.clone(),
                });
                self.storage.write_token(&token, authorized.as_str())?;
                insist(async || challenge.set_ready().await).await?;
            }
            return Ok(live);
        }
    }

    /// The first kind that the issuer offers, beginning with another one after each failure.
    fn kind<'t>(
        &self,
        offered: impl Iterator<Item = &'t ChallengeType> + Clone,
    ) -> Option<ChallengeType> {
        let kinds = &self.policy.challenges;
        let first = self.failures as usize % kinds.len().max(1);
        let mut turned =
            kinds
                .iter()
                .cycle()
                .skip(first)
                .take(kinds.len())
                .map(|kind| match kind {
                    ChallengeKind::Http01 => ChallengeType::Http01,
                });
        turned.find(|kind| offered.clone().any(|it| it == kind))
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
