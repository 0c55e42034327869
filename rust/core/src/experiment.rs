//! Experiments: which variant of a page a visitor sees (docs/design.md §9).
//!
//! A visitor with a stable id (a verified claim, or a field) is bucketed by a keyed hash, so that every machine and
//! every version of this program chooses the same variant independently. Other visitors keep the variant that their
//! cookie names, or get one by chance.
//!
//! # The bucket
//! Weighted rendezvous: each variant draws a number `u` in (0, 1] for the id, from SipHash-2-4 keyed with experiment,
//! salt and variant, and the variant with the least `-log2(u) / weight` wins. Its share is its weight over the sum of
//! the weights, and the order of the variants plays no part. A variant's draws do not depend on the others: raising one
//! weight only moves visitors *to* that variant, lowering one only *from* it, and a new variant takes its share from
//! each of the others in proportion. Cut points on a line would move more visitors as soon as there are three variants.
//! The logarithm is computed in integers, so the outcome does not depend on a machine's floating point.

pub(crate) mod bucket;
pub mod kept;
mod reading;
pub mod tally;

use std::sync::Arc;

use http::HeaderValue;

use crate::{
    http::{FieldName, FieldValue, Fields, cookie},
    identity::jwt::{Claims, NOT_FORWARDED, is_token},
    outcome::words,
    problem::SubProblem,
};

use bucket::Draw;

pub use reading::{ConfigSource, ConfigSpec, Payload, Reading, ReadingError, Readings};

/// How a newly assigned variant reaches the visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// With the page.
    Cookie,
    /// By a 302 to the same URL.
    Redirect,
}

/// `EXPERIMENT.by`: the source of the id that decides the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExperimentBy {
    /// The experiment's own cookie, else chance.
    Cookie,
    /// The token's subject.
    Sub,
    /// The value of a request field.
    Header(String),
    /// The value of a claim.
    Claim(String),
}

/// `EXPERIMENT`: an A/B test, read but not yet checked.
#[derive(Debug, Clone, PartialEq)]
pub struct ExperimentSpec {
    /// Part of the hash that decides the variant.
    pub name: String,
    /// Name of the cookie that keeps the variant.
    pub cookie: String,
    /// Name and weight, order kept; each weight is finite and ≥ 0 (checked by the reader).
    pub variants: Vec<(String, f64)>,
    /// How the visitor gets the cookie.
    pub mode: Mode,
    /// Source of the id that decides.
    pub by: ExperimentBy,
    /// Part of the hash that decides the variant: a new salt assigns all visitors anew.
    pub salt: String,
    /// Name of the request field that carries the variant to the origin.
    pub header: String,
    /// Seconds for which the cookie lasts.
    pub max_age: u32,
    /// The cookie has the attribute `Secure`.
    pub secure: bool,
    /// `Strict`, `Lax` or `None` (checked by the reader).
    pub same_site: String,
    /// The place of settings that change while the edge serves; `None`: none do.
    pub config: Option<ConfigSpec>,
    /// The request that converts.
    pub conversion: Option<String>,
}

/// The source of the id that decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// No id: the cookie, or chance.
    Chance,
    /// A verified claim.
    Claim(Arc<str>),
    /// A request field. Unless something in front of the edge sets it, the client can choose its variant by trying ids:
    /// good enough for experiments, never for entitlements.
    Header(FieldName),
}

/// An experiment, compiled.
#[derive(Debug)]
pub struct Experiment {
    /// As declared; logs and metrics name it too.
    pub name: Arc<str>,
    /// The cookie that keeps the variant.
    pub cookie: Arc<str>,
    /// How the visitor gets the cookie.
    pub mode: Mode,
    /// Source of the id that decides.
    pub by: By,
    /// The field that carries the variant to the origin.
    pub header: FieldName,
    /// The place of settings that change while the edge serves.
    pub config: Option<Box<ConfigSource>>,
    /// A hash of the salt.
    pub run: u64,
    /// The request that converts, as declared.
    pub conversion: Option<Box<str>>,
    /// Position among the experiments of the plan.
    pub counted: usize,
    variants: Vec<Variant>,
    /// The declared weights.
    shares: Shares,
}

/// Weights as whole numbers, by the position of their variants; 0 means switched off.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shares {
    each: Vec<u64>,
    total: u64,
}

#[derive(Debug)]
struct Variant {
    name: Arc<str>,
    weight: f64,
    draw: Draw,
    value: HeaderValue,
    set_cookie: HeaderValue,
}

words! {
    /// Why a visitor has a variant.
    pub enum AssignedBy {
        /// The stable id decided.
        Id = "id",
        /// The visitor's cookie names it.
        Kept = "kept",
        /// By chance: there was no cookie.
        New = "new",
        /// By chance: the cookie named no variant, or one that is switched off.
        Reassigned = "reassigned",
    }
}

/// A visitor's variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment<'a> {
    /// Position among the declared variants: what the experiment's methods take.
    pub index: usize,
    /// The variant's name.
    pub variant: &'a Arc<str>,
    /// The visitor's cookie does not name it yet.
    pub fresh: bool,
    /// How it was decided.
    pub reason: AssignedBy,
}

impl Experiment {
    /// Compiles a spec.
    pub fn compile(spec: ExperimentSpec) -> Result<Self, Vec<SubProblem>> {
        let mut problems: Vec<SubProblem> = Vec::new();
        let mut add = |path: &str, value: &str, message: &str| {
            problems.push((path.into(), Some(value.into()), message.into()));
        };
        if !is_token(&spec.name) {
            add("name", &spec.name, "must be letters, digits, - and _");
        }
        if !is_token(&spec.cookie) {
            add(
                "cookie",
                &spec.cookie,
                "must be a cookie name (RFC 6265 §4.1.1)",
            );
        }
        let prefixed = spec.cookie.starts_with("__Secure-") || spec.cookie.starts_with("__Host-");
        if prefixed && !spec.secure {
            add(
                "cookie",
                &spec.cookie,
                "browsers keep this prefix only with secure=True",
            );
        }
        if spec.max_age == 0 {
            let reason = "must be 1 second or more: a browser drops the cookie at once";
            add("max_age", "0", reason);
        }
        if spec.same_site == "None" && !spec.secure {
            add(
                "same_site",
                "None",
                "needs secure=True, or browsers drop the cookie",
            );
        }
        let by = match &spec.by {
            ExperimentBy::Cookie => By::Chance,
            ExperimentBy::Sub => By::Claim(Arc::from("sub")),
            ExperimentBy::Claim(claim) => By::Claim(Arc::from(claim.as_str())),
            ExperimentBy::Header(header) => match FieldName::from_bytes(header.as_bytes()) {
                Ok(header) => By::Header(header),
                Err(_) => {
                    add(
                        "by",
                        header,
                        "must be header: and a header name (RFC 9110 §5.1)",
                    );
                    By::Chance
                }
            },
        };
        let header = FieldName::from_bytes(spec.header.as_bytes());
        let wrong = match &header {
            Err(_) => Some("must be a header name (RFC 9110 §5.1)"),
            Ok(name) if name.is_of(NOT_FORWARDED) => {
                Some("must not be a header that frames a message or carries credentials")
            }
            Ok(_) => None,
        };
        if let Some(message) = wrong {
            add("header", &spec.header, message);
        }
        for (i, (name, _)) in spec.variants.iter().enumerate() {
            if !is_token(name) {
                let message = "must be letters, digits, - and _: it is a cookie value";
                add(&format!("variants[{i}]"), name, message);
            } else if spec.variants.iter().take(i).any(|(other, _)| other == name) {
                add(&format!("variants[{i}]"), name, "must not be named twice");
            }
        }
        let shares = Shares::of(spec.variants.iter().map(|(_, weight)| *weight));
        if shares.total == 0 {
            add("variants", "no weight", "must have a weight above 0");
        }
        let variants = spec
            .variants
            .iter()
            .filter_map(|(name, weight)| Variant::new(&spec, name, *weight))
            .collect();
        let config = spec.config.as_ref().map(|config| {
            ConfigSource::new(config, &spec.name, &spec.variants)
                .map_err(|(field, value, message)| add(field, &value, &message))
        });
        match header {
            Ok(header) if problems.is_empty() => Ok(Self {
                name: Arc::from(spec.name.as_str()),
                cookie: Arc::from(spec.cookie.as_str()),
                mode: spec.mode,
                by,
                header,
                config: config.and_then(Result::ok).map(Box::new),
                run: bucket::run(&spec.salt),
                conversion: spec.conversion.map(Into::into),
                counted: 0,
                variants,
                shares,
            }),
            _ => Err(problems),
        }
    }

    /// The variant of the visitor who sent `headers`. `random` is fresh and uniform; it is used only if nothing else
    /// decides. `reading`: the settings in use; `None`: they are as declared. The same arguments always give the same
    /// result.
    pub fn assign(
        &self,
        headers: &Fields,
        claims: Option<&Claims>,
        random: u64,
        reading: Option<&Reading>,
    ) -> Assignment<'_> {
        let shares = reading.map_or(&self.shares, |reading| &reading.shares);
        let (named, has_cookie) = self.cookie_variant(headers, shares);
        let by_id = self
            .id(headers, claims)
            .map(|id| self.bucket_in(id, shares));
        let (index, reason) = match (by_id, named) {
            (Some(index), _) => (index, AssignedBy::Id),
            (None, Some(index)) => (index, AssignedBy::Kept),
            (None, None) if has_cookie => (shares.chance(random), AssignedBy::Reassigned),
            (None, None) => (shares.chance(random), AssignedBy::New),
        };
        Assignment {
            index,
            // `compile` guarantees a variant; the experiment's name is a harmless substitute.
            variant: self.variants.get(index).map_or(&self.name, |one| &one.name),
            fresh: named != Some(index),
            reason,
        }
    }

    /// The variant of a stable id under the declared weights.
    pub fn bucket(&self, id: &[u8]) -> usize {
        self.bucket_in(id, &self.shares)
    }

    fn bucket_in(&self, id: &[u8], shares: &Shares) -> usize {
        let shares = shares.each.iter().copied();
        bucket::choose(self.variants.iter().map(|one| &one.draw).zip(shares), id)
    }

    /// The part of the key that stands for a variant: its name, with the hash of its payload if it has one.
    pub fn dimension<'a>(&'a self, index: usize, reading: Option<&'a Reading>) -> &'a str {
        let payload = reading.and_then(|reading| reading.payload(index));
        payload.map_or_else(|| self.variant(index), |payload| &payload.dimension)
    }

    /// True if both read the same settings of the same variants.
    pub fn reads_like(&self, other: &Self) -> bool {
        let sources = self.config.as_deref().zip(other.config.as_deref());
        self.name == other.name
            && self.variants().eq(other.variants())
            && sources.is_some_and(|(mine, theirs)| mine.reads_like(theirs))
    }

    /// Names and weights in declared order.
    pub fn variants(&self) -> impl Iterator<Item = (&Arc<str>, f64)> {
        self.variants.iter().map(|one| (&one.name, one.weight))
    }

    /// The name of a variant as it is shared.
    pub fn variant_name(&self, index: usize) -> Option<&Arc<str>> {
        self.variants.get(index).map(|one| &one.name)
    }

    /// The name of a variant; empty for an invalid index, as are the next two.
    pub fn variant(&self, index: usize) -> &str {
        self.variants.get(index).map_or("", |one| &one.name)
    }

    /// The variant as the value of [`Experiment::header`].
    pub fn value(&self, index: usize) -> HeaderValue {
        self.variants
            .get(index)
            .map_or(HeaderValue::from_static(""), |one| one.value.clone())
    }

    /// The `Set-Cookie` field that keeps the visitor in a variant.
    pub fn set_cookie(&self, index: usize) -> HeaderValue {
        self.variants
            .get(index)
            .map_or(HeaderValue::from_static(""), |one| one.set_cookie.clone())
    }

    /// The first variant in use that a cookie names, and whether there is any cookie of that name.
    fn cookie_variant(&self, headers: &Fields, shares: &Shares) -> (Option<usize>, bool) {
        let mut any = false;
        for (_, value) in cookie::pairs(headers).filter(|(name, _)| *name == self.cookie.as_bytes())
        {
            any = true;
            let named = (self.variants.iter().zip(&shares.each))
                .position(|(one, share)| one.name.as_bytes() == value && *share > 0);
            if named.is_some() {
                return (named, true);
            }
        }
        (None, any)
    }

    fn id<'a>(&self, headers: &'a Fields, claims: Option<&'a Claims>) -> Option<&'a [u8]> {
        match &self.by {
            By::Chance => None,
            By::Claim(name) => claims?.claim(name).map(str::as_bytes),
            By::Header(name) => headers.get(name).map(FieldValue::as_bytes),
        }
        .filter(|id| !id.is_empty())
    }
}

impl Shares {
    /// Whole weights stay as they are; others are scaled to 32 binary digits of the largest, and never to 0 unless they
    /// are
    /// 0.
    fn of(weights: impl Iterator<Item = f64> + Clone) -> Self {
        const MOST: f64 = (1u64 << 32) as f64;
        let largest = weights.clone().fold(0.0, f64::max);
        let is_whole = |weight: f64| weight.fract() == 0.0 && (0.0..=MOST).contains(&weight);
        let each: Vec<u64> = match weights.clone().all(is_whole) {
            true => weights.map(|weight| weight as u64).collect(),
            false => weights
                .map(|weight| match weight > 0.0 {
                    true => ((weight / largest * MOST) as u64).max(1),
                    false => 0,
                })
                .collect(),
        };
        let total = each.iter().sum();
        Self { each, total }
    }

    /// Maps a uniform number onto the weights.
    fn chance(&self, random: u64) -> usize {
        let mut left = ((u128::from(random) * u128::from(self.total)) >> 64) as u64;
        for (index, share) in self.each.iter().enumerate() {
            match left.checked_sub(*share) {
                Some(rest) => left = rest,
                None => return index,
            }
        }
        0
    }
}

impl Variant {
    /// `None` for a name that is not a token, which `compile` reports.
    fn new(spec: &ExperimentSpec, name: &str, weight: f64) -> Option<Self> {
        let secure = if spec.secure { "; Secure" } else { "" };
        let set_cookie = format!(
            "{}={name}; Path=/; Max-Age={}; SameSite={}{secure}",
            spec.cookie, spec.max_age, spec.same_site
        );
        Some(Self {
            name: Arc::from(name),
            weight,
            draw: Draw::new(&spec.name, &spec.salt, name),
            value: HeaderValue::from_str(name).ok()?,
            set_cookie: HeaderValue::from_str(&set_cookie).ok()?,
        })
    }
}

#[cfg(test)]
mod tests;
