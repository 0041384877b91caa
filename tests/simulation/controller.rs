//! A controller on a real bus: it sends one frame after the other, and tells of each by an echo, which may be lost or late.

use std::collections::{BTreeMap, VecDeque};

use canspan::protocol::Frame;

pub(crate) struct Controller {
    /// How long the bus takes for a frame (microseconds).
    frame_us: u64,
    /// Frames in its hands, when they will be on the bus, and whether the present process gave them.
    handed: VecDeque<(Frame, u64, bool)>,
    /// Echoes under way: when they come, and how many-th of all.
    echoes: BTreeMap<(u64, u64), (Frame, bool)>,
    sent: u64,
    /// Echoes that never come.
    pub(crate) lost: u64,
    /// How many of 256 echoes are lost, and how many are late.
    pub(crate) lossy: u16,
    pub(crate) tardy: u16,
    /// Whether another node acknowledges what it sends; if none does it goes on trying.
    pub(crate) is_acknowledged: bool,
    rng: fastrand::Rng,
}

impl Controller {
    pub(crate) fn new(frame_us: u64, seed: u64) -> Self {
        Self {
            frame_us,
            handed: VecDeque::new(),
            echoes: BTreeMap::new(),
            sent: 0,
            lost: 0,
            lossy: 0,
            tardy: 0,
            is_acknowledged: true,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// How many frames it holds.
    pub(crate) fn held(&self) -> usize {
        self.handed.len()
    }

    pub(crate) fn take(&mut self, now: u64, frame: Frame) {
        let before = self.handed.back().map_or(now, |(_, at, _)| (*at).max(now));
        self.handed.push_back((frame, before + self.frame_us, true));
    }

    /// Nobody acknowledged for a while; from now on somebody does.
    pub(crate) fn acknowledge(&mut self, now: u64) {
        self.is_acknowledged = true;
        for (count, (_, at, _)) in (1..).zip(&mut self.handed) {
            *at = (*at).max(now + count * self.frame_us);
        }
    }

    /// What is on the bus by now.
    pub(crate) fn sent(&mut self, now: u64) -> Vec<Frame> {
        let mut all = Vec::new();
        while self.is_acknowledged
            && let Some((frame, at, own)) =
                self.handed.front().copied().filter(|(_, at, _)| *at <= now)
        {
            self.handed.pop_front();
            all.push(frame);
            let chance = self.rng.u16(0..256);
            if chance < self.lossy {
                self.lost += 1;
                continue;
            }
            let is_late = chance - self.lossy < self.tardy;
            let delay = if is_late { self.rng.u64(1_200_000..5_000_000) } else { 0 };
            self.sent += 1;
            self.echoes.insert((at + delay, self.sent), (frame, own));
        }
        all
    }

    /// The echoes that come by now, and whether they are of what the present process gave.
    pub(crate) fn echoes(&mut self, now: u64) -> Vec<(Frame, bool)> {
        let later = self.echoes.split_off(&(now + 1, 0));
        core::mem::replace(&mut self.echoes, later).into_values().collect()
    }

    /// Its gateway is a new process, which has another socket.
    pub(crate) fn forget(&mut self) {
        self.handed.iter_mut().for_each(|(.., own)| *own = false);
        self.echoes.values_mut().for_each(|(_, own)| *own = false);
    }

    pub(crate) fn next_time(&self) -> u64 {
        let sent = self.handed.front().filter(|_| self.is_acknowledged);
        let echo = self.echoes.first_key_value().map(|((at, _), _)| *at);
        sent.map_or(u64::MAX, |(_, at, _)| *at).min(echo.unwrap_or(u64::MAX))
    }
}
