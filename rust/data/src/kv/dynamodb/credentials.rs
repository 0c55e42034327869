//! Credentials of AWS, from the environment or the file that AWS' own tools share.

use std::{env, path::PathBuf};

use edgerouter_core::secret::Secret;
use edgerouter_telemetry::regular;

/// The largest file that is read.
const LARGEST: u64 = 1 << 20;

/// An access key with its secret. `Debug` shows neither secret nor token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) key: Box<str>,
    pub(super) secret: Secret,
    /// Of temporary credentials.
    pub(super) token: Option<Secret>,
}

/// The place of credentials, settled at the start.
#[derive(Debug, Clone)]
pub(super) enum CredentialSource {
    /// They were in the environment.
    Environment(Credentials),
    /// They are in a file, which others may replace.
    File { path: PathBuf, profile: String },
    /// There is no place.
    Nowhere,
}

/// The remedy in all errors about credentials.
pub(super) const REMEDY: &str =
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them into ~/.aws/credentials";

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// The region of the environment.
pub(super) fn region() -> Option<String> {
    variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"))
}

/// The endpoint of the environment.
pub(super) fn endpoint() -> Option<String> {
    variable("AWS_ENDPOINT_URL_DYNAMODB")
}

impl CredentialSource {
    /// The place, by the environment.
    pub(super) fn of_environment() -> Self {
        let pair = variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY"));
        if let Some((key, secret)) = pair {
            return Self::Environment(Credentials {
                key: key.trim().into(),
                secret: Secret(secret.trim().as_bytes().to_vec()),
                token: variable("AWS_SESSION_TOKEN")
                    .map(|token| Secret(token.trim().as_bytes().to_vec())),
            });
        }
        let given = variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
        let path =
            given.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".aws/credentials")));
        match path {
            Some(path) => Self::File {
                path,
                profile: variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned()),
            },
            None => Self::Nowhere,
        }
    }

    /// Reads the credentials; blocks for a file. `Err`: why there are none, without any part of them.
    pub(super) fn read(&self) -> Result<Credentials, String> {
        match self {
            Self::Environment(credentials) => Ok(credentials.clone()),
            Self::Nowhere => Err(format!("there are no credentials; {REMEDY}")),
            Self::File { path, profile } => {
                let shown = path.display();
                let wrong =
                    |why: &str| format!("there are no credentials: {shown}: {why}; {REMEDY}");
                let bytes =
                    regular::read(path, LARGEST).map_err(|error| wrong(&error.to_string()))?;
                let text = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8 text"))?;
                of_profile(&text, profile).ok_or_else(|| {
                    wrong(&format!("has no key and secret for the profile {profile}"))
                })
            }
        }
    }
}

/// The credentials of a profile in the text of a file.
fn of_profile(text: &str, profile: &str) -> Option<Credentials> {
    let (mut inside, mut key, mut secret, mut token) = (false, None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.split(']').next().map(str::trim) == Some(profile);
        } else if let Some((name, value)) = line.split_once('=').filter(|_| inside) {
            let value = value.trim();
            match name.trim() {
                "aws_access_key_id" => key = Some(value),
                "aws_secret_access_key" => secret = Some(value),
                "aws_session_token" => token = Some(value),
                _ => {}
            }
        }
    }
    let filled = |value: Option<&str>| value.filter(|value| !value.is_empty()).map(str::to_owned);
    Some(Credentials {
        key: filled(key)?.into(),
        secret: Secret(filled(secret)?.into_bytes()),
        token: filled(token).map(|token| Secret(token.into_bytes())),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_has_its_own_credentials() {
        let text = "# shared\n[default]\naws_access_key_id = A\naws_secret_access_key=S=\n\n[ other ]\n\
            aws_access_key_id=B\naws_secret_access_key=T\naws_session_token = N\nregion=x\n[empty]\naws_access_key_id=C\n";
        let found = of_profile(text, "default").unwrap();
        assert_eq!(
            (&*found.key, found.secret.as_bytes(), found.token),
            ("A", &b"S="[..], None)
        );
        let other = of_profile(text, "other").unwrap();
        assert_eq!(
            (&*other.key, other.token),
            ("B", Some(Secret(b"N".to_vec())))
        );
        assert_eq!(of_profile(text, "empty"), None);
        assert_eq!(of_profile(text, "none"), None);
    }
}
