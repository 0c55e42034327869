//! Elements and text: the part of XML that the calls use. No document types, so only the five predefined entities and
//! character references.

use std::fmt::Write as _;

/// Bound on nested elements.
const MOST_DEPTH: usize = 16;

/// An element; its attributes are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct XmlElement {
    /// Without a prefix.
    pub name: String,
    /// All text directly in it, CDATA included, unescaped.
    pub text: String,
    /// In the order of the document.
    pub children: Vec<XmlElement>,
}

/// Why a text is not a document that this reader accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// A tag, a comment or an element is not closed.
    #[error("it ends in the middle")]
    Ends,
    /// `<!DOCTYPE …`: it could declare entities.
    #[error("a document type declaration is not accepted")]
    DocumentType,
    /// Also an end tag where no element is open.
    #[error("an end tag does not match its start tag")]
    Mismatch,
    /// An entity other than the five of XML and character references.
    #[error("an unknown entity")]
    Entity,
    /// More than 16 levels.
    #[error("elements are nested too deeply")]
    Depth,
    /// Elements or text stand beside the root, or there is none.
    #[error("there is no root element, or something beside it")]
    Root,
}

impl XmlElement {
    /// The first child of that name.
    pub fn child(&self, name: &str) -> Option<&XmlElement> {
        self.children.iter().find(|child| child.name == name)
    }
}

/// The root element of a document.
pub fn read(mut rest: &str) -> Result<XmlElement, XmlError> {
    rest = rest.trim_start_matches('\u{feff}');
    let mut open: Vec<XmlElement> = vec![XmlElement::default()];
    loop {
        let (text, markup) = match rest.find('<') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if let Some(current) = open.last_mut() {
            unescape(text, &mut current.text)?;
        }
        if markup.is_empty() {
            break;
        }
        let after = |marker: &str, end: &str| -> Option<Result<(&str, &str), XmlError>> {
            let inner = markup.strip_prefix(marker)?;
            Some(inner.split_once(end).ok_or(XmlError::Ends))
        };
        if let Some(comment) = after("<!--", "-->") {
            rest = comment?.1;
        } else if let Some(data) = after("<![CDATA[", "]]>") {
            let (text, more) = data?;
            if let Some(current) = open.last_mut() {
                current.text.push_str(text);
            }
            rest = more;
        } else if markup.starts_with("<!") {
            return Err(XmlError::DocumentType);
        } else if let Some(instruction) = after("<?", "?>") {
            rest = instruction?.1;
        } else if let Some(end) = after("</", ">") {
            let (name, more) = end?;
            let done = open.pop().ok_or(XmlError::Mismatch)?;
            let parent = open.last_mut().ok_or(XmlError::Mismatch)?;
            if done.name != local(name.trim()) {
                return Err(XmlError::Mismatch);
            }
            parent.children.push(done);
            rest = more;
        } else {
            let (tag, more) = start_tag(markup)?;
            let (tag, empty) = match tag.strip_suffix('/') {
                Some(tag) => (tag, true),
                None => (tag, false),
            };
            let name = tag.split_ascii_whitespace().next().unwrap_or_default();
            let element = XmlElement {
                name: local(name).to_owned(),
                ..XmlElement::default()
            };
            if empty {
                if let Some(current) = open.last_mut() {
                    current.children.push(element);
                }
            } else {
                if open.len() > MOST_DEPTH {
                    return Err(XmlError::Depth);
                }
                open.push(element);
            }
            rest = more;
        }
    }
    match (open.pop(), open.is_empty()) {
        (Some(mut document), true) if document.text.trim().is_empty() => {
            match (document.children.pop(), document.children.is_empty()) {
                (Some(root), true) => Ok(root),
                _ => Err(XmlError::Root),
            }
        }
        (_, true) => Err(XmlError::Root),
        _ => Err(XmlError::Ends),
    }
}

fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

/// The text between `<` and its `>`: a quoted value of an attribute may contain one.
fn start_tag(markup: &str) -> Result<(&str, &str), XmlError> {
    let mut quote = None;
    for (at, byte) in markup.bytes().enumerate() {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            (None, b'>') => {
                let tag = markup.get(1..at).unwrap_or_default();
                return Ok((tag, markup.get(at + 1..).unwrap_or_default()));
            }
            _ => {}
        }
    }
    Err(XmlError::Ends)
}

fn unescape(text: &str, out: &mut String) -> Result<(), XmlError> {
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('&') {
        out.push_str(before);
        let (name, more) = from.split_once(';').ok_or(XmlError::Entity)?;
        let code = |digits: &str, radix| {
            u32::from_str_radix(digits, radix)
                .ok()
                .and_then(char::from_u32)
                .ok_or(XmlError::Entity)
        };
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => match name.strip_prefix('#') {
                Some(digits) => match digits.strip_prefix('x') {
                    Some(digits) => code(digits, 16)?,
                    None => code(digits, 10)?,
                },
                None => return Err(XmlError::Entity),
            },
        });
        rest = more;
    }
    out.push_str(rest);
    Ok(())
}

/// Appends `<name>text</name>`.
pub fn leaf(out: &mut String, name: &str, text: &str) {
    let _ = write!(out, "<{name}>");
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    let _ = write!(out, "</{name}>");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn elements_text_and_entities_are_read() {
        let root = read(
            "<?xml version='1.0'?><!-- a --><a:B xmlns:a=\"x>y\"> t&amp;&#65;&#x42;<C/><D><![CDATA[<&]]></D></a:B>\n",
        )
        .unwrap();
        assert_eq!((root.name.as_str(), root.text.as_str()), ("B", " t&AB"));
        assert_eq!(root.child("D").unwrap().text, "<&");
        assert!(root.child("C").is_some() && root.child("E").is_none());
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for (text, want) in [
            ("", XmlError::Root),
            ("x", XmlError::Root),
            ("<a/><b/>", XmlError::Root),
            ("<a>", XmlError::Ends),
            ("<a", XmlError::Ends),
            ("<a><b></a></b>", XmlError::Mismatch),
            ("</a>", XmlError::Mismatch),
            (
                "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>",
                XmlError::DocumentType,
            ),
            ("<a>&b;</a>", XmlError::Entity),
            ("<a>&#x110000;</a>", XmlError::Entity),
            ("<a><!-- </a>", XmlError::Ends),
        ] {
            assert_eq!(read(text), Err(want), "{text}");
        }
        assert_eq!(read(&"<a>".repeat(100)), Err(XmlError::Depth));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["", "a", "<&>\"'é", "]]>"] {
            let mut out = String::new();
            leaf(&mut out, "A", text);
            assert_eq!(read(&out).unwrap().text, text);
        }
    }
}
