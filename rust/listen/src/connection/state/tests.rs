use super::*;

#[test]
fn a_connection_in_use_may_bring_one_more_request_while_its_worker_drains() {
    let peer = SocketAddr::from(([192, 0, 2, 1], 1));
    let used_at = |ticks| {
        let connection = Connection::new(peer, Scheme::Http, 0, 0);
        connection.check(ticks, &HttpLimits::default());
        connection.begin();
        connection.end();
        connection
    };
    let (begun, last_call) = (10_000, LAST_CALL.as_millis() as u64);
    let idle = used_at(5_000);
    idle.drain(begun);
    assert!(idle.is_drained());
    let used = used_at(9_000);
    used.drain(begun);
    used.end_last_call(begun + last_call);
    assert!(!used.is_drained());
    used.end_last_call(begun + last_call + 1);
    assert!(used.is_drained());
    // The request has come: its response says that the connection ends.
    let brings = used_at(9_000);
    brings.drain(begun);
    brings.begin();
    assert!(brings.is_drained());
    // A response that began before cannot say so: the time begins at its end.
    let streams = used_at(9_000);
    streams.begin();
    streams.drain(begun);
    streams.end_last_call(begun + 60_000);
    streams.end();
    assert!(!streams.is_drained());
    streams.end_last_call(begun + 60_000 + last_call);
    assert!(!streams.is_drained());
    streams.end_last_call(begun + 60_001 + last_call);
    assert!(streams.is_drained());
}

#[test]
fn the_header_of_a_proxy_and_the_first_head_have_one_time() {
    let limits = HttpLimits {
        head_timeout: Duration::from_secs(10),
        ..HttpLimits::default()
    };
    let (proxy, client) = (
        SocketAddr::from(([192, 0, 2, 1], 1)),
        SocketAddr::from(([192, 0, 2, 7], 1)),
    );
    let connection = Connection::new(proxy, Scheme::Http, 1_000, 0);
    connection.introduced(7_000);
    let connection = connection.of_client(client, 7_000);
    // It may be idle in between.
    connection.check(30_000, &limits);
    for (requests, left) in [(0, 4_000), (1, 10_000)] {
        let begun = connection.now();
        connection.head_begun();
        for (at, state) in [
            (begun + left, ConnectionState::Live),
            (begun + left + 1, ConnectionState::HeadTooSlow),
        ] {
            connection.check(at, &limits);
            assert_eq!(connection.state(), state, "{requests} {at}");
        }
        connection.set_state(ConnectionState::Live);
        connection.begin();
        connection.end();
    }
}

#[test]
fn a_write_is_tried_again_from_half_of_its_time_on() {
    let limits = HttpLimits {
        body_timeout: Duration::from_secs(10),
        min_rate: 0,
        ..HttpLimits::default()
    };
    let peer = SocketAddr::from(([192, 0, 2, 1], 1));
    let connection = Connection::new(peer, Scheme::Http, 0, 0);
    connection.set_active(true);
    connection.begin();
    for looks in [
        [
            (5_000, false, false),
            (5_001, true, false),
            (9_000, true, false),
        ],
        // It took some meanwhile.
        [
            (14_000, false, false),
            (14_001, true, false),
            (19_001, true, true),
        ],
    ] {
        connection.write_blocked(false);
        connection.write_blocked(true);
        for (at, tried, is_slow) in looks {
            assert_eq!(connection.check(at, &limits), is_slow, "{at}");
            assert_eq!(connection.takes_retry(), tried, "{at}");
            assert!(!connection.takes_retry());
        }
    }
}
