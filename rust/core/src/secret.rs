//! Secrets that a plan holds.

/// A resolved secret. Its text never appears in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// The secret's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A secret, and the file that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSecret {
    /// The content.
    pub secret: Secret,
    /// `None`: it was given otherwise.
    pub file: Option<Box<str>>,
}

impl FileSecret {
    /// The secret's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    /// A fault of it, with the name of the file.
    pub fn fault(&self, why: &str) -> String {
        match &self.file {
            Some(file) => format!("file {file}: {why}"),
            None => why.to_owned(),
        }
    }
}
