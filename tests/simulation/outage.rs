//! A link that falls silent for half a minute while commands go on: a board and a PC, a wire, and a virtual clock.

use core::time::Duration;

use canspan::gateway::{Heap, HeapSlots};
use canspan::protocol::time::Instant;
use canspan::protocol::wire::BusState;
use canspan::protocol::{
    Ended, Frame, HEARTBEATS_MISSED, Hub, Id, Link, LinkOptions, Outcome, Place, Policy, RECORD_MAX,
};

const BOARD: usize = 0;
const PC: usize = 1;
const STEP: Duration = Duration::from_millis(1);
const HEARTBEAT: Duration = Duration::from_millis(900);
const MAX_AGE: Duration = Duration::from_millis(500);
/// The wire's own delay is one step; it cannot be told from a difference of the clocks.
const AGE_TOLERANCE: Duration = Duration::from_millis(3);

struct Rig {
    now: Instant,
    hubs: [Vec<Hub<Heap>>; 2],
    place: Place,
    links: [Option<Box<Link>>; 2],
    /// Bytes on their way to each end.
    wire: [Vec<u8>; 2],
    is_silent: bool,
    next_link: u32,
    made: u64,
    /// Ages of the commands on the board's bus, by their order there.
    ages: Vec<Duration>,
    numbers: Vec<u64>,
}

impl Rig {
    fn new() -> Self {
        let now = Instant::from_micros(1_000_000);
        let hub = |id, policy| {
            let memory = vec![0; 64 * 1024].into_boxed_slice();
            let mut hub = Hub::new("can0", id, memory, HeapSlots::with_room(1_000)).unwrap();
            hub.set_policy(policy);
            hub.set_state(BusState::Up, None);
            vec![hub]
        };
        let aging = Policy { max_age: Some(MAX_AGE), ..Policy::default() };
        let mut hubs = [hub(7, aging), hub(8, Policy::default())];
        let place = Place { hub: 0, peer: hubs[PC][0].dial(now).unwrap() };
        Self {
            now,
            hubs,
            place,
            links: [None, None],
            wire: [Vec::new(), Vec::new()],
            is_silent: false,
            next_link: 1,
            made: 0,
            ages: Vec::new(),
            numbers: Vec::new(),
        }
    }

    /// The PC dials whenever it has no link; the board finds out about that only if it can be reached.
    fn dial(&mut self) {
        if self.links[PC].is_some() || self.is_silent {
            return;
        }
        let options = LinkOptions { heartbeat: HEARTBEAT, ..LinkOptions::default() };
        let number = self.next_link;
        self.next_link += 2;
        self.wire = [Vec::new(), Vec::new()];
        let dialler = Link::dial(self.now, number, self.place, "can0", options).unwrap();
        self.links[PC] = Some(Box::new(dialler));
        self.links[BOARD] = Some(Box::new(Link::accept(self.now, number + 1, options)));
    }

    /// A command on the PC's bus, which says when it was made.
    fn command(&mut self) {
        self.made += 1;
        let frame =
            Frame::data_frame(Id::Standard(1), &self.now.as_micros().to_be_bytes()).unwrap();
        self.hubs[PC][0].seen(&frame, self.now.as_micros(), false);
    }

    fn step(&mut self) -> [Option<Ended>; 2] {
        self.now = self.now + STEP;
        self.dial();
        let mut out = vec![0; RECORD_MAX * 2];
        let mut ended = [None, None];
        for side in [BOARD, PC] {
            let Some(link) = self.links[side].as_mut() else { continue };
            let arrived = core::mem::take(&mut self.wire[side]);
            link.handle_input(self.now, &arrived, &mut self.hubs[side]);
            if link.poll_timeout(&self.hubs[side]).is_some_and(|at| at <= self.now) {
                link.handle_timeout(self.now, &mut self.hubs[side]);
            }
            while link.poll_event().is_some() {}
            loop {
                let count = link.poll_transmit(self.now, &mut self.hubs[side], &mut out);
                if count == 0 {
                    break;
                }
                if !self.is_silent {
                    self.wire[1 - side].extend_from_slice(&out[..count]);
                }
            }
            ended[side] = link.ended();
            if ended[side].is_some() {
                self.links[side] = None;
            }
        }
        self.show();
        ended
    }

    /// The board's bus takes what its hub offers, and shows it.
    fn show(&mut self) {
        let hub = &mut self.hubs[BOARD][0];
        hub.handle_timeout(self.now);
        let mut frames = [Frame::EMPTY; 64];
        let count = hub.offer(self.now, &mut frames);
        hub.taken(self.now, count);
        for frame in &frames[..count] {
            hub.seen(frame, self.now.as_micros(), true);
            let made = u64::from_be_bytes(frame.data().try_into().unwrap());
            self.ages.push(Duration::from_micros(self.now.as_micros() - made));
            self.numbers.push(made);
        }
    }

    /// Ten milliseconds with one command.
    fn hundredth(&mut self) {
        self.command();
        for _ in 0..10 {
            self.step();
        }
    }
}

#[test]
fn silence_is_noticed_at_both_ends_within_three_heartbeats_and_not_before() {
    let mut rig = Rig::new();
    (0..5_000).for_each(|_| _ = rig.step());
    assert!(rig.links.iter().flatten().all(|link| link.is_live()));
    rig.is_silent = true;
    let begin = rig.now;
    let mut noticed = [None, None];
    while noticed.contains(&None) {
        for (side, ended) in rig.step().into_iter().enumerate() {
            if let Some(reason) = ended {
                assert_eq!(reason, Ended::Silent);
                noticed[side] = Some(rig.now.since(begin));
            }
        }
        assert!(rig.now.since(begin) < Duration::from_secs(3), "{noticed:?}");
    }
    for after in noticed.into_iter().flatten() {
        assert!(after > HEARTBEAT * (HEARTBEATS_MISSED - 1), "given up too early, after {after:?}");
    }
}

#[test]
fn of_thirty_seconds_of_commands_without_a_link_not_one_old_one_reaches_the_bus() {
    let mut rig = Rig::new();
    (0..200).for_each(|_| rig.hundredth());
    rig.is_silent = true;
    (0..3_000).for_each(|_| rig.hundredth());
    rig.is_silent = false;
    (0..200).for_each(|_| rig.hundredth());
    (0..2_000).for_each(|_| _ = rig.step());

    let oldest = rig.ages.iter().max().unwrap();
    assert!(*oldest <= MAX_AGE + AGE_TOLERANCE, "a command of {oldest:?} ago was on the bus");
    assert!(
        rig.numbers.is_sorted_by(|a, b| a < b),
        "a command was twice on the bus, or out of order"
    );
    let sent = rig.hubs[PC][0].peer_status(rig.place.peer).unwrap().sent;
    let (_, there) = rig.hubs[BOARD][0].peers().next().unwrap();
    assert_eq!(sent, there.received, "the two ends' accounts differ");
    assert_eq!(sent.accounted(), rig.made);
    assert_eq!(sent.of(Outcome::Sent), rig.ages.len() as u64);
    // All of the outage but what was young enough at its end.
    assert!(sent.of(Outcome::Stale) >= 2_900, "{sent:?}");
    assert_eq!(sent.of(Outcome::Sent) + sent.of(Outcome::Stale), rig.made, "{sent:?}");
}
