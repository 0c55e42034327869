#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const ADDRESS: &str = "192.0.2.1:80";

/// A name server that answers `answers` times and is silent from then on, until `end` is dropped.
struct Silent {
    names: Resolver,
    asked: Arc<AtomicUsize>,
    _end: std::sync::mpsc::Sender<()>,
}

fn silent_after(answers: usize) -> Silent {
    let asked = Arc::new(AtomicUsize::new(0));
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let ended = Mutex::new(ended);
    let count = Arc::clone(&asked);
    let names = Resolver::new(Arc::new(move |_: &str, _| {
        if count.fetch_add(1, Ordering::SeqCst) < answers {
            return Ok(vec![ADDRESS.parse().unwrap()]);
        }
        // Each look-up but the first waits for the one before it: all of them are silent.
        let _ = ended.lock().recv();
        Err(io::Error::from(io::ErrorKind::TimedOut))
    }));
    Silent {
        names,
        asked,
        _end: end,
    }
}

impl Resolver {
    /// Makes all that is known older.
    pub(crate) fn age(&self, by: Duration) {
        for known in self.shared.table.lock().known.values_mut() {
            let found = known.addresses.as_mut().map(|found| &mut found.at);
            let failed = known.failed.as_mut().map(|(at, _)| at);
            let preferred = known.preferred.as_mut().map(|(_, at)| at);
            for at in found.into_iter().chain(failed).chain(preferred) {
                *at = at.checked_sub(by).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_name_for_which_no_thread_could_be_started_is_looked_up_once_one_can() {
    let address = || Ok(vec![ADDRESS.parse().unwrap()]);
    let names = Resolver::new(Arc::new(move |_: &str, _| address()));
    let host: Arc<str> = "origin.test".into();
    {
        let mut table = names.shared.table.lock();
        let known = Known {
            addresses: None,
            failed: None,
            looking: true,
            ended: Arc::default(),
            preferred: None,
        };
        table.known.insert((Arc::clone(&host), 80), known);
        table.wanted.push_back((Arc::clone(&host), 80));
    }
    let found = tokio::time::timeout(Duration::from_secs(20), names.of(&host, 80)).await;
    assert_eq!(found.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn the_last_address_serves_at_once_while_a_silent_server_is_asked_once() {
    let Silent {
        names,
        asked,
        _end: end,
    } = silent_after(1);
    let host: Arc<str> = "origin.test".into();
    assert_eq!(names.of(&host, 80).await.unwrap().len(), 1);
    names.age(FRESH);
    for _ in 0..120 {
        let at_once = names.now(&(Arc::clone(&host), 80), Instant::now());
        assert!(matches!(at_once, State::Addresses(_)));
    }
    while asked.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(names.shared.table.lock().threads, 1);
    drop(end);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_address_that_nothing_can_be_connected_to_is_looked_up_once_a_second() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let names = Resolver::new(Arc::new(move |_: &str, _| {
        let moved = count.fetch_add(1, Ordering::SeqCst) > 0;
        let address = if moved { "192.0.2.2:80" } else { ADDRESS };
        Ok(vec![address.parse().unwrap()])
    }));
    let host: Arc<str> = "origin.test".into();
    let first: SocketAddr = ADDRESS.parse().unwrap();
    assert_eq!(*names.of(&host, 80).await.unwrap(), [first]);
    // Right after a look-up, another one would find nothing new.
    names.doubt(&host, 80);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    names.age(DOUBTFUL);
    names.doubt(&host, 80);
    names.doubt(&host, 80);
    while *names.of(&host, 80).await.unwrap() == [first] {
        tokio::task::yield_now().await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_address_that_answered_beside_silent_ones_goes_first_for_ten_minutes() {
    let addresses: Vec<SocketAddr> = ["[2001:db8::1]:80", "192.0.2.1:80", "192.0.2.2:80"]
        .map(|text| text.parse().unwrap())
        .to_vec();
    let (found, asked) = (addresses.clone(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    let names = Resolver::new(Arc::new(move |_: &str, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(found.clone())
    }));
    let look_up = async |times: usize| {
        while names.of(&"origin.test".into(), 80).await.is_err()
            || asked.load(Ordering::SeqCst) < times
            || names.shared.table.lock().idle == 0
        {
            tokio::task::yield_now().await;
        }
        names.of(&"origin.test".into(), 80).await.unwrap()
    };
    assert_eq!(*look_up(1).await, addresses);
    names.prefer(&"origin.test".into(), 80, addresses[1]);
    let preferred = [addresses[1], addresses[0], addresses[2]];
    assert_eq!(*look_up(1).await, preferred);
    names.age(FRESH);
    assert_eq!(*look_up(2).await, preferred, "after a look-up as well");
    names.age(PREFERRED);
    assert_eq!(*look_up(3).await, addresses);
    names.prefer(&"origin.test".into(), 80, "192.0.2.9:80".parse().unwrap());
    assert_eq!(*look_up(3).await, addresses, "one that it has no more");
}

#[tokio::test]
async fn threads_are_few_however_many_names_wait() {
    let Silent {
        names,
        asked: _asked,
        _end: end,
    } = silent_after(0);
    for at in 0..100 {
        let host: Arc<str> = format!("{at}.test").into();
        assert!(matches!(
            names.now(&(host, 80), Instant::now()),
            State::Wait(_)
        ));
    }
    assert_eq!(names.shared.table.lock().threads, MOST_THREADS);
    drop(end);
}

#[tokio::test]
async fn a_failure_is_remembered_for_a_while() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let names = Resolver::new(Arc::new(move |_: &str, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Err(io::Error::other("no such name"))
    }));
    let host: Arc<str> = "nowhere.test".into();
    for _ in 0..5 {
        assert_eq!(names.of(&host, 80).await.unwrap_err(), "no such name");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    names.age(FAILED);
    assert!(names.of(&host, 80).await.is_err());
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn names_are_bounded() {
    let mut table = NameTable::default();
    for at in 0..MOST_NAMES {
        let known = Known {
            addresses: None,
            failed: None,
            looking: false,
            ended: Arc::default(),
            preferred: None,
        };
        table.known.insert((at.to_string().into(), 80), known);
    }
    assert!(table.make_room());
    assert_eq!(table.known.len(), MOST_NAMES - 1);
}

#[tokio::test]
async fn a_name_fails_at_once_while_as_many_as_may_be_are_being_looked_up() {
    let Silent { names, _end, .. } = silent_after(0);
    let now = |at: usize| {
        let host: Arc<str> = format!("{at}.test").into();
        names.now(&(host, 80), Instant::now())
    };
    assert!((0..MOST_NAMES).all(|at| matches!(now(at), State::Wait(_))));
    assert!(matches!(now(MOST_NAMES), State::Failed(why) if &*why == NO_ROOM));
    assert!(matches!(now(0), State::Wait(_)), "one of them");
    let table = names.shared.table.lock();
    assert_eq!(table.known.len(), MOST_NAMES);
    assert!(table.wanted.len() <= MOST_NAMES);
}
