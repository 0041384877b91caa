//! What was seen on a bus: a bounded ring of frames, in bus order, each with a position.
//!
//! The ring is cut into blocks of [`BLOCK_SIZE`] bytes. A block starts with the position, stamp and
//! clock offset it begins at, so a cursor can enter at any block without reading those before it. Where
//! the newest block is the last one free, room is made frame by frame: the oldest frame is never earlier in
//! its block than the next one to come is in its own.
//!
//! ```text
//! block: first position, last stamp before it, clock offset, bytes used, frames | entry entry ...
//! entry: tag, [peer,] [clock offset,] frame   (the frame as in the module `entry`)
//! ```
//!
//! The tag is 0 for a frame of the bus itself, a peer's number plus 1 where that is below 127, and else 127,
//! with the number after it as a varint; its highest bit says that a clock offset follows.
//!
//! A frame carries the stamp of the node that owns its bus, on that node's wall clock. The clock
//! offset, wall clock minus monotonic clock, tells when that was on the monotonic one: a frame's
//! age must not jump when somebody sets the clock.

use super::entry::{self, ENTRY_MAX};
use super::frame::Frame;
use super::time::Instant;

/// Bytes in a block. Chosen because a block then holds some 300 classic frames: one block that is given up
/// is less than 0.2 % of a 4 MiB history, and its 32-byte header less than 1 %.
pub const BLOCK_SIZE: usize = 4096;
const HEADER_SIZE: usize = 32;
/// Longest stored entry: tag, peer, clock offset, frame.
const STORED_MAX: usize = 1 + 3 + 10 + ENTRY_MAX;
/// Set in the tag where a clock offset follows.
const CLOCK_FLAG: u8 = 0x80;
/// The tag of a frame of the bus itself.
const OF_BUS: u8 = 0;
/// The tag where the peer's number follows.
const OF_FAR_PEER: u8 = 0x7F;

/// Where a frame in the history came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The bus itself.
    Bus,
    /// The peer with this number in the hub's table.
    Peer(u16),
}

impl Origin {
    /// Its tag, without the flag.
    fn tag(self) -> u8 {
        match self {
            Self::Bus => OF_BUS,
            Self::Peer(number) => u8::try_from(number)
                .ok()
                .and_then(|number| number.checked_add(1))
                .filter(|tag| *tag < OF_FAR_PEER)
                .unwrap_or(OF_FAR_PEER),
        }
    }
}

/// A frame read from the history.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// How many frames the history had before this one.
    pub position: u64,
    /// The frame.
    pub frame: Frame,
    /// When the bus' owner saw it, in microseconds since the Unix epoch.
    pub stamp_us: u64,
    /// Wall clock minus monotonic clock when it was seen, in microseconds.
    pub offset_us: i64,
    /// Where it came from.
    pub origin: Origin,
}

impl Entry {
    /// When it was seen, on this process's monotonic clock.
    #[must_use]
    pub fn seen(&self) -> Instant {
        seen(self.stamp_us, self.offset_us)
    }
}

/// The moment of a stamp. Both numbers may be a peer's.
fn seen(stamp_us: u64, offset_us: i64) -> Instant {
    Instant::from_wrapped_micros(stamp_us.wrapping_sub(offset_us.cast_unsigned()))
}

/// A place in a history: the next frame to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Position of the next frame.
    pub position: u64,
    block: u32,
    at: u16,
    stamp_us: u64,
    offset_us: i64,
}

#[derive(Clone, Copy, Default)]
struct Header {
    first: u64,
    stamp_us: u64,
    offset_us: i64,
    used: u16,
    frames: u16,
}

/// The frames seen on one bus. `B` is its memory: any buffer of at least two blocks.
#[derive(Debug)]
pub struct History<B> {
    memory: B,
    blocks: u32,
    newest: u32,
    /// The oldest frame held; its block is the oldest one.
    tail: Cursor,
    /// Where the next frame goes, and its position.
    head: Cursor,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> History<B> {
    /// An empty history in `memory`, or `None` if that is less than two blocks.
    #[must_use]
    pub fn new(memory: B) -> Option<Self> {
        let blocks = u32::try_from(memory.as_ref().len() / BLOCK_SIZE).ok()?;
        let (head, tail) = (Cursor::default(), Cursor::default());
        let mut history = Self { memory, blocks, newest: 0, tail, head };
        (blocks >= 2).then(|| {
            history.clear();
            history
        })
    }

    /// The place of the next frame to come.
    #[must_use]
    pub fn head(&self) -> Cursor {
        self.head
    }

    /// The place of the oldest frame still held.
    #[must_use]
    pub fn tail(&self) -> Cursor {
        self.tail
    }

    /// Whether the next frame needs [`History::drop_oldest`] first, once or more often.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let is_last_block = self.after(self.newest) == self.tail.block;
        is_last_block && (self.block_is_full() || self.tail.at < self.head.at)
    }

    /// Forgets the oldest frame and returns it; `None` if there is none. Cursors not beyond it must be moved to
    /// [`History::tail`] before they are used again.
    pub fn drop_oldest(&mut self) -> Option<Entry> {
        let mut tail = self.tail;
        let entry = self.next(&mut tail)?;
        let is_block_over = tail.at >= self.header(tail.block).used;
        if is_block_over && tail.block != self.newest {
            tail = self.block_start(self.after(tail.block));
        }
        self.tail = tail;
        Some(entry)
    }

    /// Forgets everything: the next frame is the first one. Cursors must be moved to
    /// [`History::head`] afterwards.
    pub fn clear(&mut self) {
        (self.newest, self.head) = (0, Cursor::default());
        self.start_block(0);
        self.tail = self.head;
    }

    /// Adds a frame. Returns its position, or `None` if the history [is full](Self::is_full).
    pub fn append(
        &mut self,
        frame: &Frame,
        stamp_us: u64,
        offset_us: i64,
        origin: Origin,
    ) -> Option<u64> {
        if self.is_full() {
            return None;
        }
        if self.block_is_full() {
            self.newest = self.after(self.newest);
            self.start_block(self.newest);
        }
        let Cursor { position, at, stamp_us: last_us, offset_us: last_offset, .. } = self.head;
        let tag = origin.tag();
        let block = self.block_mut(self.newest);
        let out = block.get_mut(usize::from(at)..)?;
        let flag = if offset_us == last_offset { 0 } else { CLOCK_FLAG };
        *out.first_mut()? = tag | flag;
        let mut used = 1;
        if let (Origin::Peer(number), OF_FAR_PEER) = (origin, tag) {
            used += postcard::to_slice(&number, out.get_mut(used..)?).ok()?.len();
        }
        if flag != 0 {
            used += postcard::to_slice(&offset_us, out.get_mut(used..)?).ok()?.len();
        }
        used += entry::encode(frame, stamp_us.wrapping_sub(last_us), out.get_mut(used..)?)?;
        self.head.at += used as u16;
        self.head.position += 1;
        self.head.stamp_us = stamp_us;
        self.head.offset_us = offset_us;
        let mut header = self.header(self.newest);
        header.used = self.head.at;
        header.frames += 1;
        self.set_header(self.newest, header);
        Some(position)
    }

    /// Reads the frame at `cursor` and moves it on; `None` at the head. The cursor must not be
    /// older than [`History::tail`].
    pub fn next(&self, cursor: &mut Cursor) -> Option<Entry> {
        if cursor.position >= self.head.position {
            return None;
        }
        if cursor.at >= self.header(cursor.block).used {
            *cursor = self.block_start(self.after(cursor.block));
        }
        let bytes = self.block(cursor.block).get(usize::from(cursor.at)..)?;
        let (tag, mut rest) = bytes.split_first()?;
        let origin = match tag & !CLOCK_FLAG {
            OF_BUS => Origin::Bus,
            OF_FAR_PEER => {
                let number;
                (number, rest) = postcard::take_from_bytes(rest).ok()?;
                Origin::Peer(number)
            }
            tag => Origin::Peer(u16::from(tag) - 1),
        };
        if tag & CLOCK_FLAG != 0 {
            (cursor.offset_us, rest) = postcard::take_from_bytes(rest).ok()?;
        }
        let (frame, delta_us, rest) = entry::decode(rest)?;
        cursor.stamp_us = cursor.stamp_us.wrapping_add(delta_us);
        cursor.at += (bytes.len() - rest.len()) as u16;
        let position = cursor.position;
        cursor.position += 1;
        let Cursor { stamp_us, offset_us, .. } = *cursor;
        Some(Entry { position, frame, stamp_us, offset_us, origin })
    }

    /// How many bytes the frames from `cursor` on take here; a block's, if they take more.
    pub(super) fn bytes_from(&self, cursor: &Cursor) -> usize {
        let head = usize::from(self.head.at);
        let at = usize::from(cursor.at);
        if cursor.block == self.head.block {
            head.saturating_sub(at)
        } else if self.after(cursor.block) == self.head.block {
            let used = usize::from(self.header(cursor.block).used);
            used.saturating_sub(at) + head.saturating_sub(HEADER_SIZE)
        } else {
            BLOCK_SIZE
        }
    }

    /// The place of `position`, or the nearest one still held.
    #[must_use]
    pub fn seek(&self, position: u64) -> Cursor {
        if position >= self.head.position {
            return self.head;
        }
        if position <= self.tail.position {
            return self.tail;
        }
        let mut cursor = self.last_block_where(|header| header.first <= position);
        while cursor.position < position && self.next(&mut cursor).is_some() {}
        cursor
    }

    /// The place of the first frame seen at `moment` or later.
    #[must_use]
    pub fn since(&self, moment: Instant) -> Cursor {
        let mut cursor =
            self.last_block_where(|header| seen(header.stamp_us, header.offset_us) < moment);
        loop {
            let here = cursor;
            match self.next(&mut cursor) {
                Some(entry) if entry.seen() < moment => {}
                _ if here.position < self.tail.position => return self.tail,
                _ => return here,
            }
        }
    }

    /// The start of the last block for which `early` holds, of the oldest where it holds for none.
    fn last_block_where(&self, early: impl Fn(&Header) -> bool) -> Cursor {
        let oldest = self.tail.block;
        let held = (self.newest + self.blocks - oldest) % self.blocks + 1;
        let (mut low, mut high) = (0, held);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if early(&self.header((oldest + middle) % self.blocks)) {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.block_start((oldest + low) % self.blocks)
    }

    fn block_is_full(&self) -> bool {
        usize::from(self.head.at) + STORED_MAX > BLOCK_SIZE
    }

    fn after(&self, block: u32) -> u32 {
        (block + 1) % self.blocks
    }

    fn start_block(&mut self, block: u32) {
        self.head.block = block;
        self.head.at = HEADER_SIZE as u16;
        let Cursor { position: first, stamp_us, offset_us, at: used, .. } = self.head;
        self.set_header(block, Header { first, stamp_us, offset_us, used, frames: 0 });
    }

    fn block_start(&self, block: u32) -> Cursor {
        let Header { first: position, stamp_us, offset_us, .. } = self.header(block);
        Cursor { position, block, at: HEADER_SIZE as u16, stamp_us, offset_us }
    }

    fn block(&self, block: u32) -> &[u8] {
        let start = block as usize * BLOCK_SIZE;
        self.memory.as_ref().get(start..start + BLOCK_SIZE).unwrap_or(&[])
    }

    fn block_mut(&mut self, block: u32) -> &mut [u8] {
        let start = block as usize * BLOCK_SIZE;
        self.memory.as_mut().get_mut(start..start + BLOCK_SIZE).unwrap_or(&mut [])
    }

    fn header(&self, block: u32) -> Header {
        let bytes = self.block(block);
        let word = |at: usize| {
            bytes
                .get(at..at + 8)
                .and_then(|word| word.try_into().ok())
                .map_or(0, u64::from_le_bytes)
        };
        let last = word(24);
        Header {
            first: word(0),
            stamp_us: word(8),
            offset_us: word(16).cast_signed(),
            used: last as u16,
            frames: (last >> 16) as u16,
        }
    }

    fn set_header(&mut self, block: u32, header: Header) {
        let last = u64::from(header.used) | u64::from(header.frames) << 16;
        let words = [header.first, header.stamp_us, header.offset_us.cast_unsigned(), last];
        for (place, word) in self.block_mut(block).chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::Id;

    fn history(blocks: usize) -> History<Vec<u8>> {
        History::new(vec![0; blocks * BLOCK_SIZE]).unwrap()
    }

    fn numbered(number: u64) -> Frame {
        Frame::data_frame(Id::Standard((number % 0x800) as u16), &number.to_be_bytes()).unwrap()
    }

    /// Of the bus, of each peer there may be, and of those at either end of each length of the number.
    fn origin(number: u64) -> Origin {
        match number % 3 {
            0 => Origin::Bus,
            1 => Origin::Peer((number % 0x600) as u16),
            _ => Origin::Peer([0, 125, 126, 127, 128, u16::MAX][number as usize % 6]),
        }
    }

    fn fill(history: &mut History<Vec<u8>>, numbers: core::ops::Range<u64>) {
        for number in numbers {
            while history.is_full() {
                history.drop_oldest().unwrap();
            }
            let offset = if number < 5_000 { 7 } else { -1_000_000 };
            assert_eq!(
                history.append(&numbered(number), 1_000_000 + number * 100, offset, origin(number)),
                Some(number)
            );
        }
    }

    #[test]
    fn every_frame_held_is_read_back_as_it_was() {
        let mut history = history(16);
        fill(&mut history, 0..20_000);
        let mut cursor = history.tail();
        let first = cursor.position;
        assert!(first > 0 && history.seek(0) == cursor);
        for number in first..20_000 {
            let entry = history.next(&mut cursor).unwrap();
            assert_eq!((entry.position, entry.frame), (number, numbered(number)));
            assert_eq!(entry.stamp_us, 1_000_000 + number * 100);
            assert_eq!(entry.offset_us, if number < 5_000 { 7 } else { -1_000_000 });
            assert_eq!(entry.origin, origin(number));
        }
        assert!(history.next(&mut cursor).is_none());
        assert_eq!(cursor.position, history.head().position);
    }

    #[test]
    fn room_is_made_frame_by_frame() {
        let mut history = history(4);
        let (mut most, mut dropped) = (0, 0);
        for number in 0..20_000 {
            let before = dropped;
            while history.is_full() {
                assert_eq!(history.drop_oldest().map(|entry| entry.position), Some(dropped));
                dropped += 1;
            }
            most = most.max(dropped - before);
            assert_eq!(history.tail().position, dropped);
            history.append(&numbered(number), number, 0, Origin::Bus).unwrap();
        }
        // Where a block ends, the next frame is that much longer.
        assert!(most <= 10, "{most} dropped for one");
        let held = history.head().position - dropped;
        assert!(held * 13 > 2 * BLOCK_SIZE as u64, "only {held} are held");
        while history.drop_oldest().is_some() {}
        assert_eq!(history.tail(), history.head());
        history.append(&numbered(1), 0, 0, Origin::Bus).unwrap();
        assert_eq!(history.next(&mut history.tail()).map(|entry| entry.position), Some(20_000));
    }

    #[test]
    fn any_position_is_found() {
        let mut history = history(8);
        fill(&mut history, 0..9_000);
        for position in history.tail().position..=9_000 {
            let mut cursor = history.seek(position);
            assert_eq!(cursor.position, position);
            assert_eq!(
                history.next(&mut cursor).map(|e| e.position),
                (position < 9_000).then_some(position)
            );
        }
    }

    #[test]
    fn the_past_is_found_by_time() {
        let mut history = history(8);
        fill(&mut history, 0..2_000);
        let seen = |number: u64| Instant::from_micros(1_000_000 + number * 100 - 7);
        for number in history.tail().position..2_000 {
            assert_eq!(history.since(seen(number)).position, number);
        }
        assert_eq!(history.since(seen(2_000)).position, 2_000);
        assert_eq!(history.since(Instant::from_micros(0)).position, history.tail().position);
    }

    #[test]
    fn four_mebibytes_hold_20_s_of_a_full_1_mbit_bus() {
        // The most frames a second: 11-bit id, no data, 47 bit times with interframe space
        // (ISO 11898-1). The most bytes: eight data bytes, 111 bit times without stuffing.
        for (bits, data) in [(47, &[0_u8; 8][..0]), (111, &[0_u8; 8][..])] {
            let mut history = history(1024);
            let frames = 20 * 1_000_000 / bits;
            for number in 0..frames {
                let frame = Frame::data_frame(Id::Standard(0x7FF), data).unwrap();
                assert!(history.append(&frame, number * bits, 0, Origin::Bus).is_some());
            }
            assert_eq!(history.tail().position, 0);
        }
    }

    #[test]
    fn many_peers_frames_take_few_bytes() {
        let frame = numbered(1);
        let mut history = history(2);
        let mut stored = |origin| {
            let before = history.head().at;
            history.append(&frame, 0, 0, origin).unwrap();
            history.head().at - before
        };
        let bus = stored(Origin::Bus);
        assert_eq!(stored(Origin::Bus), bus);
        assert_eq!([0, 125].map(|number| stored(Origin::Peer(number))), [bus; 2]);
        assert_eq!([126, 127].map(|number| stored(Origin::Peer(number))), [bus + 1; 2]);
        assert_eq!([128, 1_535].map(|number| stored(Origin::Peer(number))), [bus + 2; 2]);
    }

    #[test]
    fn no_stamp_of_a_peer_makes_a_frame_come_from_the_future() {
        let mut history = history(2);
        let seen_us = 4_000_u64;
        for stamp in [0, 1, seen_us, i64::MAX as u64, 1 << 63, u64::MAX - 1_000, u64::MAX] {
            let offset = stamp.wrapping_sub(seen_us).cast_signed();
            let mut cursor = history.head();
            history.append(&numbered(1), stamp, offset, Origin::Peer(1)).unwrap();
            let entry = history.next(&mut cursor).unwrap();
            assert_eq!((entry.stamp_us, entry.seen().as_micros()), (stamp, seen_us));
        }
    }

    #[test]
    fn a_clock_that_steps_back_does_not_change_what_is_read() {
        let mut history = history(2);
        for stamp in [5_000_000, 1_000, 9_000_000] {
            history.append(&numbered(1), stamp, stamp as i64 - 4_000, Origin::Bus).unwrap();
        }
        let mut cursor = history.tail();
        for stamp in [5_000_000, 1_000, 9_000_000] {
            let entry = history.next(&mut cursor).unwrap();
            assert_eq!((entry.stamp_us, entry.seen().as_micros()), (stamp, 4_000));
        }
    }
}
