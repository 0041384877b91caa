//! The account: where every frame of a field ended.

use std::collections::HashMap;

use canspan::protocol::{Frame, Outcome};

use super::Field;

/// Frames of no node: a hostile peer's.
const FOREIGN: usize = 0xEE;

fn source(frame: &Frame) -> usize {
    (frame.id().bits() & 0xFF) as usize
}

fn life(frame: &Frame) -> u32 {
    frame.id().bits() >> 8
}

fn sequence(frame: &Frame) -> u64 {
    frame.data().iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Field {
    /// To be called when the field [has settled](Field::settle).
    pub(crate) fn check(&self) {
        self.check_order();
        for pc in 1..self.nodes.len() {
            self.check_from_pc(pc);
            self.check_to_pc(pc);
        }
    }

    /// On every bus the frames of each process are in order, none twice, and none came back.
    fn check_order(&self) {
        for node in &self.nodes {
            let mut last = HashMap::new();
            for shown in node.shown.iter().filter(|shown| source(&shown.frame) != FOREIGN) {
                let frame = &shown.frame;
                let is_own = source(frame) == node.number && life(frame) == node.life;
                assert!(!shown.delivered || !is_own, "{frame:?} came back");
                if shown.delivered && source(frame) == node.number {
                    continue;
                }
                let before = last.insert(frame.id(), sequence(frame)).unwrap_or(0);
                assert!(sequence(frame) > before, "node {}: {frame:?} after {before}", node.number);
            }
        }
    }

    fn check_from_pc(&self, pc: usize) {
        let (node, board) = (&self.nodes[pc], &self.nodes[0]);
        let sent = node.hub().peer_status(node.place.unwrap().peer).unwrap().sent;
        let is_own = |frame: &Frame| source(frame) == pc && life(frame) == node.life;
        let made = node.shown[node.first_shown..].iter().filter(|shown| !shown.delivered).count();
        assert_eq!(sent.accounted(), made as u64, "PC {pc}: {sent:?}");
        let arrived = board.shown.iter().filter(|shown| is_own(&shown.frame)).count() as u64;
        let certain = sent.of(Outcome::Sent);
        let possible = certain + sent.of(Outcome::Unconfirmed);
        assert!((certain..=possible).contains(&arrived), "PC {pc}: {arrived} arrived: {sent:?}");
        if board.life == 1 {
            let (_, status) =
                board.hub().peers().find(|(_, peer)| peer.history == node.hub().id()).unwrap();
            assert_eq!(sent, status.received, "PC {pc}: the two ends' accounts differ");
            assert_eq!(sent.of(Outcome::Unconfirmed), 0);
        }
    }

    fn check_to_pc(&self, pc: usize) {
        let (node, board) = (&self.nodes[pc], &self.nodes[0]);
        let id = node.hub().id();
        let (_, status) = board.hub().peers().find(|(_, peer)| peer.history == id).unwrap();
        let joined = self.joined.iter().find(|(l, h, _)| (*l, *h) == (board.life, id));
        let begin = joined.unwrap().2 as usize;
        let is_own = |frame: &Frame| source(frame) == pc && life(frame) == node.life;
        let meant = board.shown[board.first_shown..].iter().skip(begin);
        let meant = meant.filter(|shown| !is_own(&shown.frame)).count() as u64;
        assert_eq!(status.sent.accounted(), meant, "to PC {pc}: {status:?}");
        if board.life == 1 && node.life == 1 {
            let received = node.hub().peer_status(node.place.unwrap().peer).unwrap().received;
            assert_eq!(status.sent, received, "to PC {pc}: the two ends' accounts differ");
            let arrived = node.shown.iter().filter(|shown| shown.delivered).count() as u64;
            assert_eq!(status.sent.of(Outcome::Sent), arrived);
        }
    }
}
