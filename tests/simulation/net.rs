//! The network: connections as two pipes of bytes, with what goes wrong in the field.

use std::collections::VecDeque;

/// Bytes a pipe takes before its sender has to wait: two socket buffers of a small board.
const PIPE_MAX: usize = 16 * 1024;

/// One direction of a connection.
#[derive(Default)]
pub(crate) struct Pipe {
    chunks: VecDeque<(u64, Vec<u8>)>,
    waiting: usize,
    /// Nothing arrives before this time.
    pub(crate) stalled_until: u64,
    /// Everything vanishes without a word.
    pub(crate) is_black_hole: bool,
    /// The sender has closed it, or it was cut: the end arrives after what is still under way.
    pub(crate) is_closed: bool,
    pub(crate) end_seen: bool,
}

impl Pipe {
    pub(crate) fn room(&self) -> bool {
        self.is_closed || self.is_black_hole || self.waiting < PIPE_MAX
    }

    pub(crate) fn send(&mut self, arrives: u64, bytes: &[u8]) {
        if !self.is_closed && !self.is_black_hole && !bytes.is_empty() {
            self.waiting += bytes.len();
            self.chunks.push_back((arrives, bytes.to_vec()));
        }
    }

    /// Cuts the pipe so that only the first `keep` bytes under way still arrive.
    pub(crate) fn cut(&mut self, mut keep: usize) {
        self.is_closed = true;
        for (_, chunk) in &mut self.chunks {
            let kept = chunk.len().min(keep);
            chunk.truncate(kept);
            keep -= kept;
        }
        self.chunks.retain(|(_, chunk)| !chunk.is_empty());
        self.waiting = self.chunks.iter().map(|(_, chunk)| chunk.len()).sum();
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(crate) fn next_arrival(&self) -> Option<u64> {
        if self.is_black_hole {
            return None;
        }
        match self.chunks.front() {
            Some((at, _)) => Some((*at).max(self.stalled_until)),
            None => (self.is_closed && !self.end_seen).then_some(self.stalled_until),
        }
    }

    /// What arrives by `now`: bytes, in pieces of at most `piece`.
    pub(crate) fn receive(&mut self, now: u64, piece: usize) -> Option<Vec<u8>> {
        if self.is_black_hole || now < self.stalled_until {
            return None;
        }
        let (at, chunk) = self.chunks.front_mut()?;
        if *at > now {
            return None;
        }
        let rest = chunk.split_off(piece.clamp(1, chunk.len()));
        let bytes = core::mem::replace(chunk, rest);
        if chunk.is_empty() {
            self.chunks.pop_front();
        }
        self.waiting -= bytes.len();
        Some(bytes)
    }

    pub(crate) fn receive_end(&mut self, now: u64) -> bool {
        let over = self.is_closed
            && !self.is_black_hole
            && !self.end_seen
            && self.chunks.is_empty()
            && now >= self.stalled_until;
        self.end_seen |= over;
        over
    }

    /// The receiver did not take these; they arrive first, again.
    pub(crate) fn put_back(&mut self, now: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.waiting += bytes.len();
            self.chunks.push_front((now, bytes.to_vec()));
        }
    }
}
