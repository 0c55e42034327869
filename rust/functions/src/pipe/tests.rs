#![allow(clippy::unwrap_used)]
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
};

use edgerouter_core::http::header;
use http::HeaderValue;

use super::*;

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn piece(length: usize) -> Bytes {
    Bytes::from(vec![b'x'; length])
}

#[test]
fn pieces_arrive_in_order_and_then_the_end() {
    let (writer, reader) = pipe();
    let cx = Context::from_waker(Waker::noop());
    assert_eq!(reader.poll_piece(&cx), Poll::Pending);
    assert!(writer.put(Bytes::from_static(b"a")).unwrap());
    assert!(writer.put(Bytes::new()).unwrap());
    assert!(writer.put(Bytes::from_static(b"b")).unwrap());
    writer.finish();
    assert_eq!(
        reader.poll_piece(&cx),
        Poll::Ready(Some(Ok(Bytes::from_static(b"a"))))
    );
    assert!(!reader.is_at_end());
    assert_eq!(
        reader.poll_piece(&cx),
        Poll::Ready(Some(Ok(Bytes::from_static(b"b"))))
    );
    assert!(reader.is_at_end());
    drop(writer);
    assert_eq!(reader.poll_piece(&cx), Poll::Ready(None));
}

#[test]
fn a_writer_that_is_dropped_breaks_the_content_off_after_its_pieces() {
    let (writer, reader) = pipe();
    let cx = Context::from_waker(Waker::noop());
    writer.put(Bytes::from_static(b"a")).unwrap();
    drop(writer);
    assert_eq!(
        reader.poll_piece(&cx),
        Poll::Ready(Some(Ok(Bytes::from_static(b"a"))))
    );
    assert_eq!(reader.poll_piece(&cx), Poll::Ready(Some(Err(BrokenOff))));
}

#[test]
fn a_writer_waits_for_room_and_is_woken_once_for_half_of_it() {
    let (writer, reader) = pipe();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let cx = Context::from_waker(&waker);
    for _ in 0..3 {
        assert!(writer.put(piece(ROOM / 4)).unwrap());
    }
    assert!(!writer.put(piece(ROOM / 4)).unwrap());
    assert_eq!(writer.poll_room(&cx), Poll::Pending);
    let noop = Context::from_waker(Waker::noop());
    for (taken, wakes) in [(1, 0), (2, 0), (3, 1), (4, 1)] {
        assert!(reader.poll_piece(&noop).is_ready());
        assert_eq!(woken.0.load(Ordering::Relaxed), wakes, "after {taken}");
    }
    assert_eq!(writer.poll_room(&cx), Poll::Ready(Ok(())));
}

#[test]
fn the_end_of_the_reader_is_no_event_once_the_content_is_complete() {
    let (writer, reader) = pipe();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert_eq!(
        writer.poll_unwanted(&Context::from_waker(&waker)),
        Poll::Pending
    );
    writer.finish();
    drop(writer);
    drop(reader);
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    assert_eq!(Arc::strong_count(&woken), 2);
}

#[test]
fn a_pipe_that_was_filled_can_be_made_wider() {
    let (writer, reader) = pipe();
    assert!(!reader.is_full());
    assert!(!writer.put(piece(ROOM)).unwrap());
    assert!(reader.is_full());
    reader.widen(WIDE);
    assert!(!reader.is_full());
    assert!(writer.put(piece(WIDE - ROOM - 1)).unwrap());
    assert!(!writer.put(piece(1)).unwrap());
    assert!(reader.is_full());
}

#[test]
fn a_reader_that_waits_is_woken_by_a_piece_and_by_the_end() {
    for end in [false, true] {
        let (writer, reader) = pipe();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert_eq!(
            reader.poll_piece(&Context::from_waker(&waker)),
            Poll::Pending
        );
        if end {
            writer.finish();
        } else {
            writer.put(piece(1)).unwrap();
        }
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "end: {end}");
    }
}

#[test]
fn a_writer_sees_the_first_wish_for_a_piece_and_the_end_of_a_reader_without_one() {
    for wish in [true, false] {
        let (writer, reader) = pipe();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        assert_eq!(writer.poll_wanted(&cx), Poll::Pending);
        let waits = reader.waits();
        if wish {
            let noop = Context::from_waker(Waker::noop());
            assert_eq!(reader.poll_piece(&noop), Poll::Pending);
            assert_eq!(writer.poll_wanted(&cx), Poll::Ready(Ok(())));
            assert!(writer.put(piece(1)).unwrap());
            let waited = waits.total();
            assert_eq!(waits.total(), waited);
        } else {
            drop(reader);
            assert_eq!(writer.poll_wanted(&cx), Poll::Ready(Err(Unwanted)));
            assert_eq!(waits.total(), Duration::ZERO);
        }
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "wish: {wish}");
    }
}

#[test]
fn a_reader_that_is_gone_wakes_the_writer_and_frees_what_waits() {
    let (writer, reader) = pipe();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let cx = Context::from_waker(&waker);
    let large = piece(2 * ROOM);
    assert!(!writer.put(large.clone()).unwrap());
    assert_eq!(writer.poll_room(&cx), Poll::Pending);
    drop(reader);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert_eq!(writer.poll_room(&cx), Poll::Ready(Err(Unwanted)));
    assert_eq!(writer.put(piece(1)), Err(Unwanted));
    assert!(large.is_unique());
}

#[test]
fn trailers_come_behind_all_pieces() {
    let (writer, reader) = pipe();
    let cx = Context::from_waker(Waker::noop());
    let trailers = Fields::from_iter([(header::LINK, HeaderValue::from_static("</a>"))]);
    assert!(writer.put(piece(1)).unwrap());
    assert!(writer.finish_quietly(Some(trailers)).is_none());
    writer.finish();
    assert!(reader.take_trailers().is_none() && !reader.is_at_end());
    assert!(matches!(reader.poll_piece(&cx), Poll::Ready(Some(Ok(_)))));
    assert!(!reader.is_at_end());
    assert_eq!(reader.poll_piece(&cx), Poll::Ready(None));
    assert_eq!(reader.take_trailers().unwrap().len(), 1);
    assert!(reader.is_at_end() && reader.take_trailers().is_none());
}

#[derive(Debug, Default)]
struct Thread(Mutex<Vec<Waker>>);

impl WokenTogether for Thread {
    fn keep(&self, task: Waker, _place: usize) -> bool {
        let mut tasks = self.0.lock();
        tasks.push(task);
        tasks.len() == 1
    }

    fn wake(&self) {}
}

#[test]
fn a_reader_that_is_due_is_given_with_its_thread_once() {
    let (writer, reader) = pipe();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let cx = Context::from_waker(&waker);
    let thread = Arc::new(Thread::default());
    reader.on_thread(Arc::<Thread>::clone(&thread));
    for last in [false, true] {
        assert_eq!(reader.poll_piece(&cx), Poll::Pending);
        let due = if last {
            writer.finish_quietly(None)
        } else {
            writer.put_quietly(piece(1)).unwrap().1
        };
        let due = due.unwrap();
        assert!(due.thread.unwrap().keep(due.task, 0) != last);
        assert!(writer.put_quietly(Bytes::new()).unwrap().1.is_none());
        assert!(reader.poll_piece(&cx).is_ready());
    }
    assert_eq!(
        woken.0.load(Ordering::Relaxed),
        0,
        "that is for its thread to do"
    );
}
