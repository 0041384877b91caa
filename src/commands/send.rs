//! `canspan send`: sends frames to a peer's bus, and succeeds only when the bus has taken each.
//! Where nobody can tell whether it has, that is what is said.

use core::time::Duration;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use super::{Failure, SMALL_HISTORY, gateway};
use crate::cli::{DEFAULT_HEARTBEAT, FrameInput, SendFrames, frame_to_send};
use crate::gateway::{Gateway, Job, Notice, Side, reason};
use crate::protocol::time::Instant;
use crate::protocol::wire::{BusState, FEATURE_OWNER, FEATURE_RELAY, Refusal};
use crate::protocol::{Ended, Frame, LinkOptions, Outcome, Policy};
use crate::text::AsText;

/// How long a frame may be without an answer. Chosen: longer than any age limit in use, and than
/// the time in which a dead link is noticed and made anew.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Longest line of standard input: a CAN FD frame with dots takes some 200 bytes.
const LINE_MAX: usize = 512;

/// How far a frame got that was not turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    /// The bus has it.
    Bus,
    /// The peer's interface has it, and cannot confirm more.
    Interface,
    /// A relay has it, which passes it on.
    Relay,
}

impl Reached {
    /// What an outcome means from a peer that says of itself `features` (`Hello::features`); `None`: the
    /// frame was not sent.
    fn of(outcome: Outcome, features: u32) -> Option<Self> {
        let is_relay = features & FEATURE_RELAY != 0 && features & FEATURE_OWNER == 0;
        match outcome {
            Outcome::Sent if is_relay => Some(Self::Relay),
            Outcome::Sent => Some(Self::Bus),
            Outcome::Taken => Some(Self::Interface),
            _ => None,
        }
    }
}

struct Sending {
    endpoint: String,
    bus: String,
    frames: VecDeque<Frame>,
    input: Option<Lines>,
    hub: usize,
    is_up: bool,
    /// The frame under way, since when, and the counters before it.
    under_way: Option<(Frame, Instant, [u64; Outcome::COUNT])>,
    /// What the peer said of itself in its greeting.
    features: u32,
    sent: u64,
    /// How many got only so far, and how far the last of them did.
    unconfirmed: Option<(u64, Reached)>,
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
        match changed.map(|outcome| (outcome, Reached::of(outcome, self.features))) {
            Some((_, Some(Reached::Bus))) => self.sent += 1,
            Some((_, Some(reached))) => {
                let before = self.unconfirmed.map_or(0, |(frames, _)| frames);
                self.unconfirmed = Some((before + 1, reached));
            }
            Some((outcome, None)) => {
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
    fn notice(
        &mut self,
        gateway: &mut Gateway,
        dialler: usize,
        notice: &Notice<'_>,
    ) -> Result<(), String> {
        match notice {
            Notice::PeerBus(state) if !self.is_up => {
                // Of a bus that is off by hearsay only, the frame's own end tells.
                if matches!(state, BusState::Absent | BusState::Down) {
                    return Err(down(&self.endpoint, &self.bus, *state));
                }
                self.features = gateway.peer_features(dialler);
                self.is_up = true;
                end_quiet();
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

/// As silent as cansend while all goes well; and why no link comes up is said at the end, not twice.
fn be_quiet() {
    if log::max_level() == log::LevelFilter::Info {
        log::set_max_level(log::LevelFilter::Error);
    }
}

/// From now on a link that ends is dialled again, which is worth a warning.
fn end_quiet() {
    if log::max_level() == log::LevelFilter::Error {
        log::set_max_level(log::LevelFilter::Warn);
    }
}

/// `1 frame was` or `2 frames were`.
fn frames_were(count: u64) -> String {
    if count == 1 { "1 frame was".to_owned() } else { format!("{count} frames were") }
}

pub(super) fn run(send: SendFrames) -> Result<(), Failure> {
    be_quiet();
    let options = LinkOptions {
        heartbeat: DEFAULT_HEARTBEAT,
        wants_frames: false,
        receipts: Duration::ZERO,
        ..LinkOptions::default()
    };
    let mut gateway = gateway(options)?;
    let hub = gateway.add_bus(&send.bus, SMALL_HISTORY, Policy::default(), 0, Side::Feed)?;
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
        features: 0,
        sent: 0,
        unconfirmed: None,
        problems: 0,
    };
    gateway.run(&mut job)?;
    job.result()
}

impl Sending {
    /// What to say at the end.
    fn result(&self) -> Result<(), Failure> {
        let taken = self.unconfirmed.map_or(0, |(frames, _)| frames);
        if let Some((frame, ..)) = self.under_way {
            return Err(format!("ended before {} was known to be sent", AsText(&frame)).into());
        }
        if !self.is_up || !self.is_done() {
            let were = frames_were(self.sent + taken);
            return Err(format!("ended before all frames were sent; {were}").into());
        }
        if self.problems > 0 {
            let were = frames_were(self.sent + taken);
            return Err(format!("{were} sent, {} not", self.problems).into());
        }
        let Some((taken, reached)) = self.unconfirmed else { return Ok(()) };
        let (bus, endpoint, were) = (&self.bus, &self.endpoint, frames_were(taken));
        Err(Failure::not_confirmed(match reached {
            Reached::Relay => format!(
                "{were} taken by {endpoint}, which is a relay for {bus}; whether the bus behind it took them is not known \
                 here: `canspan status` of the bus' owner tells"
            ),
            Reached::Interface | Reached::Bus => format!(
                "{were} taken by the interface {bus} at {endpoint}, whose driver cannot confirm that they reached the bus"
            ),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bus_confirms() {
        let (real, relay) = (FEATURE_OWNER, FEATURE_RELAY);
        assert_eq!(Reached::of(Outcome::Sent, 0), Some(Reached::Bus));
        assert_eq!(Reached::of(Outcome::Sent, real), Some(Reached::Bus));
        assert_eq!(Reached::of(Outcome::Sent, relay), Some(Reached::Relay));
        assert_eq!(Reached::of(Outcome::Sent, relay | real), Some(Reached::Bus));
        assert_eq!(Reached::of(Outcome::Taken, real), Some(Reached::Interface));
        assert_eq!(Reached::of(Outcome::Stale, relay), None);
    }
}
