//! From a plan's listeners to configurations of rustls. Every problem is reported at its path, and none shows a key.

use std::sync::{Arc, OnceLock};

use ::aws_lc_rs::digest::{Context, SHA256};
use edgerouter_acme::{IssuedCertificates, issuer_fault};
use edgerouter_core::{
    plan::{
        AcmePolicy, ClientAuthentication, HttpProtocol, Listener, Plan, Problem, SecurityPolicy,
        TlsPolicy,
    },
    secret::FileSecret,
    tls::{NameTable, PolicyNames, TermsDigest, certificate_facts},
};
use rustls::{
    RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, cipher_suite, kx_group},
    },
    pki_types::{CertificateDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use super::{
    PolicyService, TlsListener, TlsListeners,
    certificates::Certificates,
    expiry::Expiries,
    places::Places,
    resumption::{PolicyDigest, Resumptions},
};

type Problems = Vec<Problem>;

pub(super) fn listeners(
    plan: &Plan,
    before: Option<&Resumptions>,
    issued: &Arc<IssuedCertificates>,
) -> Result<TlsListeners, Problems> {
    let mut resumptions = Resumptions::default();
    let mut problems = Problems::new();
    let places = Arc::new(Places::new(plan.limits.tls.handshakes));
    let mut all = NameTable::default();
    let mut expiries = Expiries::default();
    let mut listeners = Vec::with_capacity(plan.listeners.len());
    for (at, listener) in plan.listeners.iter().enumerate() {
        let mut names = NameTable::default();
        let mut policies = Vec::with_capacity(listener.tls.len());
        let mut terms = Vec::with_capacity(listener.tls.len());
        for (position, policy) in listener.tls.iter().enumerate() {
            let mut made = PolicyBuild {
                path: format!("listeners[{at}].tls[{position}]"),
                position,
                names: &mut names,
                all: &mut all,
                expiries: &mut expiries,
                issued,
                problems: &mut problems,
            };
            let terms_digest = terms_of(policy);
            let verifier = made.verifier(policy);
            let Some((certificates, digest)) = made.certificates(policy, &terms_digest) else {
                continue;
            };
            let Some(verifier) = verifier else {
                continue;
            };
            let certificates = Arc::new(certificates);
            let sessions = plan.limits.tls.sessions;
            let config = resumptions
                .of(digest, before, sessions)
                .and_then(|resumption| {
                    let resolver = Arc::clone(&certificates);
                    let mut config = configured(policy, listener, verifier, resolver)?;
                    config.ticketer = resumption.tickets;
                    config.session_storage = resumption.sessions;
                    Ok(config)
                });
            match config {
                Ok(config) => {
                    policies.push(PolicyService {
                        config: Arc::new(config),
                        certificates,
                        client: policy.client.clone().map(Arc::new),
                    });
                    terms.push(terms_digest);
                }
                Err(error) => made.refuse("", error.to_string()),
            }
        }
        listeners.push((policies, names, terms));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let all = Arc::new(all);
    let made = listeners.into_iter().map(|(policies, own, terms)| {
        (!policies.is_empty()).then(|| {
            Arc::new(TlsListener {
                policies,
                names: PolicyNames {
                    own,
                    all: Arc::clone(&all),
                    terms,
                },
                issued: plan.answers_challenges.then(|| Arc::clone(issued)),
                timeout: plan.limits.tls.handshake_timeout,
                places: Arc::clone(&places),
            })
        })
    });
    Ok(TlsListeners {
        listeners: made.collect(),
        resumptions,
        expiries,
        issued: Arc::clone(issued),
    })
}

/// Digest of what a client has to meet.
fn terms_of(policy: &TlsPolicy) -> TermsDigest {
    let mut digest = Context::new(&SHA256);
    digest.update(policy.security.as_str().as_bytes());
    if let Some(client) = &policy.client {
        digest.update(if client.required {
            b"\0required"
        } else {
            b"\0optional"
        });
        for (fact, field) in &client.fields {
            digest.update(fact.as_str().as_bytes());
            digest.update(field.as_str().as_bytes());
            digest.update(b"\0");
        }
        digest.update(client.ca.as_bytes());
    }
    TermsDigest::try_from(digest.finish().as_ref()).unwrap_or_default()
}

fn configured(
    policy: &TlsPolicy,
    listener: &Listener,
    verifier: Arc<dyn ClientCertVerifier>,
    certificates: Arc<Certificates>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider(policy.security))
        .with_protocol_versions(versions(policy.security))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificates);
    // CloudFront's policies are in the order of the server's preference.
    config.ignore_client_order = true;
    config.alpn_protocols = listener
        .protocols
        .iter()
        .map(|protocol| HttpProtocol::alpn(*protocol).to_vec())
        .collect();
    Ok(config)
}

fn versions(security: SecurityPolicy) -> &'static [&'static SupportedProtocolVersion] {
    static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    static MODERN: [&SupportedProtocolVersion; 1] = [&TLS13];
    match security {
        SecurityPolicy::Tls12From2021 | SecurityPolicy::Tls12From2025 => &BOTH,
        SecurityPolicy::Tls13From2025 => &MODERN,
    }
}

fn cipher_suites(security: SecurityPolicy) -> Vec<SupportedCipherSuite> {
    use cipher_suite::*;
    let mut suites = vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384];
    if security == SecurityPolicy::Tls13From2025 {
        return suites;
    }
    suites.extend([
        TLS13_CHACHA20_POLY1305_SHA256,
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ]);
    if security == SecurityPolicy::Tls12From2021 {
        suites.extend([
            TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ]);
    }
    suites
}

/// Cryptography by a policy, made once. The client chooses among the groups of key exchange, by its preference.
pub(super) fn provider(security: SecurityPolicy) -> Arc<CryptoProvider> {
    static MADE: [OnceLock<Arc<CryptoProvider>>; SecurityPolicy::ALL.len()] =
        [const { OnceLock::new() }; SecurityPolicy::ALL.len()];
    let make = || {
        Arc::new(CryptoProvider {
            cipher_suites: cipher_suites(security),
            kx_groups: vec![
                kx_group::X25519MLKEM768,
                kx_group::X25519,
                kx_group::SECP256R1,
                kx_group::SECP384R1,
            ],
            ..aws_lc_rs::default_provider()
        })
    };
    match MADE.get(security as usize) {
        Some(made) => Arc::clone(made.get_or_init(make)),
        None => make(),
    }
}

fn authorities(client: &ClientAuthentication) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(client.ca.as_bytes()) {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        added.map_err(|error| format!("holds a certificate that cannot be used: {error}"))?;
    }
    if roots.is_empty() {
        return Err(
            "holds no certificate in PEM; give those of the authorities that issue the certificates of clients".to_owned(),
        );
    }
    Ok(roots)
}

/// One policy being built.
pub(super) struct PolicyBuild<'a> {
    path: String,
    pub(super) position: usize,
    /// The names of the listener's certificates, each with the position of its policy.
    pub(super) names: &'a mut NameTable<usize>,
    /// The names of all listeners' certificates.
    pub(super) all: &'a mut NameTable<()>,
    pub(super) expiries: &'a mut Expiries,
    issued: &'a Arc<IssuedCertificates>,
    problems: &'a mut Problems,
}

impl PolicyBuild<'_> {
    pub(super) fn refuse(&mut self, field: &str, message: impl Into<String>) {
        self.problems.push(Problem {
            path: format!("{}{field}", self.path),
            value: None,
            message: message.into(),
        });
    }

    pub(super) fn refuse_file(&mut self, secret: &FileSecret, field: &str, message: &str) {
        self.refuse(field, secret.fault(message));
    }

    /// The certificates, and the digest of the whole policy. `None`: at least one cannot be used.
    fn certificates(
        &mut self,
        policy: &TlsPolicy,
        terms: &TermsDigest,
    ) -> Option<(Certificates, PolicyDigest)> {
        let mut digest = Context::new(&SHA256);
        digest.update(terms);
        let mut certificates = Certificates::default();
        let before = self.problems.len();
        for (at, certificate) in policy.certificates.iter().enumerate() {
            let field = format!(".certificates[{at}]");
            let read = self.certificate(certificate, &field, policy.security);
            if let Some((key, staple_end)) = read {
                for der in &key.cert {
                    digest.update(&(der.len() as u64).to_be_bytes());
                    digest.update(der);
                }
                // The end of the chain.
                digest.update(&0u64.to_be_bytes());
                self.add(key, staple_end, &mut certificates, &field);
            }
        }
        if let Some(terms) = &policy.acme {
            self.obtained(terms, &mut certificates, &mut digest);
        }
        let digest = digest.finish();
        let digest = PolicyDigest::try_from(digest.as_ref()).ok()?;
        (self.problems.len() == before).then_some((certificates, digest))
    }

    /// Adds the names that certificates are obtained for. A certificate that is renewed changes nothing here, so
    /// sessions are resumed after it.
    fn obtained(
        &mut self,
        terms: &AcmePolicy,
        certificates: &mut Certificates,
        digest: &mut Context,
    ) {
        for (at, issuer) in terms.issuers.iter().enumerate() {
            if let Some(why) = issuer_fault(issuer) {
                self.refuse(&format!(".acme.issuers[{at}].ca_file"), why);
            }
        }
        digest.update(terms.on_demand.callable().unwrap_or_default().as_bytes());
        for (at, name) in terms.names.iter().enumerate() {
            digest.update(name.as_bytes());
            digest.update(b"\0");
            self.all.entry(name, || ());
            let position = *self.names.entry(name, || self.position);
            if position != self.position {
                let why = format!(
                    "is a name of tls[{position}]: a name selects one TLS policy; remove one of them"
                );
                self.refuse(&format!(".acme.names[{at}]"), why);
            }
        }
        certificates.add_obtained(self.issued, terms);
    }

    /// Notes when the authorities of clients' certificates end.
    fn note_authorities(&mut self, client: &ClientAuthentication) {
        for der in CertificateDer::pem_slice_iter(client.ca.as_bytes()).flatten() {
            if let Some(facts) = certificate_facts(&der) {
                self.expiries.note_authority(facts.subject, facts.valid.1);
            }
        }
    }

    /// The verifier of clients' certificates. `None`: the authorities cannot be used.
    fn verifier(&mut self, policy: &TlsPolicy) -> Option<Arc<dyn ClientCertVerifier>> {
        let Some(client) = &policy.client else {
            return Some(WebPkiClientVerifier::no_client_auth());
        };
        let roots = match authorities(client) {
            Ok(roots) => {
                self.note_authorities(client);
                Arc::new(roots)
            }
            Err(why) => {
                self.refuse_file(&client.ca, ".client_ca", &why);
                return None;
            }
        };
        let provider = provider(policy.security);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
        let verifier = if client.required {
            verifier
        } else {
            verifier.allow_unauthenticated()
        };
        match verifier.build() {
            Ok(verifier) => Some(verifier),
            Err(error) => {
                self.refuse_file(
                    &client.ca,
                    ".client_ca",
                    &format!("cannot be used: {error}"),
                );
                None
            }
        }
    }
}
