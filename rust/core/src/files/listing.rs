//! The page that lists the files of a folder.

use std::fmt::Write as _;

use crate::http::percent;

/// A file or folder in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedName {
    /// As the file system has it.
    pub name: Vec<u8>,
    /// A folder: its link ends with `/`.
    pub is_folder: bool,
}

/// The page for `path`, the path of the request. `complete`: false if the folder has more names than are listed.
pub fn page(path: &str, names: &mut [ListedName], has_parent: bool, complete: bool) -> String {
    names.sort_unstable_by(|a, b| {
        b.is_folder
            .cmp(&a.is_folder)
            .then_with(|| a.name.cmp(&b.name))
    });
    let title = escaped(path.as_bytes());
    let mut out = String::with_capacity(512 + names.len() * 64);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<h1>{title}</h1>\n<ul>\n"
    );
    if has_parent {
        out.push_str("<li><a href=\"../\">../</a>\n");
    }
    for one in names.iter() {
        let slash = if one.is_folder { "/" } else { "" };
        let _ = writeln!(
            out,
            "<li><a href=\"./{}{slash}\">{}{slash}</a>",
            percent::encoded(&one.name, percent::is_unreserved),
            escaped(&one.name)
        );
    }
    out.push_str("</ul>\n");
    if !complete {
        out.push_str("<p>There are more files than are listed here.\n");
    }
    out
}

/// As text of HTML; bytes that are not UTF-8 become U+FFFD.
fn escaped(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &[u8], is_folder: bool) -> ListedName {
        ListedName {
            name: name.to_vec(),
            is_folder,
        }
    }

    #[test]
    fn folders_come_first_and_names_are_escaped_in_text_and_link() {
        let mut names = [
            named(b"z.txt", false),
            named(b"<script>alert(1)</script>", false),
            named(b"a\"b&c", false),
            named(b"javascript:x", false),
            named(b"\xff", false),
            named(b"sub", true),
        ];
        let page = page("/a<b>/", &mut names, true, true);
        let body = page.split_once("<ul>").map_or("", |(_, body)| body);
        let links: Vec<&str> = body
            .lines()
            .filter(|line| line.starts_with("<li>"))
            .collect();
        assert_eq!(
            links,
            [
                "<li><a href=\"../\">../</a>",
                "<li><a href=\"./sub/\">sub/</a>",
                "<li><a href=\"./%3Cscript%3Ealert%281%29%3C%2Fscript%3E\">&lt;script&gt;alert(1)&lt;/script&gt;</a>",
                "<li><a href=\"./a%22b%26c\">a&quot;b&amp;c</a>",
                "<li><a href=\"./javascript%3Ax\">javascript:x</a>",
                "<li><a href=\"./z.txt\">z.txt</a>",
                "<li><a href=\"./%FF\">\u{fffd}</a>",
            ]
        );
        assert!(page.contains("<title>/a&lt;b&gt;/</title>"));
        assert!(!page.contains("more files"));
    }

    #[test]
    fn a_list_that_is_not_complete_says_so() {
        let page = page("/", &mut [], false, false);
        assert!(page.contains("more files") && !page.contains("../"));
    }
}
