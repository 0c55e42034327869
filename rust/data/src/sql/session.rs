//! Sessions: calls of which each sees what those before it wrote and read, on whatever server they run.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    bookmark::{Bookmarks, Needed},
    position::Position,
};

/// A session of a database with replicas.
#[derive(Debug)]
pub struct Session {
    state: Mutex<SessionState>,
    bookmarks: Arc<Bookmarks>,
    /// Positions are learnt, which takes a question more for each call. Otherwise reads follow a write to the primary.
    tracks: bool,
}

#[derive(Debug)]
struct SessionState {
    needed: Needed,
    /// Writes that have begun, and may have taken effect at an unknown position.
    open: usize,
}

impl Session {
    /// The session of one call of a callable.
    pub(crate) fn of_call(bookmarks: &Arc<Bookmarks>) -> Self {
        Self::new(bookmarks, Needed::Nothing, false)
    }

    /// A session that goes on from a bookmark.
    pub(crate) fn from(bookmarks: &Arc<Bookmarks>, bookmark: &str) -> Self {
        Self::new(bookmarks, bookmarks.read(bookmark), true)
    }

    fn new(bookmarks: &Arc<Bookmarks>, needed: Needed, tracks: bool) -> Self {
        let state = SessionState { needed, open: 0 };
        Self {
            state: Mutex::new(state),
            bookmarks: Arc::clone(bookmarks),
            tracks,
        }
    }

    /// The place from which a later session goes on; `None` before the first call.
    pub fn bookmark(&self) -> Option<String> {
        self.bookmarks.write(&self.needed())
    }

    pub(super) fn needed(&self) -> Needed {
        let state = self.state.lock();
        match state.open {
            0 => state.needed.clone(),
            _ => Needed::Newest,
        }
    }

    pub(super) fn tracks(&self) -> bool {
        self.tracks
    }

    pub(super) fn write_begins(&self) {
        self.state.lock().open += 1;
    }

    /// A write had no effect.
    pub(super) fn write_failed(&self) {
        let mut state = self.state.lock();
        state.open = state.open.saturating_sub(1);
    }

    /// A write took effect, at a position that may be unknown.
    pub(super) fn wrote(&self, at: Option<Position>) {
        let mut state = self.state.lock();
        state.open = state.open.saturating_sub(1);
        state.needed = match (at, std::mem::replace(&mut state.needed, Needed::Newest)) {
            (Some(at), Needed::UpTo(before)) => {
                at.joined(before).map_or(Needed::Newest, Needed::UpTo)
            }
            (Some(at), _) => Needed::UpTo(at),
            (None, _) => Needed::Newest,
        };
    }

    /// A read saw the changes up to a position.
    pub(super) fn read(&self, at: Option<Position>) {
        if !self.tracks {
            return;
        }
        let mut state = self.state.lock();
        state.needed = match (at, std::mem::replace(&mut state.needed, Needed::Newest)) {
            (Some(at), Needed::UpTo(before)) => {
                at.joined(before).map_or(Needed::Newest, Needed::UpTo)
            }
            (Some(at), _) => Needed::UpTo(at),
            (None, before) => before,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(tracks: bool) -> Session {
        let bookmarks = Arc::new(Bookmarks::new(b"key", &"DB".into()));
        Session::new(&bookmarks, Needed::Nothing, tracks)
    }

    fn at(bytes: u64) -> Option<Position> {
        Some(Position::Postgres(bytes))
    }

    fn up_to(bytes: u64) -> Needed {
        Needed::UpTo(Position::Postgres(bytes))
    }

    #[test]
    fn a_session_needs_what_it_wrote_and_read() {
        let session = session(true);
        assert_eq!(
            (session.needed(), session.bookmark()),
            (Needed::Nothing, None)
        );
        session.read(at(3));
        assert_eq!(session.needed(), up_to(3));
        session.write_begins();
        assert_eq!(session.needed(), Needed::Newest);
        session.wrote(at(9));
        session.read(at(5));
        assert_eq!(session.needed(), up_to(9));
        session.read(None);
        assert_eq!(session.needed(), up_to(9));
        session.write_begins();
        session.write_failed();
        assert_eq!(session.needed(), up_to(9));
        session.write_begins();
        session.wrote(None);
        assert_eq!(session.needed(), Needed::Newest);
    }

    #[test]
    fn after_a_write_of_unknown_end_only_the_primary_will_do() {
        let session = session(true);
        session.write_begins();
        session.write_begins();
        session.wrote(at(9));
        session.read(at(10));
        assert_eq!(session.needed(), Needed::Newest);
        assert!(session.bookmark().is_some());
    }

    #[test]
    fn a_session_without_positions_reads_the_primary_after_a_write() {
        let session = session(false);
        session.read(at(3));
        assert_eq!(session.needed(), Needed::Nothing);
        session.write_begins();
        session.wrote(None);
        session.read(at(3));
        assert_eq!(session.needed(), Needed::Newest);
    }
}
