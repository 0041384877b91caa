//! Memory is taken at the start and never again: no frame costs an allocation.
#![cfg(feature = "std")]
#![allow(unsafe_code, reason = "a global allocator that counts is not safe code")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use std::alloc::System;

use canspan::gateway::{Heap, HeapSlots};
use canspan::protocol::time::Instant;
use canspan::protocol::wire::BusState;
use canspan::protocol::{
    Frame, Hub, Id, Link, LinkOptions, OFFER_MAX, Outcome, Place, Policy, RECORD_MAX,
};

/// The system's allocator, which counts what each thread asks of it.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends has no count any more; nobody asks for it.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What this thread has asked of the allocator so far.
fn allocations() -> u64 {
    COUNT.with(Cell::get)
}

fn numbered(number: u64) -> Frame {
    Frame::data_frame(Id::Standard((number % 0x800) as u16), &number.to_be_bytes()).unwrap()
}

/// One side: a hub, its link, and the frames its bus was given.
struct Side {
    hubs: [Hub<Heap>; 1],
    link: Link,
    next: u64,
    taken: u64,
}

impl Side {
    /// History of 64 KiB: it is full soon, so making room in it is part of what is counted.
    fn hub(id: u64) -> Hub<Heap> {
        let memory = vec![0; 64 * 1024].into_boxed_slice();
        let mut hub = Hub::new("can0", id, memory, HeapSlots::with_room(1024)).unwrap();
        hub.set_policy(Policy { window: 512, ..Policy::default() });
        hub.set_state(BusState::Up, None);
        hub
    }

    /// The bus shows `frames` frames; those the peer sent are taken and confirmed.
    fn drive_bus(&mut self, now: Instant, frames: u64) {
        let [hub] = &mut self.hubs;
        for _ in 0..frames {
            hub.seen(&numbered(self.next), now.as_micros(), false);
            self.next += 1;
        }
        let mut offer = [Frame::EMPTY; OFFER_MAX];
        loop {
            let offered = hub.offer(now, &mut offer);
            if offered == 0 {
                break;
            }
            hub.taken(now, offered);
            for frame in &offer[..offered] {
                assert_eq!(*frame, numbered(self.taken));
                self.taken += 1;
                hub.seen(frame, now.as_micros(), true);
            }
        }
    }
}

/// Carries what one side has to say to the other; whether that was anything.
fn carry(now: Instant, from: &mut Side, to: &mut Side, bytes: &mut [u8]) -> bool {
    let length = from.link.poll_transmit(now, &mut from.hubs, bytes);
    to.link.handle_input(now, &bytes[..length], &mut to.hubs);
    length > 0
}

#[test]
fn a_frame_costs_no_allocation_from_bus_to_bus_and_back_to_its_receipt() {
    const FRAMES: u64 = 100_000;
    const AT_ONCE: u64 = 16;
    let options = LinkOptions::default();
    let mut now = Instant::from_micros(1_000_000);
    let mut board =
        Side { hubs: [Side::hub(1)], link: Link::accept(now, 1, options), next: 0, taken: 0 };
    let mut hub = Side::hub(2);
    let place = Place { hub: 0, peer: hub.dial(now).unwrap() };
    let link = Link::dial(now, 1, place, "can0", options).unwrap();
    let mut pc = Side { hubs: [hub], link, next: 0, taken: 0 };
    let mut bytes = vec![0; 2 * RECORD_MAX];

    let mut turn = |frames: u64| {
        now = now + core::time::Duration::from_millis(2);
        board.drive_bus(now, frames);
        pc.drive_bus(now, frames);
        for side in [&mut board, &mut pc] {
            side.link.handle_timeout(now, &mut side.hubs);
            side.hubs[0].handle_timeout(now);
        }
        while carry(now, &mut board, &mut pc, &mut bytes)
            | carry(now, &mut pc, &mut board, &mut bytes)
        {
            board.drive_bus(now, 0);
            pc.drive_bus(now, 0);
        }
        while board.link.poll_event().is_some() || pc.link.poll_event().is_some() {}
    };
    // The greetings, and enough frames for every slot to have been needed once.
    for frames in [0, 0, 0, 200, 200] {
        turn(frames);
    }
    let before = allocations();
    assert!(before > 0, "the counter does not count");
    for _ in 0..FRAMES / AT_ONCE {
        turn(AT_ONCE);
    }
    let cost = allocations() - before;
    for _ in 0..50 {
        turn(0);
    }

    assert_eq!(cost, 0, "allocations for {FRAMES} frames each way");
    for (side, other) in [(&board, &pc), (&pc, &board)] {
        assert!(side.link.is_live() && side.next >= FRAMES);
        assert_eq!(other.taken, side.next);
        let status = side.hubs[0].peer_status(0).unwrap();
        assert_eq!((status.sent.of(Outcome::Sent), status.behind), (side.next, 0));
    }
}

mod gateway {
    //! The same for the whole gateway: buses, connections, the loop.

    use core::time::Duration;
    use std::net::TcpListener;
    use std::thread;
    use std::time::Instant as Clock;

    use canspan::bus::sim::{SimSource, Source};
    use canspan::cli::ListenAddress;
    use canspan::gateway::{Gateway, Job, Side};
    use canspan::protocol::time::Instant;
    use canspan::protocol::{LinkOptions, Outcome, Policy};

    /// Frames a second, each way: few enough to be read at once, many enough to be sure soon.
    const RATE: u32 = 1_000;
    /// Connections are made, buffers touched.
    const WARM_UP: Duration = Duration::from_secs(1);
    const COUNTED: Duration = Duration::from_secs(3);

    /// Counts what the gateway's thread allocates while frames go through it.
    struct Count {
        begun: Clock,
        before: Option<(u64, u64)>,
        after: Option<(u64, u64)>,
    }

    impl Job for Count {
        fn turn(&mut self, gateway: &mut Gateway, _: Instant) -> Result<bool, String> {
            let status = gateway.hub(0).and_then(|hub| hub.peer_status(0));
            let carried = status.map_or(0, |s| s.received.of(Outcome::Sent) + s.sent.frames);
            let passed = self.begun.elapsed();
            if passed >= WARM_UP && self.before.is_none() {
                self.before = Some((super::allocations(), carried));
            }
            if passed >= WARM_UP + COUNTED && self.after.is_none() {
                self.after = Some((super::allocations(), carried));
            }
            // Longer than counted: the other side's end must not be part of it.
            Ok(passed > WARM_UP + COUNTED + Duration::from_millis(500))
        }
    }

    fn run(set_up: impl FnOnce(&mut Gateway)) -> (u64, u64) {
        let mut gateway = Gateway::new(LinkOptions::default()).unwrap();
        let source = Source::open(&SimSource::Rate(RATE)).unwrap();
        let policy = Policy { window: 512, ..Policy::default() };
        gateway.add_bus("can0", 256 * 1024, policy, 1024, Side::Sim(source)).unwrap();
        set_up(&mut gateway);
        let mut count = Count { begun: Clock::now(), before: None, after: None };
        gateway.run(&mut count).unwrap();
        let ((before, none), (after, some)) = (count.before.unwrap(), count.after.unwrap());
        (after - before, some - none)
    }

    #[test]
    fn a_frame_through_two_gateways_over_tcp_costs_no_allocation() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let address = format!("127.0.0.1:{port}");
        let listen: ListenAddress = address.parse().unwrap();
        let endpoint = address.parse().unwrap();
        let board =
            thread::spawn(move || run(|gateway| gateway.listen(&listen, "--listen").unwrap()));
        let pc = thread::spawn(move || {
            run(|gateway| {
                gateway.dial(endpoint, "can0", 0, LinkOptions::default()).unwrap();
            })
        });
        for gateway in [board, pc] {
            let (cost, carried) = gateway.join().unwrap();
            assert!(carried > 4_000, "only {carried} frames went through");
            assert_eq!(cost, 0, "allocations for {carried} frames");
        }
    }
}
