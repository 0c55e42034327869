#![allow(clippy::unwrap_used)]

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use super::*;
use crate::identity::tests::{ED_KEYS, fetched};

/// Answers from a list, and reports each request. An empty list is an issuer that is down.
#[derive(Clone, Default)]
struct Issuer {
    answers: Rc<RefCell<VecDeque<Result<Bytes, String>>>>,
    asked: Rc<Notify>,
    count: Rc<std::cell::Cell<usize>>,
}

impl Issuer {
    fn answers(answers: &[&str]) -> Self {
        let issuer = Self::default();
        for answer in answers {
            issuer.will(answer);
        }
        issuer
    }

    fn will(&self, answer: &str) {
        let answer = Ok(Bytes::from(answer.to_owned()));
        self.answers.borrow_mut().push_back(answer);
    }
}

impl Fetch for Issuer {
    fn get(&self, url: &str) -> Pin<Box<dyn Future<Output = Result<Bytes, String>>>> {
        assert_eq!(url, "https://issuer.example/jwks");
        let answer = self.answers.borrow_mut().pop_front();
        self.count.set(self.count.get() + 1);
        self.asked.notify_one();
        Box::pin(std::future::ready(
            answer.unwrap_or(Err("connection refused".into())),
        ))
    }
}

const LONG: Duration = Duration::from_secs(600);

fn source(refresh: Duration, cooldown: Duration, max_stale: Duration) -> JwksSource {
    let times = Times {
        refresh,
        cooldown,
        max_stale,
    };
    JwksSource::with_times("https://issuer.example/jwks".into(), times, fetched(300))
}

fn ids(source: &JwksSource) -> usize {
    source.keys().as_ref().map_or(0, |keys| keys.len())
}

/// Runs the source until `done`, in an event loop of its own.
fn run_until(source: &JwksSource, fetch: impl Fetch, done: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let all = async {
            tokio::select! {
                () = source.run(fetch) => {}
                () = done() => {}
            }
        };
        timeout(Duration::from_secs(20), all).await.unwrap();
    });
}

async fn asked(issuer: &Issuer, times: usize) {
    while issuer.count.get() < times {
        issuer.asked.notified().await;
    }
    // The source's task takes the response in the same turn.
    tokio::task::yield_now().await;
}

#[test]
fn keys_are_fetched_at_the_start_and_only_once() {
    let source = source(LONG, LONG, LONG);
    let issuer = Issuer::answers(&[ED_KEYS]);
    assert!(source.keys().is_none());
    run_until(&source, issuer.clone(), async || asked(&issuer, 1).await);
    assert_eq!(ids(&source), 1);
    // The next plan's task continues: nothing is due.
    run_until(&source, issuer.clone(), async || {
        tokio::time::sleep(Duration::from_millis(20)).await;
    });
    let state = source.state.lock();
    assert_eq!((issuer.count.get(), state.failures), (1, 0));
    assert!(state.last_success.is_some());
}

/// Never answers.
struct Silent(Rc<Notify>);

impl Fetch for Silent {
    fn get(&self, _: &str) -> Pin<Box<dyn Future<Output = Result<Bytes, String>>>> {
        self.0.notify_one();
        Box::pin(std::future::pending())
    }
}

#[test]
fn a_fetch_amid_which_its_task_is_dropped_begins_anew_with_the_next_task() {
    let source = source(LONG, LONG, LONG);
    let issuer = Issuer::answers(&[ED_KEYS, ED_KEYS]);
    run_until(&source, Silent(Rc::clone(&issuer.asked)), async || {
        issuer.asked.notified().await;
    });
    assert!(!source.state.lock().is_fetching);
    run_until(&source, issuer.clone(), async || asked(&issuer, 1).await);
    assert_eq!(ids(&source), 1);
}

#[test]
fn keys_are_refreshed_when_due() {
    let short = Duration::from_millis(5);
    let source = source(short, short, LONG);
    let two = ED_KEYS.replace("[{", r#"[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"b"},{"#);
    let issuer = Issuer::answers(&[ED_KEYS, &two]);
    run_until(&source, issuer.clone(), async || asked(&issuer, 2).await);
    assert_eq!(ids(&source), 2);
}

#[test]
fn an_unchanged_set_keeps_its_pointer() {
    let short = Duration::from_millis(5);
    let source = source(short, short, LONG);
    let issuer = Issuer::answers(&[ED_KEYS, ED_KEYS, ED_KEYS]);
    run_until(&source, issuer.clone(), async || asked(&issuer, 1).await);
    let first = source.keys.load_full().unwrap();
    run_until(&source, issuer.clone(), async || asked(&issuer, 3).await);
    assert!(Arc::ptr_eq(&first, &source.keys.load_full().unwrap()));
}

#[test]
fn the_last_good_keys_stay_while_the_issuer_is_down_or_talks_nonsense() {
    let short = Duration::from_millis(2);
    let source = source(short, short, LONG);
    let long = " ".repeat(MOST_BYTES + 1);
    let issuer = Issuer::answers(&[ED_KEYS, "{}", r#"{"keys":[]}"#, "<html>", &long]);
    run_until(&source, issuer.clone(), async || asked(&issuer, 7).await);
    assert_eq!(ids(&source), 1);
    assert!(source.state.lock().failures >= 5);
}

#[test]
fn keys_that_are_too_old_are_dropped_and_come_back() {
    let short = Duration::from_millis(5);
    let source = source(short, short, Duration::from_millis(20));
    let issuer = Issuer::answers(&[ED_KEYS]);
    run_until(&source, issuer.clone(), async || {
        asked(&issuer, 1).await;
        while source.keys().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    issuer.will(ED_KEYS);
    run_until(&source, issuer.clone(), async || {
        while source.keys().is_none() {
            issuer.asked.notified().await;
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn an_unknown_key_asks_the_issuer_at_most_once_a_cooldown() {
    let cooldown = Duration::from_millis(60);
    let source = source(LONG, cooldown, LONG);
    let issuer = Issuer::answers(&[ED_KEYS, ED_KEYS, ED_KEYS]);
    run_until(&source, issuer.clone(), async || {
        asked(&issuer, 1).await;
        let start = Instant::now();
        while issuer.count.get() < 3 {
            source.request();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Two more fetches took two cooldowns, however often a client requested one.
        assert!(start.elapsed() >= cooldown * 2 - Duration::from_millis(10));
    });
    assert_eq!(issuer.count.get(), 3);
}

#[test]
fn a_failed_first_fetch_is_tried_again_soon() {
    let source = source(LONG, Duration::from_millis(10), LONG);
    let issuer = Issuer::default();
    run_until(&source, issuer.clone(), async || {
        asked(&issuer, 1).await;
        issuer.will(ED_KEYS);
        asked(&issuer, 2).await;
    });
    assert_eq!(ids(&source), 1);
}

#[test]
fn a_token_with_an_unknown_key_waits_for_the_fetch_that_it_causes_and_for_none_within_the_cooldown()
{
    let cooldown = Duration::from_millis(20);
    let source = source(LONG, cooldown, LONG);
    let issuer = Issuer::answers(&[ED_KEYS, ED_KEYS]);
    run_until(&source, issuer.clone(), async || {
        assert!(source.first_keys().await);
        // A request within the cooldown would have its fetch at the end of that, before or after the token comes.
        tokio::time::sleep(cooldown).await;
        source.request();
        assert!(source.next_keys().await);
    });
    assert_eq!(issuer.count.get(), 2);
    let rested = self::source(LONG, LONG, LONG);
    run_until(&rested, Issuer::answers(&[ED_KEYS]), async || {
        assert!(rested.first_keys().await);
        rested.request();
        assert!(!rested.next_keys().await);
    });
}

#[test]
fn a_token_without_keys_waits_for_the_first_fetch_and_for_no_other() {
    let slow = source(LONG, LONG, LONG);
    let issuer = Issuer::answers(&[ED_KEYS]);
    run_until(&slow, issuer.clone(), async || {
        assert!(slow.first_keys().await);
        assert!(slow.first_keys().await);
    });
    let down = source(LONG, LONG, LONG);
    let issuer = Issuer::default();
    run_until(&down, issuer.clone(), async || {
        assert!(!down.first_keys().await);
        issuer.will(ED_KEYS);
        assert!(!down.first_keys().await);
    });
    assert_eq!(issuer.count.get(), 1);
}
