//! A bus that goes down between taking frames and telling of them. Needs root in a network namespace of its own (or a whole
//! kernel). The gateway's bus is driven by hand, because between the two there is no more than a moment.

use core::error::Error;

use canspan::bus::{create_vcan, delete};
use canspan::cli::MaxAge;
use canspan::gateway::clock::{self, WallClock};
use canspan::gateway::{Bus, Heap, HeapSlots, Interface, Side};
use canspan::protocol::time::Instant;
use canspan::protocol::wire::BusState;
use canspan::protocol::{Frame, Hub, Id, Link, LinkOptions, Outcome, Place, Policy, RECORD_MAX};
use socketcan::nl;

type Result = core::result::Result<(), Box<dyn Error>>;

/// A virtual bus that goes away with the test, however that ends.
struct Vcan(&'static str);

impl Drop for Vcan {
    fn drop(&mut self) {
        let _ = delete(self.0);
    }
}

/// A board with a bus, and a PC that is linked to it without a network.
struct Rig {
    now: Instant,
    board: Vec<Hub<Heap>>,
    pc: Vec<Hub<Heap>>,
    place: Place,
    links: [Link; 2],
    bus: Bus,
    wall: WallClock,
    made: u64,
}

impl Rig {
    fn new(vcan: &Vcan) -> core::result::Result<Self, Box<dyn Error>> {
        let now = clock::now();
        let hub = |id| {
            let memory = vec![0; 64 * 1024].into_boxed_slice();
            Hub::new("can0", id, memory, HeapSlots::with_room(1_000)).ok_or("no hub")
        };
        let (mut board, mut pc) = (vec![hub(7)?], vec![hub(8)?]);
        pc[0].set_state(BusState::Up, None);
        let mut interface = Interface::new(vcan.0.to_owned(), MaxAge::Unlimited, false);
        interface.start(now, &mut board[0], None)?;
        let bus = Bus::new(Side::Interface(Box::new(interface)), &mut board[0]);
        let place = Place { hub: 0, peer: pc[0].dial(now).ok_or("no record")? };
        let options = LinkOptions::default();
        let dialler = Link::dial(now, 1, place, "can0", options).ok_or("no link")?;
        let links = [Link::accept(now, 2, options), dialler];
        let wall = WallClock::default();
        Ok(Self { now, board, pc, place, links, bus, wall, made: 0 })
    }

    /// Both say what they have to, until neither has anything.
    fn exchange(&mut self) {
        let mut out = vec![0; 2 * RECORD_MAX];
        loop {
            let mut moved = false;
            for side in 0..2 {
                let (from, to) = if side == 0 {
                    (&mut self.board, &mut self.pc)
                } else {
                    (&mut self.pc, &mut self.board)
                };
                let count = self.links[side].poll_transmit(self.now, from, &mut out);
                self.links[1 - side].handle_input(self.now, &out[..count], to);
                moved |= count > 0;
            }
            if !moved {
                return;
            }
        }
    }

    /// The PC's bus shows so many frames, which get as far as the board's queue.
    fn send(&mut self, count: u64) {
        for _ in 0..count {
            let frame = Frame::data_frame(Id::Standard(1), &self.made.to_be_bytes());
            self.pc[0].seen(&frame.expect("a valid frame"), self.now.as_micros(), false);
            self.made += 1;
        }
        self.exchange();
    }

    fn write(&mut self) {
        self.bus.write(self.now, &mut self.board[0], &mut self.wall);
    }

    fn read(&mut self) {
        self.bus.read(self.now, &mut self.board[0], &mut self.wall);
    }

    /// What the board says became of the PC's frames.
    fn outcome(&self, outcome: Outcome) -> u64 {
        self.board[0].peers().map(|(_, peer)| peer.received.of(outcome)).sum()
    }
}

fn goes_down(how: &str, notice: impl FnOnce(&mut Rig)) -> Result {
    create_vcan("echoes0")?;
    let vcan = Vcan("echoes0");
    let mut rig = Rig::new(&vcan)?;
    rig.exchange();
    rig.send(10);
    // Else it reads the echoes as soon as it has written: here the interface is faster.
    let policy = *rig.board[0].policy();
    rig.board[0].set_policy(Policy { is_virtual: false, ..policy });
    rig.write();
    assert!(rig.board[0].is_busy(), "{how}: the echoes were read");
    rig.send(10);
    nl::CanInterface::open(vcan.0)?.bring_down()?;
    notice(&mut rig);
    assert_eq!(rig.board[0].status().state, BusState::Down, "{how}");
    assert_eq!(rig.outcome(Outcome::Sent), 10, "{how}: what the bus has shown was sent");
    assert_eq!(rig.outcome(Outcome::Failed), 0, "{how}");

    nl::CanInterface::open(vcan.0)?.bring_up()?;
    // The kernel tells once more that it was down.
    rig.read();
    rig.bus.check(rig.now, &mut rig.board[0]);
    rig.write();
    rig.read();
    assert_eq!(rig.outcome(Outcome::Sent), 20, "{how}: what waited is sent when it is up again");
    rig.now = rig.now + LinkOptions::default().receipts;
    rig.exchange();
    let mut frames = [Frame::EMPTY; 64];
    assert_eq!(rig.pc[0].offer(rig.now, &mut frames), 0, "{how}: its own frames came back");
    let sent = rig.pc[0].peer_status(rig.place.peer).ok_or("no record")?.sent;
    assert_eq!((sent.of(Outcome::Sent), sent.accounted()), (20, 20), "{how}");
    Ok(())
}

#[test]
fn what_a_bus_has_shown_before_it_went_down_was_sent_and_does_not_come_back() -> Result {
    goes_down("reading", Rig::read)?;
    goes_down("writing", Rig::write)?;
    goes_down("news of the interface", |rig| rig.bus.check(rig.now, &mut rig.board[0]))
}
