//! The links of this process and their connections, each with a number that stays, and marks for what is to be
//! done with them.

use super::marks::Marks;
use super::places::SESSIONS_MAX;
use super::session::Session;
use super::timers::Timers;

pub(super) type SessionMarks = Marks<{ SESSIONS_MAX.div_ceil(64) }>;

/// All of them.
#[derive(Default)]
pub(super) struct Sessions {
    slots: Vec<Option<Session>>,
    free: Vec<usize>,
    /// The numbers of those that belong to each hub.
    members: Vec<Vec<usize>>,
    /// Whose connection may have something to be read.
    pub(super) to_read: SessionMarks,
    /// Who may have something to send.
    pub(super) to_write: SessionMarks,
    /// With whom something happened in this turn.
    pub(super) touched: SessionMarks,
    pub(super) timers: Timers,
}

impl Sessions {
    /// Adds one and returns its number.
    pub(super) fn insert(&mut self, session: Session) -> usize {
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        if let Some(slot) = self.slots.get_mut(number) {
            *slot = Some(session);
        }
        self.note_place(number);
        self.to_write.set(number);
        self.touched.set(number);
        number
    }

    /// Takes one out; its number is free for another.
    pub(super) fn remove(&mut self, number: usize) -> Option<Session> {
        let session = self.slots.get_mut(number)?.take()?;
        self.free.push(number);
        for members in &mut self.members {
            members.retain(|member| *member != number);
        }
        self.to_read.clear(number);
        self.to_write.clear(number);
        self.touched.clear(number);
        self.timers.set(number, None);
        Some(session)
    }

    /// Takes note of the hub that a session belongs to, which is known from its greeting on.
    pub(super) fn note_place(&mut self, number: usize) {
        let Some(hub) = self.get(number).and_then(|session| session.link.place()) else { return };
        let hub = hub.hub;
        if self.members.len() <= hub {
            self.members.resize_with(hub + 1, Vec::new);
        }
        if let Some(members) = self.members.get_mut(hub).filter(|all| !all.contains(&number)) {
            members.push(number);
        }
    }

    /// A hub has news for its links.
    pub(super) fn mark_members(&mut self, hub: usize) {
        for number in self.members.get(hub).into_iter().flatten() {
            self.to_write.set(*number);
        }
    }

    /// Something concerns all of them.
    pub(super) fn mark_all(&mut self) {
        for number in 0..self.slots.len() {
            self.to_write.set(number);
            self.touched.set(number);
        }
    }

    pub(super) fn get(&self, number: usize) -> Option<&Session> {
        self.slots.get(number)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Session> {
        self.slots.get_mut(number)?.as_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.slots.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.slots.iter_mut().flatten()
    }

    /// All numbers there have been; some may be free.
    pub(super) fn numbers(&self) -> core::ops::Range<usize> {
        0..self.slots.len()
    }

    /// Each with its number.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (usize, &Session)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(number, slot)| Some((number, slot.as_ref()?)))
    }
}
