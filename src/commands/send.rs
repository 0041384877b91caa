//! `canspan send`: sends frames to a peer's bus, and succeeds only when the bus has taken each.

use core::time::Duration;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use super::{SMALL_HISTORY, gateway};
use crate::cli::{DEFAULT_HEARTBEAT, FrameInput, SendFrames, frame_to_send};
use crate::gateway::{Gateway, Job, Notice, Side, reason};
use crate::protocol::time::Instant;
use crate::protocol::wire::{BusState, Refusal};
use crate::protocol::{Ended, Frame, LinkOptions, Outcome, Policy};
use crate::text::AsText;

/// How long a frame may be without an answer. Chosen: longer than any age limit in use, and than
/// the time in which a dead link is noticed and made anew.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Longest line of standard input: a CAN FD frame with dots takes some 200 bytes.
const LINE_MAX: usize = 512;

struct Sending {
    endpoint: String,
    bus: String,
    frames: VecDeque<Frame>,
    input: Option<Lines>,
    hub: usize,
    is_up: bool,
    /// The frame under way, since when, and the counters before it.
    under_way: Option<(Frame, Instant, [u64; Outcome::COUNT])>,
    sent: u64,
    problems: u64,
}

impl Sending {
    /// The next frame to send, if there is one now.
    fn next_frame(&mut self) -> Option<Frame> {
        while self.frames.is_empty() {
            let line = self.input.as_mut()?.next_line()?;
            match frame_to_send(line.trim()) {
                Ok(frame) => self.frames.push_back(frame),
                Err(_) if line.trim().is_empty() => {}
                Err(problem) => self.complain(&problem.to_string()),
            }
        }
        self.frames.pop_front()
    }

    /// Whether there will never be another frame.
    fn is_done(&self) -> bool {
        self.frames.is_empty()
            && self.input.as_ref().is_none_or(|lines| lines.is_over && lines.waiting.is_empty())
    }

    fn complain(&mut self, problem: &str) {
        self.problems += 1;
        log::error!("{problem}");
    }

    /// Takes note of what became of the frame under way; `false` while that is not known.
    fn settle(&mut self, gateway: &mut Gateway, now: Instant) -> Result<bool, String> {
        let Some((frame, since, before)) = self.under_way else { return Ok(true) };
        let done = outcomes(gateway, self.hub);
        let changed = Outcome::ALL.into_iter().find(|o| done[o.index()] > before[o.index()]);
        match changed {
            Some(Outcome::Sent) => self.sent += 1,
            Some(outcome) => {
                let text = AsText(&frame).to_string();
                self.complain(&format!("{text} was not sent: {}", outcome.sentence()));
            }
            None if now.since(since) > ANSWER_WITHIN => {
                return Err(format!(
                    "{}: no answer for {} from {}; it may or may not have been sent",
                    self.bus,
                    AsText(&frame),
                    self.endpoint
                ));
            }
            None => return Ok(false),
        }
        self.under_way = None;
        Ok(true)
    }
}

/// Standard input, line by line, read only when there is something to read.
#[derive(Default)]
struct Lines {
    waiting: Vec<u8>,
    is_over: bool,
}

impl Lines {
    fn read(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; 4096];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(0) => {
                // The last line may have no end.
                self.waiting.push(b'\n');
                self.is_over = true;
            }
            Ok(count) => {
                self.waiting.extend_from_slice(buffer.get(..count).unwrap_or(&[]));
                let line = self.waiting.iter().position(|byte| *byte == b'\n');
                if line.unwrap_or(self.waiting.len()) > LINE_MAX {
                    self.is_over = true;
                    self.waiting.clear();
                    return Err(std::io::Error::other("a line is too long for a frame"));
                }
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => {
                self.is_over = true;
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn next_line(&mut self) -> Option<String> {
        let end = self.waiting.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.waiting.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).into_owned())
    }
}

/// What became of all frames given so far.
fn outcomes(gateway: &mut Gateway, hub: usize) -> [u64; Outcome::COUNT] {
    let status = gateway.hub(hub).and_then(|hub| hub.peer_status(0));
    status.map_or([0; Outcome::COUNT], |status| status.sent.done)
}

impl Job for Sending {
    fn notice(&mut self, _: &mut Gateway, _: usize, notice: &Notice<'_>) -> Result<(), String> {
        match notice {
            Notice::PeerBus(state) if !self.is_up => {
                if !state.takes_frames() {
                    return Err(down(&self.endpoint, &self.bus, *state));
                }
                self.is_up = true;
                Ok(())
            }
            Notice::Unreachable(problem) if !self.is_up => Err((*problem).to_owned()),
            Notice::Ended(ended) if !self.is_up => {
                Err(format!("{} {}: {}", self.endpoint, self.bus, reason(*ended)))
            }
            Notice::Ended(Ended::Refused(refusal)) if *refusal != Refusal::REPLACED => {
                Err(format!("{} {}: {}", self.endpoint, self.bus, refusal.sentence()))
            }
            _ => Ok(()),
        }
    }

    fn turn(&mut self, gateway: &mut Gateway, now: Instant) -> Result<bool, String> {
        if gateway.is_ending() || !self.is_up || !self.settle(gateway, now)? {
            return Ok(false);
        }
        let Some(frame) = self.next_frame() else { return Ok(self.is_done()) };
        self.under_way = Some((frame, now, outcomes(gateway, self.hub)));
        let stamp_us = gateway.stamp_us(now);
        if let Some(hub) = gateway.hub(self.hub) {
            hub.seen(&frame, stamp_us, false);
        }
        Ok(false)
    }

    fn input(&self) -> Option<BorrowedFd<'_>> {
        let lines = self.input.as_ref().filter(|lines| !lines.is_over);
        // One line at a time: what follows waits where it comes from.
        let wants = self.is_up && self.under_way.is_none() && self.frames.is_empty();
        lines.filter(|_| wants).map(|_| rustix::stdio::stdin())
    }

    fn read(&mut self) {
        if let Some(Err(problem)) = self.input.as_mut().map(Lines::read) {
            self.complain(&format!("standard input cannot be read: {problem}"));
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.under_way.map(|(_, since, _)| since + ANSWER_WITHIN + Duration::from_micros(1))
    }
}

fn down(endpoint: &str, bus: &str, state: BusState) -> String {
    format!("{bus} at {endpoint} is {}: nothing was sent; is the interface up there?", state.name())
}

pub(super) fn run(send: SendFrames) -> Result<(), String> {
    // As silent as cansend while all goes well.
    if log::max_level() == log::LevelFilter::Info {
        log::set_max_level(log::LevelFilter::Warn);
    }
    let options = LinkOptions {
        heartbeat: DEFAULT_HEARTBEAT,
        wants_frames: false,
        receipts: Duration::ZERO,
        ..LinkOptions::default()
    };
    let mut gateway = gateway(options)?;
    let hub = gateway.add_bus("send", SMALL_HISTORY, Policy::default(), 0, Side::Feed)?;
    gateway.dial(send.endpoint.clone(), &send.bus, hub, options)?;
    let (frames, input) = match send.frames {
        FrameInput::Given(frames) => (frames.into(), None),
        FrameInput::Stdin => (VecDeque::new(), Some(Lines::default())),
    };
    let mut job = Sending {
        endpoint: send.endpoint.to_string(),
        bus: send.bus,
        frames,
        input,
        hub,
        is_up: false,
        under_way: None,
        sent: 0,
        problems: 0,
    };
    gateway.run(&mut job)?;
    if job.under_way.is_none() && (!job.is_up || !job.is_done()) {
        return Err(format!("ended before all frames were sent: {} were", job.sent));
    }
    match (job.problems, job.under_way) {
        (_, Some((frame, ..))) => {
            Err(format!("ended before {} was known to be sent", AsText(&frame)))
        }
        (0, None) => Ok(()),
        (problems, None) => Err(format!("{} frames were sent, {problems} were not", job.sent)),
    }
}
