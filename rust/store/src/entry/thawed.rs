//! The unpacked header maps of the responses that this thread sends most, so that a hot response is not unpacked for
//! every hit, and threads that send the same response do not contend for one reference count.

use std::{
    cell::RefCell,
    sync::{Arc, Weak},
};

use edgerouter_core::http::Fields;

use super::Entry;
use crate::fields;

/// Number of slots; a response has one slot, by its address.
const PLACES: usize = 256;

#[derive(Debug, Default)]
struct Place {
    /// Compared by address. A weak reference keeps the address from being used again, and nothing else of the entry.
    entry: Weak<Entry>,
    headers: Fields,
    /// The address of the last entry that was not found here: at its second time in a row it takes the slot.
    next: usize,
}

thread_local! {
    static PLACES_OF_THREAD: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
}

/// A copy of the header map of `entry`, if this thread sends it often.
pub(super) fn headers(entry: &Arc<Entry>) -> Option<Fields> {
    let address = Arc::as_ptr(entry).addr();
    PLACES_OF_THREAD.with(|places| {
        let mut places = places.try_borrow_mut().ok()?;
        if places.is_empty() {
            places.resize_with(PLACES, Place::default);
        }
        // The low bits are those of the allocator's sizes; the bits above them differ.
        let place = places.get_mut((address >> 5 ^ address >> 13) % PLACES)?;
        if place.entry.as_ptr().addr() == address {
            return Some(place.headers.clone());
        }
        if place.next != address {
            place.next = address;
            return None;
        }
        place.entry = Arc::downgrade(entry);
        place.headers = fields::unpack(entry.fields());
        Some(place.headers.clone())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Content, Object, PurgeFacts};

    #[test]
    fn an_entry_gets_its_own_headers_however_many_share_its_place() {
        let entry = |i: u64| {
            let mut headers = Fields::new();
            headers.insert("x-number", http::HeaderValue::from(i));
            Arc::new(Entry::new(
                b"key",
                Content::Object(Object::sample(headers)),
                PurgeFacts::default(),
            ))
        };
        for round in 0..20 {
            let entries: Vec<_> = (0..PLACES as u64).map(|i| entry(i * 20 + round)).collect();
            for _ in 0..3 {
                for (i, entry) in entries.iter().enumerate() {
                    for _ in 0..2 {
                        let number = entry
                            .object()
                            .unwrap()
                            .headers
                            .get("x-number")
                            .unwrap()
                            .owned();
                        assert_eq!(number, (i as u64 * 20 + round).to_string());
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_of_an_entry_is_kept_but_its_address() {
        let headers = Fields::new();
        let entry = Arc::new(Entry::new(
            b"key",
            Content::Object(Object::sample(headers)),
            PurgeFacts::default(),
        ));
        for _ in 0..3 {
            entry.object().unwrap();
        }
        assert!(super::headers(&entry).is_some());
        assert_eq!(Arc::strong_count(&entry), 1);
    }
}
