//! Files of a folder, in words: which one a request is for. Nothing is opened here.

use http::Method;

use super::{Admitted, Steps};
use crate::{
    files::{path, response},
    http::coding::{self, ContentCoding},
    plan::FileFolder,
};

const FILES: &str = "files";

/// The file that the request would be answered with.
pub(super) fn file(folder: &FileFolder, admitted: &Admitted, steps: &mut Steps<'_>) {
    let head = &admitted.head;
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return steps.add(FILES, "405", "files answer GET and HEAD");
    }
    let found = match path::locate(folder, head.target.path()) {
        Ok(found) => found,
        Err(why) => return steps.add(FILES, "404", why.to_string()),
    };
    let names = match (&folder.index, found.is_folder) {
        (Some(index), true) => found.join(index.as_bytes()),
        _ => found.names.clone(),
    };
    let accepted = coding::accepted(&head.headers);
    let codings: Vec<&str> = response::codings(folder, &names, &accepted)
        .map(ContentCoding::as_str)
        .collect();
    let mut reason = match codings.as_slice() {
        [] => "the request accepts no coding of it: 406 if it is there".to_owned(),
        ["identity"] => "as it is".to_owned(),
        several => format!("the first of {} that is there", several.join(", ")),
    };
    if found.is_folder && folder.listing {
        reason.push_str("; without it the list of the folder");
    }
    if let Some(fallback) = &folder.fallback
        && response::wants_page(&head.method, &head.headers)
    {
        reason.push_str(&format!("; {fallback} if it is not there"));
    }
    let file = folder.root.join(String::from_utf8_lossy(&names).as_ref());
    steps.add(FILES, file.display().to_string(), reason);
}
