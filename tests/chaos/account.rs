//! The account after a round: what the test's own sockets saw, against what the processes count.
//!
//! A process that is killed takes its counters along. So the account is one of the processes there are in the end, each
//! over its own life: what it can have seen is known, because the bus is silent while it begins to look. What it may
//! have had in hand when an earlier one died is nobody's; it may be missing, but it may not be doubled, out of order, old
//! or invented, and that is checked over the whole round.

use core::fmt;
use std::collections::{HashMap, HashSet};

use crate::{
    field::{Field, Listener, Numbers, Pc, resident_kb},
    numbers::{Link, Way},
    process::canspan,
    relay, sys,
    traffic::{BOARD_ID, ERROR_ID, PC_ID, SENDER_ID, Seen},
};

/// The board's age limit, and by how much a command may be older on its bus: the age may be misjudged by 50 ms, and on a
/// busy machine processes wait for each other. Without the limit there would be commands as old as the cuts are long,
/// which is up to 9 s.
pub(crate) const AGE_LIMIT_US: u64 = 500_000;
pub(crate) const AGE_SLACK_US: u64 = 400_000;
/// `--history`, and what a process may have beside it, in KB.
const HISTORY_KB: u64 = 4 << 10;
const BESIDE_KB: u64 = 2 << 10;

/// Where each frame stands on the board's bus.
pub(crate) type Order = HashMap<(u32, u64), usize>;

/// What came of a round, or of several.
#[derive(Default)]
pub(crate) struct Result {
    /// Frames the test put on all buses.
    made: u64,
    /// On the board's bus: made there, and by the PCs, which had made so many.
    commands: u64,
    commands_sent: u64,
    /// Frames of the board's bus that reached PCs, of so many meant for them.
    reports: u64,
    reports_sent: u64,
    /// What the processes there were in the end have counted, both ways.
    counted: Way,
    overflow: u64,
    oldest_us: u64,
}

impl Result {
    pub(crate) fn add(&mut self, other: &Self) {
        self.made += other.made;
        self.commands += other.commands;
        self.commands_sent += other.commands_sent;
        self.reports += other.reports;
        self.reports_sent += other.reports_sent;
        self.counted = self.counted.plus(&other.counted);
        self.overflow += other.overflow;
        self.oldest_us = self.oldest_us.max(other.oldest_us);
    }

    /// Frames that were made beside the field, each of which is accounted for.
    pub(crate) fn add_made(&mut self, count: u64) {
        self.made += count;
    }

    /// A run in which hardly anything was delivered shows nothing.
    pub(crate) fn is_worth_something(&self) {
        assert!(self.commands_sent * 5 > self.commands, "hardly a command reached the board");
        assert!(self.reports_sent * 4 > self.reports, "hardly a frame reached the PCs");
    }
}

impl fmt::Display for Result {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = if f.alternate() { "\n      " } else { " " };
        write!(
            f,
            "{} frames made;{line}to the board {} of {}, the oldest after {} ms;{line}\
             to the PCs {} of {};{line}counted: sent {}, lost {}, stale {}, failed {}, unconfirmed {}, overflow {}",
            self.made,
            self.commands_sent,
            self.commands,
            self.oldest_us / 1000,
            self.reports_sent,
            self.reports,
            self.counted.of("sent"),
            self.counted.lost,
            self.counted.of("stale"),
            self.counted.of("failed"),
            self.counted.of("unconfirmed"),
            self.overflow,
        )
    }
}

/// Whether `frames` of a bus fit what a process counts as sent to it; of some it cannot know.
pub(crate) fn fits(what: &str, frames: u64, counted: &Way) {
    let sent = counted.of("sent");
    let most = sent + counted.uncertain();
    assert!(
        (sent..=most).contains(&frames),
        "{what}: {frames} were on the bus, counted {counted:?}"
    );
}

fn count(frames: &[Seen], mut is_meant: impl FnMut(&Seen) -> bool) -> u64 {
    frames.iter().filter(|seen| is_meant(seen)).count() as u64
}

/// One peer of the board at the end of the round.
struct Peer<'n> {
    name: String,
    /// Its own frames' id; none of a listener.
    id: Option<u32>,
    board: &'n Link,
    /// What its bus has shown since its process began to look, and the board's bus then.
    seen: &'n [Seen],
    begun_there: usize,
    started: u64,
    is_second: bool,
}

/// Checks everything; panics at what does not fit.
pub(crate) fn check(field: &Field, numbers: &Numbers) -> Result {
    let board = field.board.witness.all().clone();
    let mut order = Order::new();
    for (place, seen) in board.iter().enumerate() {
        assert_eq!(order.insert(seen.key(), place), None, "twice on the board's bus: {seen:?}");
    }
    is_made(field, "the board's bus", &board);
    in_order("the board's bus", &board);
    let mut result = Result {
        made: field.board.source.made() + u64::from(field.board.errors),
        overflow: numbers.board.overflow,
        ..Result::default()
    };
    for (number, pc) in field.pcs.iter().enumerate() {
        let all = pc.witness.all().clone();
        check_pc(field, numbers, number, &board, &order, &all, &mut result);
    }
    for (number, listener) in field.listeners.iter().enumerate() {
        check_listener(field, numbers, number, listener, &board, &order, &mut result);
    }
    relay::check(field, numbers, &board, &order);
    check_all_commands(field, numbers, &board);
    check_sender(field, &order);
    check_memory(field);
    result
}

fn check_pc(
    field: &Field,
    numbers: &Numbers,
    number: usize,
    board: &[Seen],
    order: &Order,
    all: &[Seen],
    result: &mut Result,
) {
    let (pc, told, id) = (&field.pcs[number], &numbers.pcs[number], PC_ID[number]);
    let name = format!("PC {}", number + 1);
    let is_relayed = number == relay::BEHIND;
    is_made(field, &name, all);
    let (own, foreign) = apart(id, all);
    let came_back = foreign.iter().find(|seen| seen.source == id);
    let may_come_back = pc.is_second && pc.made > 0 || is_relayed && field.relay.is_second;
    assert!(came_back.is_none() || may_come_back, "{name}: came back: {came_back:?}");
    in_order(&name, &own);
    in_bus_order(&name, &foreign, order);
    assert_eq!(own.len() as u64, pc.source.made(), "{name}: the witness missed frames");
    let (to, from) = (&told.links[0].to_peer, &told.links[0].from_peer);

    // Its own frames toward the board, since its process looks.
    assert_eq!(to.accounted() + told.overflow, pc.source.made() - pc.made, "{name}: {to:?}");
    let arrived = count(board, |s| s.source == id && s.number >= pc.made);
    // The frames of one behind a relay are the relay's from then on.
    if is_relayed {
        let most = to.of("sent") + to.uncertain();
        assert!(arrived <= most, "{name}: {arrived} on the board's bus, {to:?}");
    } else {
        fits(&format!("{name} to the board"), arrived, to);
    }
    let same_lives = pc.started > field.board.started || !was_restarted(field, pc);
    if same_lives && !is_relayed {
        let there = link_of(numbers, number + 1);
        let uncertain = numbers.board.overflow + told.overflow;
        assert!(to.of("unconfirmed") <= uncertain, "{name}: nobody was restarted: {to:?}");
        assert_eq!(*to, there.from_peer, "{name}: the two ends' accounts differ");
        assert_eq!(*from, there.to_peer, "{name}: the two ends' accounts differ");
    }
    result.oldest_us = result.oldest_us.max(check_age(field, &name, id, board, &own));

    // The board's frames toward it.
    let seen: Vec<Seen> = shown_since(pc, id, all);
    fits(&format!("{name} from the board"), seen.len() as u64, from);
    if !is_relayed {
        let peer = Peer {
            name,
            id: Some(id),
            board: link_of(numbers, number + 1),
            seen: &seen,
            begun_there: pc.begun_there,
            started: pc.started,
            is_second: pc.is_second && pc.begun_there > 0,
        };
        check_stream(field, numbers, &peer, board, order);
    }
    result.made += pc.source.made();
    result.commands += pc.source.made();
    result.commands_sent += count(board, |seen| seen.source == id);
    result.reports += count(board, |seen| seen.source != id);
    result.reports_sent += foreign.len() as u64;
    result.counted = result.counted.plus(to).plus(from);
    result.overflow += told.overflow;
}

fn check_listener(
    field: &Field,
    numbers: &Numbers,
    number: usize,
    listener: &Listener,
    board: &[Seen],
    order: &Order,
    result: &mut Result,
) {
    let all = listener.log.lock().unwrap();
    let name = format!("listener {}", number + 1);
    in_bus_order(&name, &all, order);
    let there = link_of(numbers, number + 3);
    let peer = Peer {
        name,
        id: None,
        board: there,
        seen: &all[listener.begun..],
        begun_there: listener.begun_there,
        started: listener.started,
        is_second: listener.is_second,
    };
    check_stream(field, numbers, &peer, board, order);
    result.reports += board.len() as u64;
    result.reports_sent += all.len() as u64;
    result.counted = result.counted.plus(&there.to_peer);
}

/// The board's account of its stream to a peer, against what was on the two buses.
fn check_stream(field: &Field, numbers: &Numbers, peer: &Peer<'_>, board: &[Seen], order: &Order) {
    let to = &peer.board.to_peer;
    let name = &peer.name;
    let place = |seen: &Seen| order[&seen.key()];
    let arrived = count(peer.seen, |seen| place(seen) >= field.board.begun);
    fits(&format!("the board to {name}"), arrived, to);
    let meant = |frames: &[Seen]| count(frames, |seen| Some(seen.source) != peer.id);
    let (accounted, overflow) = (to.accounted(), numbers.board.overflow);
    let (least, most) = if peer.started < field.board.started || !peer.is_second {
        // It was there when the board's process began, or before anything was on the bus.
        let all = meant(&board[field.board.begun..]);
        (all, all)
    } else {
        // Its stream begins when it came: somewhere between its start and the first frame it got.
        let first = peer.seen.iter().find(|seen| Some(seen.source) != peer.id).map(place);
        let first = first.unwrap_or(board.len());
        (meant(&board[first..]), (board.len() - peer.begun_there) as u64)
    };
    assert!(
        (least.saturating_sub(overflow)..=most).contains(&accounted),
        "the board to {name}: {least} to {most} frames were meant for it (overflow {overflow}), \
         and {accounted} are accounted for: {to:?}"
    );
}

/// All that the present process of the board counts as sent for anyone, against its bus.
fn check_all_commands(field: &Field, numbers: &Numbers, board: &[Seen]) {
    let links = &numbers.board.links;
    assert!(links.len() < 96, "the board may have forgotten a peer");
    let sum = links.iter().fold(Way::default(), |sum, link| sum.plus(&link.from_peer));
    let is_command = |seen: &Seen| PC_ID.contains(&seen.source) || seen.source == SENDER_ID;
    fits("everyone to the board", count(&board[field.board.begun..], is_command), &sum);
}

/// What `send` said is so.
fn check_sender(field: &Field, order: &Order) {
    let fate = &field.sender.fate;
    let was_sent = |number: &u64| order.contains_key(&(SENDER_ID, *number));
    for (from, to) in fate.confirmed.lock().unwrap().iter() {
        assert!((*from..*to).all(|number| was_sent(&number)), "send claims {from}..{to} wrongly");
    }
    let denied = fate.denied.lock().unwrap();
    let wrongly = denied.iter().find(|number| was_sent(number));
    assert_eq!(wrongly, None, "send said that it was not sent, and it was");
}

/// What every process has in memory. It is promised of the static binary, in which the C library is not counted for every
/// process anew.
fn check_memory(field: &Field) {
    let is_promised = std::env::var_os("CANSPAN_STATIC").is_some_and(|is| is == *canspan());
    // That with a clock which can stand is another binary.
    let pcs = field.pcs.iter().filter(|pc| pc.clock.is_none()).map(|pc| &pc.connect);
    let board = Some(&field.board.serve).filter(|_| field.board.clock.is_none());
    for kb in pcs.chain(board).flatten().map(resident_kb) {
        let limit = if is_promised { HISTORY_KB + BESIDE_KB } else { HISTORY_KB + 4 * BESIDE_KB };
        assert!(kb <= limit, "a process has {kb} KB resident, and not at most {limit}");
    }
}

/// Whether the board's process was restarted after this PC's was started.
fn was_restarted(field: &Field, pc: &Pc) -> bool {
    field.board.started > 1 && field.board.started > pc.started
}

/// What the board says of the peer on a cable.
fn link_of(numbers: &Numbers, cable: usize) -> &Link {
    let mut links = numbers.board.links.iter();
    links.find(|link| link.up && link.is_over(cable)).expect("it was there before")
}

/// Every frame is one the test has made.
fn is_made(field: &Field, place: &str, frames: &[Seen]) {
    for seen in frames {
        let made = match seen.source {
            BOARD_ID => field.board.source.made(),
            ERROR_ID => u64::from(field.board.errors),
            SENDER_ID => field.sender.fate.given.load(core::sync::atomic::Ordering::Relaxed),
            id => {
                let pc = PC_ID.iter().position(|pc| *pc == id);
                pc.map_or(0, |number| field.pcs[number].source.made())
            }
        };
        assert!(seen.number < made, "{place}: nobody has made {seen:?}");
    }
}

/// The frames of each source are in order, none twice.
pub(crate) fn in_order(place: &str, frames: &[Seen]) {
    let mut next = HashMap::new();
    for seen in frames {
        let before = next.insert(seen.source, seen.number + 1).unwrap_or(0);
        assert!(seen.number >= before, "{place}: {seen:?}, where {before} is the next");
    }
}

/// The frames are in the order of the board's bus, none twice.
fn in_bus_order(name: &str, frames: &[Seen], order: &Order) {
    let mut last = None;
    for (index, seen) in frames.iter().enumerate() {
        let place = order.get(&seen.key());
        assert!(place.is_some(), "{name}: {seen:?} was never on the board's bus");
        assert!(place > last, "{name}: {}", disorder(frames, index, order));
        last = place;
    }
}

/// What is wrong with frame `index`, and what was around it: source, number, place on the board's bus, and when.
fn disorder(frames: &[Seen], index: usize, order: &Order) -> String {
    let (seen, begin) = (frames[index], frames[0].at_us);
    let line = |(index, seen): (usize, &Seen)| {
        let (place, ms) = (order.get(&seen.key()), seen.at_us.saturating_sub(begin) / 1000);
        let place = place.map_or_else(|| "nowhere".to_owned(), usize::to_string);
        format!("\n  {index}: {:X} {} at {place}, {ms} ms", seen.source, seen.number)
    };
    let around = |index: usize| -> String {
        let from = index.saturating_sub(5);
        let lines = frames.iter().enumerate().skip(from).take(index + 6 - from);
        lines.map(line).collect()
    };
    let what = frames[..index].iter().position(|earlier| earlier.key() == seen.key()).map_or_else(
        || "is out of order".to_owned(),
        |earlier| format!("is doubled; before it was the {earlier}th, with{}", around(earlier)),
    );
    format!("{seen:?}, the {index}th, with{}\n{what}", around(index))
}

/// A PC's own frames, and the others. Its own ones do not come back, but those of an earlier process of it may.
fn apart(id: u32, all: &[Seen]) -> (Vec<Seen>, Vec<Seen>) {
    let mut known = HashSet::new();
    all.iter().partition(|seen| seen.source == id && known.insert(seen.number))
}

/// What the present process of a PC has put on its bus.
fn shown_since(pc: &Pc, id: u32, all: &[Seen]) -> Vec<Seen> {
    let (_, before) = apart(id, &all[..pc.begun]);
    apart(id, all).1.split_off(before.len())
}

/// No command on the board's bus is older than its limit; how old the oldest is. The time in which the board's own clock
/// stood nobody can count there before another word of the peer's comes: `tests/kernel/pauses.rs` is stricter.
fn check_age(field: &Field, name: &str, id: u32, board: &[Seen], own: &[Seen]) -> u64 {
    let age = |seen: &Seen| {
        let made = own[usize::try_from(seen.number).unwrap()];
        assert_eq!(made.number, seen.number, "{name}: a frame is missing on its own bus");
        let part =
            |(from, to): &(u64, u64)| seen.at_us.min(*to).saturating_sub(made.at_us.max(*from));
        let stood: u64 = field.board.stood.iter().map(part).sum();
        seen.at_us.saturating_sub(made.at_us).saturating_sub(stood)
    };
    let oldest = board
        .iter()
        .filter(|seen| seen.source == id)
        .map(|seen| (age(seen), seen))
        .max_by_key(|x| x.0);
    let Some((oldest_us, seen)) = oldest else { return 0 };
    assert!(
        oldest_us <= AGE_LIMIT_US + AGE_SLACK_US,
        "{name}: {seen:?} was {} ms old on the board's bus",
        oldest_us / 1000
    );
    oldest_us
}

#[test]
fn an_order_that_is_none_is_noticed() {
    let seen = |number| Seen { source: sys::EXTENDED, number, at_us: 0 };
    let order: Order = (0..3).map(|n| (seen(n).key(), usize::try_from(n).unwrap())).collect();
    in_bus_order("a bus", &[seen(0), seen(2)], &order);
    for wrong in [[0, 0], [1, 0], [0, 3]] {
        let frames = wrong.map(seen);
        assert!(std::panic::catch_unwind(|| in_bus_order("a bus", &frames, &order)).is_err());
    }
}
