//! What a gateway's bus makes of its interface: one that goes down between taking frames and telling of them, that loses
//! frames in silence, that has a controller in a mode of its own. Needs root in a network namespace of its own (or a whole
//! kernel), and one thread. The bus is driven by hand, because what matters takes no more than a moment.

#[path = "kernel/sys.rs"]
#[allow(dead_code, reason = "the kernel tests use the rest of it")]
mod sys;

use core::error::Error;
use core::time::Duration;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;

use canspan::bus::controller::BitTiming;
use canspan::bus::{CanInterface, Settings, create_vcan, delete};
use canspan::cli::MaxAge;
use canspan::gateway::clock::{self, WallClock};
use canspan::gateway::{Bus, Heap, HeapSlots, Interface, Side};
use canspan::protocol::time::Instant;
use canspan::protocol::wire::BusState;
use canspan::protocol::{
    Echo, Frame, Hub, Id, Link, LinkOptions, Outcome, Place, Policy, RECORD_MAX,
};
use socketcan::nl;

type Result = core::result::Result<(), Box<dyn Error>>;

/// A virtual bus that goes away with the test, however that ends.
struct Vcan(&'static str);

impl Vcan {
    fn new(name: &'static str) -> core::result::Result<Self, Box<dyn Error>> {
        create_vcan(name)?;
        Ok(Self(name))
    }

    fn rig(&self) -> core::result::Result<Rig, Box<dyn Error>> {
        Rig::new(Interface::new(self.0.to_owned(), MaxAge::Unlimited, false))
    }
}

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
    fn new(mut interface: Interface) -> core::result::Result<Self, Box<dyn Error>> {
        let now = clock::now();
        let hub = |id| {
            let memory = vec![0; 64 * 1024].into_boxed_slice();
            Hub::new("can0", id, memory, HeapSlots::with_room(1_000)).ok_or("no hub")
        };
        let (mut board, mut pc) = (vec![hub(7)?], vec![hub(8)?]);
        pc[0].set_state(BusState::Up, None);
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

    /// Reads until so much is true, which the kernel may take some time for.
    fn read_until(&mut self, what: &str, is_true: impl Fn(&Hub<Heap>) -> bool) -> Result {
        for _ in 0..200 {
            self.read();
            if is_true(&self.board[0]) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("not within 2 s: {what}").into())
    }

    /// So much time passes.
    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.read();
        self.board[0].handle_timeout(self.now);
    }

    /// What the board says became of the PC's frames.
    fn outcome(&self, outcome: Outcome) -> u64 {
        self.board[0].peers().map(|(_, peer)| peer.received.of(outcome)).sum()
    }
}

fn goes_down(how: &str, notice: impl FnOnce(&mut Rig)) -> Result {
    let vcan = Vcan::new("echoes0")?;
    let mut rig = vcan.rig()?;
    rig.exchange();
    rig.send(1);
    // Else it reads the echoes as soon as it has written: here the interface is faster.
    let policy = *rig.board[0].policy();
    rig.board[0].set_policy(Policy { is_virtual: false, ..policy });
    rig.write();
    assert!(rig.board[0].is_busy(), "{how}: the echoes were read");
    rig.send(10);
    nl::CanInterface::open(vcan.0)?.bring_down()?;
    notice(&mut rig);
    assert_eq!(rig.board[0].status().state, BusState::Down, "{how}");
    assert_eq!(rig.outcome(Outcome::Sent), 1, "{how}: what the bus has shown was sent");
    assert_eq!(rig.outcome(Outcome::Failed), 0, "{how}");

    nl::CanInterface::open(vcan.0)?.bring_up()?;
    // The kernel tells once more that it was down.
    rig.read();
    rig.bus.check(rig.now, &mut rig.board[0]);
    rig.write();
    rig.read();
    assert_eq!(rig.outcome(Outcome::Sent), 11, "{how}: what waited is sent when it is up again");
    rig.now = rig.now + LinkOptions::default().receipts;
    rig.exchange();
    let mut frames = [Frame::EMPTY; 64];
    assert_eq!(rig.pc[0].offer(rig.now, &mut frames), 0, "{how}: its own frames came back");
    let sent = rig.pc[0].peer_status(rig.place.peer).ok_or("no record")?.sent;
    assert_eq!((sent.of(Outcome::Sent), sent.accounted()), (11, 11), "{how}");
    Ok(())
}

#[test]
fn what_a_bus_has_shown_before_it_went_down_was_sent_and_does_not_come_back() -> Result {
    goes_down("reading", Rig::read)?;
    goes_down("writing", Rig::write)?;
    goes_down("news of the interface", |rig| rig.bus.check(rig.now, &mut rig.board[0]))
}

#[test]
fn overflow_is_counted_while_the_bus_is_silent() -> Result {
    const SENT: u64 = 20_000;
    let vcan = Vcan::new("echoes0")?;
    let mut rig = vcan.rig()?;
    let mut tool = CanInterface::open(vcan.0)?;
    let frame = Frame::data_frame(Id::Standard(1), &[]).ok_or("a valid frame")?;
    for _ in 0..SENT / 64 + 1 {
        assert_eq!(tool.send(&[frame; 64]).taken, 64);
        while tool.receive()? > 0 {}
    }
    while !rig.bus.read(rig.now, &mut rig.board[0], &mut rig.wall) {}
    let (seen, lost) = (rig.board[0].frames_seen(), rig.board[0].status().overflow);
    assert!(lost > 0, "{seen} were seen, and nothing is lost");
    assert_eq!(seen + lost, (SENT / 64 + 1) * 64);
    Ok(())
}

#[test]
fn descriptor_limit_does_not_lose_the_interface() -> Result {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let vcan = Vcan::new("echoes0")?;
    let mut rig = vcan.rig()?;
    let mut tool = CanInterface::open(vcan.0)?;
    let before = getrlimit(Resource::Nofile);
    let free = File::open("/proc/self/stat")?.as_raw_fd();
    let limit = Rlimit { current: Some(free.unsigned_abs().into()), ..before };
    setrlimit(Resource::Nofile, limit)?;
    let is_full = File::open("/proc/self/stat").is_err();
    let frame = Frame::data_frame(Id::Standard(1), &[]).ok_or("a valid frame")?;
    assert_eq!(tool.send(&[frame; 50]).taken, 50);
    rig.bus.check(rig.now, &mut rig.board[0]);
    assert_eq!(tool.send(&[frame; 50]).taken, 50);
    rig.read();
    setrlimit(Resource::Nofile, before)?;
    assert!(is_full, "the limit holds");
    assert_eq!((rig.board[0].status().state, rig.board[0].frames_seen()), (BusState::Up, 100));
    Ok(())
}

#[test]
fn state_of_a_virtual_bus_by_hearsay_ends() -> Result {
    let vcan = Vcan::new("echoes0")?;
    let mut rig = vcan.rig()?;
    rig.exchange();
    let mut tool = CanInterface::open(vcan.0)?;
    let bus_off = Frame::error(0x40, &[0; 8]).ok_or("a valid frame")?;
    assert_eq!(tool.send(&[bus_off]).taken, 1);
    rig.read();
    assert_eq!(rig.board[0].status().state, BusState::BusOff);
    rig.pass(Duration::from_secs(11));
    assert_eq!(rig.board[0].status().state, BusState::Up, "nothing followed");
    assert_eq!(tool.send(&[bus_off]).taken, 1);
    rig.read();
    rig.send(5);
    rig.write();
    assert_eq!(rig.outcome(Outcome::Sent), 5, "it takes frames all the same");
    assert_eq!(rig.board[0].status().state, BusState::Up, "its own frames were seen on it");
    Ok(())
}

#[test]
fn drops_of_the_kernels_backlog_are_counted() -> Result {
    const LIMIT: &str = "/proc/sys/net/core/netdev_max_backlog";
    let (vcan, other) = (Vcan::new("echoes0")?, Vcan::new("echoes1")?);
    let mut rig = vcan.rig()?;
    assert!(rig.board[0].policy().paced);
    // One frame becomes twenty in one go, for which the backlog has no room.
    for _ in 0..20 {
        run("cangw", &["-A", "-s", other.0, "-d", vcan.0, "-e"])?;
    }
    let limit = std::fs::read_to_string(LIMIT)?;
    std::fs::write(LIMIT, "3")?;
    let frame = Frame::data_frame(Id::Standard(1), &[]).ok_or("a valid frame")?;
    let sent = CanInterface::open(other.0)?.send(&[frame]).taken;
    std::fs::write(LIMIT, limit)?;
    run("cangw", &["-F"])?;
    assert_eq!(sent, 1);
    rig.read();
    let seen = rig.board[0].frames_seen();
    assert!((1..20).contains(&seen), "{seen}");
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.board[0].status().dropped, 20 - seen);
    assert_eq!(rig.board[0].status().overflow, 0);
    Ok(())
}

/// A serial adapter whose firmware is the test.
struct Adapter {
    line: File,
    _driver: OwnedFd,
    name: String,
}

impl Adapter {
    /// Plugs one in. Its driver is a full one without echo (`slcan`).
    fn new() -> core::result::Result<Self, Box<dyn Error>> {
        let (line, driver, name) = sys::serial_can()?;
        // It takes all it is told, until the end of the line.
        let mut reader = line.try_clone()?;
        std::thread::spawn(
            move || while reader.read(&mut [0; 256]).is_ok_and(|count| count > 0) {},
        );
        Ok(Self { line, _driver: driver, name })
    }

    fn up(&self, mode: &str) -> Result {
        run("ip", &["link", "set", &self.name, "down"])?;
        let set = ["link", "set", &self.name, "up", "type", "can", "bitrate", "500000"];
        run("ip", &[&set[..], &["listen-only", mode]].concat())
    }
}

fn run(program: &str, arguments: &[&str]) -> Result {
    let status = Command::new(program).args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(format!("{program} {arguments:?}: {status}").into()) }
}

#[test]
fn controllers_mode_reaches_the_policy() -> Result {
    let adapter = Adapter::new()?;
    adapter.up("on")?;
    let mut rig = Rig::new(Interface::new(adapter.name.clone(), MaxAge::ByBus, false))?;
    let policy = |rig: &Rig| {
        let policy = rig.board[0].policy();
        (policy.read_only, policy.echo, policy.is_virtual, policy.paced)
    };
    assert_eq!(policy(&rig), (true, Echo::Kernel, false, false));
    adapter.up("off")?;
    // The kernel tells that it was down.
    rig.read();
    rig.bus.check(rig.now, &mut rig.board[0]);
    assert_eq!(policy(&rig), (false, Echo::Kernel, false, false));
    rig.exchange();
    rig.now = clock::now();
    rig.send(2);
    rig.write();
    rig.read_until("both are taken", |hub| hub.frames_confirmed() == 2)?;
    assert_eq!((rig.outcome(Outcome::Taken), rig.outcome(Outcome::Sent)), (2, 0));
    Ok(())
}

#[test]
fn controllers_overflow_is_counted_once() -> Result {
    let mut adapter = Adapter::new()?;
    adapter.up("off")?;
    let mut rig = Rig::new(Interface::new(adapter.name.clone(), MaxAge::ByBus, false))?;
    for _ in 0..3 {
        write!(adapter.line, "e1o\r")?;
    }
    rig.read_until("three error frames", |hub| hub.frames_seen() == 3)?;
    assert_eq!(rig.board[0].status().overrun, 3);
    // The driver has counted the same.
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.board[0].status().overrun, 3);
    Ok(())
}

#[test]
fn old_frames_are_flushed_from_a_controller_set_here() -> Result {
    let mut adapter = Adapter::new()?;
    let name = adapter.name.clone();
    let name = name.as_str();
    let settings = Settings {
        timing: BitTiming { bitrate: 500_000, sample_point: 0 },
        data_timing: None,
        restart_ms: None,
        listen_only: false,
    };
    let limit = MaxAge::Limit(Duration::from_millis(300));
    let interface = Interface::new(name.to_owned(), limit, false).with_settings(Some(settings));
    let mut rig = Rig::new(interface)?;
    rig.exchange();
    // As a controller that nobody acknowledges: it is error-passive, and its echoes do not come.
    write!(adapter.line, "sp130000\r")?;
    let is_passive = |hub: &Hub<Heap>| hub.status().state == BusState::ErrorPassive;
    rig.read_until("error-passive", is_passive)?;
    let policy = *rig.board[0].policy();
    rig.board[0].set_policy(Policy { echo: Echo::Bus, ..policy });
    run("tc", &["qdisc", "add", "dev", name, "clsact"])?;
    run("tc", &["filter", "add", "dev", name, "ingress", "matchall", "action", "drop"])?;
    // To open it took some time.
    rig.now = clock::now();
    rig.send(2);
    rig.write();
    rig.pass(Duration::from_millis(200));
    assert!(rig.board[0].is_busy(), "they are not old yet");
    rig.pass(Duration::from_millis(200));
    assert_eq!(rig.outcome(Outcome::Failed), 2, "they were old, and are forgotten");
    assert!(is_passive(&rig.board[0]), "a state that may last for a moment only is not told");
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.board[0].status().state, BusState::Up);
    run("tc", &["qdisc", "del", "dev", name, "clsact"])?;
    rig.send(1);
    rig.write();
    rig.read_until("the next is taken", |hub| hub.frames_confirmed() == 1)
}
