//! A connection between two nodes: a link at each end and the bytes between them.

use canspan::gateway::Heap;
use canspan::protocol::time::Instant;
use canspan::protocol::{Ended, Hub, Link};

use crate::net::Pipe;

/// The dialling end, then the other.
pub(crate) struct Connection {
    pub(crate) links: [Option<Box<Link>>; 2],
    /// What each end sends.
    pub(crate) pipes: [Pipe; 2],
    /// How long the way from each end takes.
    pub(crate) delays: [u64; 2],
}

impl Connection {
    pub(crate) fn new(dialled: Link, accepted: Link, delay: u64) -> Self {
        let links = [Some(Box::new(dialled)), Some(Box::new(accepted))];
        Self { links, pipes: [Pipe::default(), Pipe::default()], delays: [delay; 2] }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.links.iter().flatten().filter(|link| link.is_live() && !link.is_waiting()).count() == 2
    }

    pub(crate) fn is_over(&self) -> bool {
        self.links.iter().all(Option::is_none)
    }

    /// What has arrived at an end by `at`, which is `now` on its clock, is handled. Returns why its link is over.
    pub(crate) fn deliver(
        &mut self,
        side: usize,
        at: u64,
        now: Instant,
        hubs: &mut [Hub<Heap>],
    ) -> Option<Ended> {
        let link = self.links[side].as_mut()?;
        if link.poll_timeout(hubs).is_some_and(|due| due <= now) {
            link.handle_timeout(now, hubs);
            link.handle_input(now, &[], hubs);
        }
        let pipe = &mut self.pipes[1 - side];
        while !link.is_waiting()
            && link.ended().is_none()
            && let Some(bytes) = pipe.receive(at, usize::MAX)
        {
            let used = link.handle_input(now, &bytes, hubs);
            pipe.put_back(at, &bytes[used..]);
        }
        if !link.is_waiting() && pipe.receive_end(at) {
            link.close(now, hubs, Ended::Closed);
        }
        while link.poll_event().is_some() {}
        link.ended()
    }

    /// What an end has to say goes on its way.
    pub(crate) fn transmit(
        &mut self,
        side: usize,
        at: u64,
        now: Instant,
        hubs: &mut [Hub<Heap>],
        out: &mut [u8],
    ) {
        let Some(link) = self.links[side].as_mut() else { return };
        while self.pipes[side].room() {
            let used = link.poll_transmit(now, hubs, out);
            if used == 0 {
                break;
            }
            self.pipes[side].send(at + self.delays[side], &out[..used]);
        }
        if link.ended().is_some() {
            self.links[side] = None;
            self.pipes[side].is_closed = true;
        }
    }

    /// When something is to be done at an end whose clock is `ahead` of the world's.
    pub(crate) fn next_time(&self, side: usize, ahead: u64, hubs: &[Hub<Heap>]) -> u64 {
        let Some(link) = &self.links[side] else { return u64::MAX };
        let due = link.poll_timeout(hubs);
        let timeout = due.map_or(u64::MAX, |at| at.as_micros().saturating_sub(ahead));
        let arrival = self.pipes[1 - side].next_arrival().filter(|_| !link.is_waiting());
        timeout.min(arrival.unwrap_or(u64::MAX))
    }
}
