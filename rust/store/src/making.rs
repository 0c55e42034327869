//! The making of a coded variant, by one request at a time.

use std::sync::Arc;

use edgerouter_core::http::coding::ContentCoding;

use super::entry::Entry;

/// Kept while the variant of a response in a coding is being made, so that no other request has it made as well.
#[derive(Debug)]
pub struct MakesVariant {
    entry: Arc<Entry>,
    coding: ContentCoding,
}

impl MakesVariant {
    /// `None` if it is being made already, or the response has no variants.
    pub fn begin(entry: &Arc<Entry>, coding: ContentCoding) -> Option<Self> {
        entry.coded()?.begin(coding).then(|| Self {
            entry: Arc::clone(entry),
            coding,
        })
    }
}

impl Drop for MakesVariant {
    fn drop(&mut self) {
        if let Some(coded) = self.entry.coded() {
            coded.end(self.coding);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use edgerouter_core::http::Fields;

    use super::*;
    use crate::{Content, Object, PurgeFacts};

    fn entry(variants: Option<u64>) -> Arc<Entry> {
        let object = Object {
            variants,
            ..Object::sample(Fields::new())
        };
        Arc::new(Entry::new(
            b"key",
            Content::Object(object),
            PurgeFacts::default(),
        ))
    }

    #[test]
    fn a_variant_is_made_once_at_a_time_for_each_coding() {
        let entry = entry(Some(7));
        let brotli = MakesVariant::begin(&entry, ContentCoding::Brotli).unwrap();
        assert!(MakesVariant::begin(&entry, ContentCoding::Brotli).is_none());
        assert!(MakesVariant::begin(&entry, ContentCoding::Gzip).is_some());
        drop(brotli);
        assert!(MakesVariant::begin(&entry, ContentCoding::Brotli).is_some());
    }

    #[test]
    fn a_response_without_the_number_has_no_variants() {
        let entry = entry(None);
        assert!(entry.coded().is_none());
        assert!(MakesVariant::begin(&entry, ContentCoding::Brotli).is_none());
    }

    #[test]
    fn each_coding_and_each_response_has_keys_of_its_own() {
        let (one, other) = (entry(Some(7)), entry(Some(8)));
        let key = |entry: &Arc<Entry>, coding| entry.coded().unwrap().key(entry.key(), coding);
        let keys = [
            key(&one, ContentCoding::Brotli),
            key(&one, ContentCoding::Gzip),
            key(&other, ContentCoding::Gzip),
        ];
        assert!(keys.iter().all(|key| key.starts_with(b"key")));
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
        let softened = Arc::new(one.softened(1_000_010).unwrap());
        assert_eq!(softened.coded().unwrap().nonce(), 7);
    }
}
