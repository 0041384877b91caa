//! The account after a schedule.

use std::collections::HashMap;

use canspan::protocol::{Frame, Outcome};

use crate::world::{Shown, World};

const BOARD: usize = 0;
/// What the age of a frame may be misjudged by: half of what a round trip may take that settles the
/// clocks' difference, and the wait for the bus.
const AGE_TOLERANCE_US: u64 = 50_000 + 20 * 300 + 5_000;

fn source(frame: &Frame) -> usize {
    (frame.id().bits() & 0xFF) as usize
}

fn incarnation(frame: &Frame) -> u64 {
    u64::from(frame.id().bits() >> 8)
}

fn sequence(frame: &Frame) -> u64 {
    u64::from_be_bytes(frame.data().try_into().unwrap())
}

impl World {
    pub(crate) fn check(&self) {
        self.check_order();
        self.check_age();
        self.check_filters();
        for pc in 1..self.nodes.len() {
            self.check_from_pc(pc);
            self.check_to_pc(pc);
        }
    }

    /// On every bus the frames of each process are in order, none twice; and a PC shows the
    /// board's frames in the board's bus order.
    fn check_order(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let mut last = HashMap::new();
            for shown in &node.shown {
                if shown.delivered && source(&shown.frame) == number {
                    // The board cannot know that two processes shared a bus: what the first one
                    // sent may come back to the second. Nor can it know after its own restart what
                    // it had handed to its kernel before. Else nothing comes back.
                    let restarted = self.nodes[BOARD].restarts > 0
                        || incarnation(&shown.frame) < node.incarnation;
                    assert!(restarted, "a frame came back");
                    continue;
                }
                let before = last.insert(shown.frame.id(), sequence(&shown.frame)).unwrap_or(0);
                let now = sequence(&shown.frame);
                assert!(
                    now > before,
                    "node {number}: frame {now} of node {} after {before}",
                    source(&shown.frame)
                );
            }
            if number != BOARD {
                self.check_bus_order(number);
            }
        }
    }

    fn check_bus_order(&self, pc: usize) {
        let order: HashMap<_, _> = self.nodes[BOARD]
            .shown
            .iter()
            .enumerate()
            .map(|(place, shown)| ((source(&shown.frame), sequence(&shown.frame)), place))
            .collect();
        let mut last = None;
        for shown in self.nodes[pc].shown.iter().filter(|shown| source(&shown.frame) != pc) {
            let place = order.get(&(source(&shown.frame), sequence(&shown.frame)));
            assert!(place.is_some(), "PC {pc}: {:?} was never on the board's bus", shown.frame);
            assert!(place > last.as_ref(), "PC {pc}: {:?} is out of bus order", shown.frame);
            last = place.copied();
        }
    }

    /// Nothing crosses that was not to: filters and read-only.
    fn check_filters(&self) {
        let board = &self.nodes[BOARD];
        for pc in 1..self.nodes.len() {
            for shown in self.nodes[pc].shown.iter().filter(|shown| shown.delivered) {
                assert!(board.filters[0].passes(&shown.frame), "{:?} left the board", shown.frame);
                assert!(self.nodes[pc].filters[2].passes(&shown.frame), "{:?}", shown.frame);
            }
            for shown in own(&board.shown, pc) {
                assert!(board.filters[1].passes(&shown.frame), "{:?} was sent", shown.frame);
                assert!(!board.policy.read_only, "{:?} was sent", shown.frame);
            }
        }
    }

    /// Nothing on the board's bus is older than its limit.
    fn check_age(&self) {
        let Some(max_age) = self.nodes[BOARD].policy.max_age else { return };
        for pc in 1..self.nodes.len() {
            let made: HashMap<_, _> = made(&self.nodes[pc].shown)
                .map(|shown| (sequence(&shown.frame), shown.at))
                .collect();
            for shown in own(&self.nodes[BOARD].shown, pc) {
                let age = shown.at - made[&sequence(&shown.frame)];
                let limit = max_age.as_micros() as u64 + AGE_TOLERANCE_US;
                assert!(age <= limit, "PC {pc}: {:?} was {age} us old on the bus", shown.frame);
            }
        }
    }

    /// A PC's own frames, toward the board's bus.
    fn check_from_pc(&self, pc: usize) {
        let node = &self.nodes[pc];
        let status = node.hubs[0].peer_status(self.places[pc].unwrap().peer).unwrap();
        assert!(status.link.is_some(), "PC {pc} has no link in the end");
        let first = self.first_of_incarnation(pc);
        let seen = made(&node.shown[first..]).filter(|shown| shown.position.is_some());
        let numbers: Vec<u64> = seen.map(|shown| sequence(&shown.frame)).collect();
        let sent = status.sent;
        assert_eq!(sent.accounted(), numbers.len() as u64, "PC {pc}: {sent:?}");
        let arrived = own(&self.nodes[BOARD].shown, pc)
            .filter(|shown| numbers.binary_search(&sequence(&shown.frame)).is_ok())
            .count() as u64;
        // After a restart of the board nobody can tell what became of the unconfirmed ones.
        let certain = sent.of(Outcome::Sent);
        let possible = certain + sent.of(Outcome::Unconfirmed);
        assert!(
            (certain..=possible).contains(&arrived),
            "PC {pc}: {arrived} of its frames were on the board's bus: {sent:?}"
        );
        if self.nodes[BOARD].restarts == 0 {
            let board = self.board().peers().find(|(_, peer)| peer.history == node.hubs[0].id());
            let (_, received) = board.expect("the board forgot a peer");
            assert_eq!(sent, received.received, "PC {pc}: the two ends' accounts differ");
            assert_eq!(sent.of(Outcome::Unconfirmed), 0);
        }
    }

    /// The board's frames, toward a PC.
    fn check_to_pc(&self, pc: usize) {
        let board = self.board();
        let id = self.nodes[pc].hubs[0].id();
        let (_, status) = board.peers().find(|(_, peer)| peer.history == id).expect("no record");
        let life = self.nodes[BOARD].incarnation;
        let joined = self.joined.iter().find(|(i, h, ..)| (*i, *h) == (life, id));
        let (_, _, begun, missed) = *joined.expect("the world saw every link come up");
        let first = self.first_of_incarnation(BOARD);
        let meant = self.nodes[BOARD].shown[first..]
            .iter()
            .filter(|shown| shown.position.is_some_and(|position| position >= begun))
            // Its own frames do not come back, but those of an earlier life do.
            .filter(|shown| {
                source(&shown.frame) != pc || incarnation(&shown.frame) < self.nodes[pc].incarnation
            })
            .filter(|shown| {
                self.nodes[BOARD].filters[0].passes(&shown.frame)
                    && self.nodes[pc].filters[2].passes(&shown.frame)
            })
            .count() as u64;
        let sent = status.sent;
        assert_eq!(
            sent.accounted(),
            missed + meant,
            "to PC {pc} from {begun} to {}: {status:?}, {:?}",
            board.position(),
            self.nodes[pc].hubs[0].peer_status(self.places[pc].unwrap().peer)
        );
        if self.nodes[BOARD].restarts + self.nodes[pc].restarts == 0 {
            let peer = self.places[pc].unwrap().peer;
            let received = self.nodes[pc].hubs[0].peer_status(peer).unwrap().received;
            assert_eq!(sent, received, "to PC {pc}: the two ends' accounts differ");
            let arrived = self.nodes[pc].shown.iter().filter(|s| s.delivered).count();
            assert_eq!(sent.of(Outcome::Sent), arrived as u64);
        }
    }

    /// Index of the first frame the present process of a node can have seen.
    fn first_of_incarnation(&self, number: usize) -> usize {
        self.nodes[number].first_shown
    }
}

/// Frames a bus' own nodes made.
fn made(shown: &[Shown]) -> impl Iterator<Item = &Shown> {
    shown.iter().filter(|shown| !shown.delivered)
}

/// Frames of a PC on the board's bus.
fn own(shown: &[Shown], pc: usize) -> impl Iterator<Item = &Shown> {
    shown.iter().filter(move |shown| source(&shown.frame) == pc)
}
