//! Routes with files: the prefix that stands for the folder, and names that can be served.

use std::{path::Path, sync::Arc};

use http::Method;

use crate::{
    files::path,
    plan::{
        FileFolder, PathPattern,
        spec::{FilesSpec, Problems, RouteSpec, TargetSpec},
    },
};

/// Compiles the folder of a route with this pattern.
pub(super) fn folder(
    spec: FilesSpec,
    pattern: Option<&PathPattern>,
    path: &str,
    problems: &Problems,
) -> Option<Arc<FileFolder>> {
    let at = |field: &str| format!("{path}.files.{field}");
    if !spec.folder.starts_with('/') || spec.folder.contains('\0') {
        problems.add(
            at("folder"),
            Some(format!("{:?}", spec.folder)),
            "must be an absolute path of a folder",
        );
    }
    if let Some(index) = &spec.index
        && !is_servable(index, false)
    {
        problems.add(
            at("index"),
            Some(format!("{index:?}")),
            "must be the name of a file as in \"index.html\", not hidden and without \"/\"",
        );
    }
    if let Some(fallback) = &spec.fallback
        && !is_servable(fallback, true)
    {
        problems.add(
            at("fallback"),
            Some(format!("{fallback:?}")),
            "must be the path of a file in the folder as in \"index.html\", not hidden and without \"/\" at its start",
        );
    }
    let immutable = spec.immutable.as_deref().and_then(|glob| {
        let message = if glob.is_empty() || glob.contains('/') {
            "is compared with the name of the file, so it must be one, with * and ?, without \"/\""
                .to_owned()
        } else {
            match PathPattern::glob(glob) {
                Ok(pattern) => return Some(pattern),
                Err(error) => error.to_string(),
            }
        };
        problems.add(at("immutable"), Some(format!("{glob:?}")), message);
        None
    });
    let pattern = pattern?;
    let Some(prefix) = prefix(pattern) else {
        problems.add(
            format!("{path}.pattern"),
            Some(format!("{:?}", pattern.as_str())),
            "must be a path as in /assets/* or /assets, for the files of a folder: the rest of the path is the file's",
        );
        return None;
    };
    Some(Arc::new(FileFolder {
        root: Path::new(&spec.folder).into(),
        prefix,
        index: spec.index.map(Into::into),
        fallback: spec.fallback.map(Into::into),
        precompressed: spec.precompressed,
        listing: spec.listing,
        immutable,
    }))
}

/// Reports options that have no effect on a route with files.
pub(super) fn files_fit(spec: &RouteSpec, path: &str, problems: &Problems) {
    if !matches!(spec.target, TargetSpec::Files(_)) {
        return;
    }
    if let Some(method) =
        (spec.methods.iter()).find(|it| !matches!(**it, Method::GET | Method::HEAD))
    {
        problems.add(
            format!("{path}.methods"),
            Some(format!("{:?}", method.as_str())),
            "has no effect on a route with files, which answers GET and HEAD; remove it",
        );
    }
}

/// The part of a path that stands for the folder; `None` if the pattern is not a prefix with one `*`, or one path.
fn prefix(pattern: &PathPattern) -> Option<Arc<str>> {
    let literal = std::str::from_utf8(pattern.literal_prefix()).ok()?;
    if pattern.is_exact() {
        let slash = if literal.ends_with('/') { "" } else { "/" };
        return Some(format!("{literal}{slash}").into());
    }
    (pattern.prefix_tail() == Some(b"")).then(|| literal.into())
}

/// True if files of this name, or with `nested` of this path, are served.
fn is_servable(names: &str, nested: bool) -> bool {
    let mut each = names.split('/');
    each.all(|name| {
        !name.is_empty()
            && !matches!(name, "." | "..")
            && !path::is_hidden(name.as_bytes())
            && name.len() <= path::LONGEST_NAME
            && !name.bytes().any(|byte| byte.is_ascii_control())
    }) && (nested || !names.contains('/'))
}
