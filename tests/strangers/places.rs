//! Who gets a place where there are not enough.

use super::*;

/// A server of the bus `b` for which the history 1 has carried frames, and has left.
fn known_to_one() -> (Running, SocketAddr) {
    let (server, at) = serve("sim:b?rate=100");
    let mut known = from(1, at);
    known.join("b", 1);
    known.carry();
    drop(known);
    server.says("link down");
    (server, at)
}

/// A stranger that has greeted, from one of two addresses: one alone cannot have all places.
fn stranger(number: usize, at: SocketAddr) -> Peer {
    let mut stranger = from(if number.is_multiple_of(2) { 2 } else { 3 }, at);
    stranger.greet("b", 1000 + number as u64);
    stranger
}

#[test]
fn silent_strangers_keep_out_neither_status_nor_known_peers() {
    let (_server, at) = known_to_one();

    let mut strangers = Vec::new();
    let mut refused = 0;
    for number in 0..LINKS_MAX + 20 {
        let mut stranger = stranger(number, at);
        match stranger.is_admitted() {
            Ok(()) => strangers.push(stranger),
            Err(refusal) => {
                assert_eq!(refusal, Refusal::FULL);
                refused += 1;
            }
        }
    }
    assert_eq!((strangers.len(), refused), (LINKS_MAX, 20));
    // More that do not even greet.
    let _mute: Vec<_> = (0..40).map(|_| from(4, at)).collect();

    let answer = status(at, &["--json"]);
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let json: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    let up = json["links"].as_array().unwrap().iter().filter(|link| link["up"] == true);
    assert_eq!(up.count(), LINKS_MAX);

    // The known peer gets the place of the stranger that was there first, which is told why.
    let mut known = from(1, at);
    known.join("b", 1);
    let last = strangers[0].until(|message| match message {
        Message::Refuse(refusal) => Some(refusal),
        _ => None,
    });
    assert_eq!(last, Refusal::FULL);
    // And an own link by the name of another stranger is still one for a stranger.
    let mut stranger = from(1, at);
    stranger.greet("b", 2);
    assert_eq!(stranger.is_admitted(), Err(Refusal::FULL));
}

#[test]
fn one_address_leaves_places_to_others() {
    let (_server, at) = serve("sim:b");
    let mut admitted = Vec::new();
    let mut admit = |host: u8, history: u64| {
        let mut stream = from(host, at);
        stream.greet("b", history);
        let outcome = stream.is_admitted();
        admitted.push(stream);
        outcome
    };
    for number in 0..LINKS_MAX - OTHERS_MIN {
        assert_eq!(admit(2, 100 + number as u64), Ok(()), "number {number}");
    }
    assert_eq!(admit(2, 9_000), Err(Refusal::FULL));
    assert_eq!(admit(3, 9_001), Ok(()));
}

#[test]
fn own_dials_have_places_of_their_own() {
    // Full before it can dial: nobody is there yet.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = listener.local_addr().unwrap();
    drop(listener);
    let dial = peer.to_string();
    let hub = Running::start(&["serve", "sim:b", "--dial", &dial, "--listen", "127.0.0.1:0"]);
    let at = hub.address();
    let mut strangers = Vec::new();
    for number in 0..LINKS_MAX {
        let mut stranger = stranger(number, at);
        let _ = stranger.is_admitted();
        strangers.push(stranger);
    }
    let _peer = Running::start(&["serve", "sim:b", "--listen", &dial]);
    hub.says(&format!("link up: {dial}"));
}

/// What a peer was sent, and says became of it, makes it known; what it claims in a greeting does not.
#[test]
fn known_peer_comes_in_though_one_address_holds_most_places() {
    let (_server, at) = known_to_one();
    let mut others = Vec::new();
    for number in 0..LINKS_MAX {
        let mut other = from(2, at);
        other.greet("b", 1000 + number as u64);
        if other.is_admitted().is_ok() {
            other.carry();
            others.push(other);
        }
    }
    assert!(others.len() <= LINKS_MAX - 8, "{} links from one address", others.len());
    for number in 0..8 {
        let mut other = from(3, at);
        other.join("b", 9_000 + number);
        other.carry();
        others.push(other);
    }
    let mut known = from(1, at);
    known.greet("b", 1);
    assert_eq!(known.is_admitted(), Ok(()));
}
