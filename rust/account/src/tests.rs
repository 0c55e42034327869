#![allow(clippy::unwrap_used)]
use std::time::Duration;

use super::{hold::Place, *};

struct Told {
    hold: Mutex<Option<Hold>>,
}

impl Cut for Told {
    fn cut(&self) {
        self.hold.lock().take();
    }
}

fn owner(client: u32, origin: u32) -> Owner {
    Owner {
        client: Some(Client::V4(client)),
        origin: Some(origin),
    }
}

/// A holder that frees everything when it is cut.
fn holder(account: &Arc<Account>, owner: Owner, bytes: u64, idle: u64) -> Arc<Told> {
    let told = Arc::new(Told {
        hold: Mutex::new(None),
    });
    let weak: Weak<dyn Cut> = Arc::downgrade(&told) as Weak<dyn Cut>;
    let hold = account.open(Purpose::ReadAhead, owner, weak);
    hold.draw(bytes).unwrap();
    hold.moved
        .store(account.now().saturating_sub(idle), Ordering::Relaxed);
    *told.hold.lock() = Some(hold);
    told
}

fn asking(account: &Arc<Account>, kind: Purpose, owner: Owner) -> Hold {
    account.open_uncut(kind, owner)
}

/// An account that was opened some time ago.
fn account(capacity: u64) -> Arc<Account> {
    let mut account = Account::new(capacity);
    Arc::get_mut(&mut account).unwrap().start = Instant::now() - Duration::from_secs(100);
    account
}

fn alive(told: &Told) -> bool {
    told.hold.lock().is_some()
}

#[test]
fn what_is_drawn_is_given_back_when_its_holder_goes() {
    let account = account(800);
    let hold = asking(&account, Purpose::ReadAhead, owner(1, 1));
    hold.draw(500).unwrap();
    assert_eq!(hold.draw(1), Err(Spent));
    hold.give(100);
    hold.draw(50).unwrap();
    hold.keep(10);
    assert_eq!(account.figures().used, [0, 10, 0, 0]);
    drop(hold);
    assert_eq!(account.figures().used, [0; KINDS]);
    assert_eq!(account.figures().holders, 0);
    assert!(account.state.lock().clients.is_empty());
}

#[test]
fn the_holder_that_stalled_longest_gives_way_and_nobody_else() {
    let account = account(800);
    let stalled = holder(&account, owner(1, 1), 150, 5_000);
    let longer = holder(&account, owner(1, 1), 150, 9_000);
    let moving = holder(&account, owner(1, 1), 150, 0);
    let hold = asking(&account, Purpose::ReadAhead, owner(2, 1));
    hold.draw(100).unwrap();
    assert_eq!(
        [alive(&stalled), alive(&longer), alive(&moving)],
        [true, false, true]
    );
    assert_eq!(account.figures().cut, 1);
}

#[test]
fn who_holds_no_more_than_its_share_is_not_cut() {
    let account = account(800);
    let modest = holder(&account, owner(1, 1), 100, 60_000);
    let greedy = holder(&account, owner(2, 1), 390, 2_000);
    let more = holder(&account, owner(2, 1), 10, 2_000);
    // A third of 800 for each of the three clients.
    let hold = asking(&account, Purpose::ReadAhead, owner(3, 1));
    hold.draw(100).unwrap();
    assert_eq!(
        [alive(&modest), alive(&greedy), alive(&more)],
        [true, false, true]
    );
    hold.draw(290).unwrap();
    // By now the others hold no more than their shares.
    hold.draw(200).unwrap_err();
    assert_eq!([alive(&modest), alive(&more)], [true, true]);
}

#[test]
fn other_kinds_keep_their_reserve() {
    let account = account(800);
    let all = asking(&account, Purpose::ReadAhead, owner(1, 1));
    all.draw(500).unwrap();
    let head = asking(&account, Purpose::Heads, owner(2, 2));
    head.draw(100).unwrap();
    assert_eq!(head.draw(1), Err(Spent));
}

#[test]
fn new_holders_wait_for_a_while() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(wait_for_a_while());
}

#[test]
fn more_than_any_time_could_bring_is_not_waited_for() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(refused_at_once());
}

async fn refused_at_once() {
    let account = account(800);
    let hold = asking(&account, Purpose::Bodies, owner(1, 1));
    assert_eq!(account.most(Purpose::Bodies), 500);
    let waited = hold.drawn(501, Duration::MAX).await;
    assert_eq!(waited, Err(Spent));
    assert_eq!(account.figures().refused, 1);
    hold.drawn(500, Duration::MAX).await.unwrap();
    // Another task of the holder may return what it has.
    let more = hold.drawn(100, Duration::MAX);
    let returned = async { hold.give(200) };
    assert_eq!(tokio::join!(more, returned).0, Ok(()));
}

async fn wait_for_a_while() {
    let account = account(800);
    let all = asking(&account, Purpose::ReadAhead, owner(1, 1));
    all.draw(500).unwrap();
    let hold = asking(&account, Purpose::ReadAhead, owner(2, 2));
    let waited = hold.drawn(100, Duration::from_millis(20)).await;
    assert_eq!(waited, Err(Spent));
    assert_eq!(account.figures().refused, 1);
    let waiting = hold.drawn(100, Duration::from_secs(30));
    let freeing = async { drop(all) };
    let (drawn, ()) = tokio::join!(waiting, freeing);
    assert_eq!(drawn, Ok(()));
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicU64);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn memory_that_is_returned_wakes_those_that_it_is_enough_for_in_their_order() {
    let account = account(80_000);
    let all = asking(&account, Purpose::ReadAhead, owner(1, 1));
    all.draw(50_000).unwrap();
    let holds: Vec<Hold> = (0..1_000)
        .map(|n| asking(&account, Purpose::ReadAhead, owner(n + 2, 1)))
        .collect();
    let woken: Vec<Arc<Woken>> = holds.iter().map(|_| Arc::default()).collect();
    let mut places: Vec<Option<Place<'_>>> = holds
        .iter()
        .map(|hold| Some(Place::new(hold, 100)))
        .collect();
    let poll = |place: &Place<'_>, woken: &Arc<Woken>| {
        let waker = std::task::Waker::from(Arc::clone(woken));
        place
            .poll(&mut std::task::Context::from_waker(&waker))
            .is_ready()
    };
    for (place, woken) in places.iter().flatten().zip(&woken) {
        assert!(!poll(place, woken));
    }
    let awake = || -> Vec<usize> {
        let counts = woken.iter().enumerate();
        counts
            .filter(|(_, woken)| woken.0.swap(0, Ordering::Relaxed) > 0)
            .map(|(at, _)| at)
            .collect()
    };
    all.give(250);
    assert_eq!(awake(), [0, 1]);
    // The first one takes its part. The second one has gone meanwhile. Each wakes the next one.
    assert!(poll(places[0].as_ref().unwrap(), &woken[0]));
    places[0] = None;
    places[1] = None;
    assert_eq!(awake(), [2, 3]);
    // Another has taken the room: they keep their places.
    all.take(100);
    for at in [3, 2] {
        assert!(!poll(places[at].as_ref().unwrap(), &woken[at]));
    }
    all.give(100);
    assert_eq!(awake(), [2]);
    assert!(poll(places[2].as_ref().unwrap(), &woken[2]));
    places[2] = None;
    // Everybody gets a turn, although one return wakes a few.
    all.give(49_000);
    let mut served = 3;
    loop {
        let turn = awake();
        if turn.is_empty() {
            break;
        }
        assert!(turn.len() <= 16, "{}", turn.len());
        for at in turn {
            // At the end, one that was woken for room may find that another was woken for the same.
            if poll(places[at].as_ref().unwrap(), &woken[at]) {
                assert_eq!(at, served, "in their order");
                places[at] = None;
                served += 1;
            }
        }
    }
    assert_eq!(served, 3 + 490);
}

#[test]
fn one_that_wants_much_does_not_hold_up_those_behind_it() {
    let account = account(80_000);
    let all = asking(&account, Purpose::ReadAhead, owner(1, 1));
    all.draw(50_000).unwrap();
    let (large, small) = (
        asking(&account, Purpose::ReadAhead, owner(2, 1)),
        asking(&account, Purpose::ReadAhead, owner(3, 1)),
    );
    let woken: [Arc<Woken>; 2] = Default::default();
    let wakers = woken.clone().map(std::task::Waker::from);
    let places = [Place::new(&large, 10_000), Place::new(&small, 100)];
    for (place, waker) in places.iter().zip(&wakers) {
        let polled = place.poll(&mut std::task::Context::from_waker(waker));
        assert!(polled.is_pending());
    }
    all.give(150);
    assert_eq!(woken.map(|woken| woken.0.load(Ordering::Relaxed)), [0, 1]);
}

#[test]
fn a_buffer_is_as_large_as_free_memory_allows_and_returned_as_a_whole() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let account = account(8_000);
    let open = |sizes| {
        let (kind, owner) = (Purpose::ReadAhead, owner(1, 1));
        let opened = account.open_buffer(kind, owner, sizes, Duration::from_millis(1));
        runtime.block_on(opened)
    };
    let rest = asking(&account, Purpose::ReadAhead, owner(2, 1));
    for sizes in [(0, 0), (10, 20), (1_000, 100_000)] {
        let allowed = rest.allowance(sizes.0, sizes.1);
        let (_hold, size) = open(sizes).unwrap();
        assert_eq!(size, allowed, "{sizes:?}");
        assert_eq!(account.figures().used[Purpose::ReadAhead as usize], size);
    }
    assert_eq!(account.figures().used, [0; KINDS]);
    rest.draw(rest.room()).unwrap();
    assert_eq!(open((10, 20)).unwrap_err(), Spent);
    assert_eq!(account.figures().holders, 1, "of the rest");
}
