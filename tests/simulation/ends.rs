//! A board and a PC that dials it, with nothing between them but the test.

use canspan::gateway::{Heap, HeapSlots};
use canspan::protocol::time::Instant;
use canspan::protocol::wire::BusState;
use canspan::protocol::{Counters, Ended, Frame, Hub, Id, Link, LinkOptions, Place, RECORD_MAX};

pub(crate) const BOARD: usize = 0;
pub(crate) const PC: usize = 1;
const STEP_US: u64 = 1_000;

pub(crate) struct Rig {
    pub(crate) now: Instant,
    /// The board's and the PC's.
    pub(crate) hubs: [Vec<Hub<Heap>>; 2],
    /// Where the board is in the PC's hub.
    pub(crate) place: Place,
    pub(crate) options: LinkOptions,
    next_link: u32,
    /// Frames made so far: the number of the next one.
    pub(crate) made: u64,
    /// Numbers of the other side's frames on each bus.
    pub(crate) shown: [Vec<u64>; 2],
}

/// Both ends of a connection: the board's and the PC's.
pub(crate) type Ends = [Link; 2];

fn hub(id: u64) -> Hub<Heap> {
    let memory = vec![0; 64 * 1024].into_boxed_slice();
    let mut hub = Hub::new("can0", id, memory, HeapSlots::with_room(1_000)).unwrap();
    hub.set_state(BusState::Up, None);
    hub
}

impl Rig {
    pub(crate) fn new(options: LinkOptions) -> Self {
        let now = Instant::from_micros(1_000_000);
        let mut hubs = [7, 8].map(|id| vec![hub(id)]);
        let place = Place { hub: 0, peer: hubs[PC][0].dial(now).unwrap() };
        Self { now, hubs, place, options, next_link: 1, made: 0, shown: Default::default() }
    }

    /// A link the PC dials.
    pub(crate) fn dial(&mut self) -> Ends {
        let [dialler, accepter] = self.link(self.place);
        [accepter, dialler]
    }

    /// A link the board dials; `place` is where the PC is in the board's hub.
    pub(crate) fn dial_back(&mut self, place: Place) -> Ends {
        self.link(place)
    }

    /// Who dials first.
    fn link(&mut self, place: Place) -> [Link; 2] {
        let number = self.next_link;
        self.next_link += 2;
        let dialler = Link::dial(self.now, number, place, "can0", self.options).unwrap();
        [dialler, Link::accept(self.now, number + 1, self.options)]
    }

    /// The buses of these sides show the next frame, as one of their own.
    pub(crate) fn show(&mut self, sides: &[usize]) {
        let frame = Frame::data_frame(Id::Standard(1), &self.made.to_be_bytes()).unwrap();
        self.made += 1;
        for side in sides {
            self.hubs[*side][0].seen(&frame, self.now.as_micros(), false);
        }
    }

    /// So many milliseconds in which what either side says reaches the other at once.
    pub(crate) fn run(&mut self, ends: &mut Ends, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.now = Instant::from_micros(self.now.as_micros() + STEP_US);
            for side in [PC, BOARD] {
                self.tell(side, ends);
            }
            for side in [PC, BOARD] {
                self.take(side);
            }
        }
    }

    /// What an end has to say now.
    pub(crate) fn said(&mut self, side: usize, link: &mut Link) -> Vec<u8> {
        let (mut out, mut all) = (vec![0; RECORD_MAX * 2], Vec::new());
        if link.poll_timeout(&self.hubs[side]).is_some_and(|at| at <= self.now) {
            link.handle_timeout(self.now, &mut self.hubs[side]);
        }
        loop {
            let count = link.poll_transmit(self.now, &mut self.hubs[side], &mut out);
            if count == 0 {
                return all;
            }
            all.extend_from_slice(&out[..count]);
        }
    }

    pub(crate) fn hear(&mut self, side: usize, link: &mut Link, bytes: &[u8]) {
        let used = link.handle_input(self.now, bytes, &mut self.hubs[side]);
        // A link that waits leaves the rest in its socket: the tests end it before it would be read.
        assert!(used == bytes.len() || link.is_waiting() || link.ended().is_some());
    }

    /// Time passes, and nothing else happens.
    pub(crate) fn later(&mut self, milliseconds: u64) {
        self.now = Instant::from_micros(self.now.as_micros() + milliseconds * 1_000);
    }

    /// What the other end answers to the greeting of the one that dialled; it is still under way.
    pub(crate) fn answer(&mut self, dialler: usize, ends: &mut Ends) -> Vec<u8> {
        let greeting = self.said(dialler, &mut ends[dialler]);
        self.hear(1 - dialler, &mut ends[1 - dialler], &greeting);
        self.said(1 - dialler, &mut ends[1 - dialler])
    }

    /// Both have greeted each other.
    pub(crate) fn greet(&mut self, dialler: usize, ends: &mut Ends) {
        let answer = self.answer(dialler, ends);
        self.hear(dialler, &mut ends[dialler], &answer);
    }

    /// What one end has to say reaches the other.
    pub(crate) fn tell(&mut self, from: usize, ends: &mut Ends) {
        let said = self.said(from, &mut ends[from]);
        self.hear(1 - from, &mut ends[1 - from], &said);
    }

    /// The board is restarted.
    pub(crate) fn restart_board(&mut self) {
        self.hubs[BOARD] = vec![hub(9)];
    }

    /// What a side's peers, together, say became of its bus' frames.
    pub(crate) fn sent(&self, side: usize) -> Counters {
        let mut all = Counters::default();
        for (_, Counters { frames, lost, done }) in
            self.hubs[side][0].peers().map(|(number, peer)| (number, peer.sent))
        {
            all.frames += frames;
            all.lost += lost;
            all.done.iter_mut().zip(done).for_each(|(sum, one)| *sum += one);
        }
        all
    }

    /// The bus takes what its hub offers, and shows it.
    pub(crate) fn take(&mut self, side: usize) {
        let hub = &mut self.hubs[side][0];
        let mut frames = [Frame::EMPTY; 64];
        let count = hub.offer(self.now, &mut frames);
        hub.taken(self.now, count);
        for frame in &frames[..count] {
            hub.seen(frame, self.now.as_micros(), true);
            self.shown[side].push(u64::from_be_bytes(frame.data().try_into().unwrap()));
        }
    }

    pub(crate) fn cut(&mut self, ends: &mut Ends) {
        for (link, hubs) in ends.iter_mut().zip(&mut self.hubs) {
            link.close(self.now, hubs, Ended::Closed);
        }
    }
}
