//! A set of lanes, so that those without frames need not be looked at.

use crate::protocol::limits::PEERS_MAX;

const BITS: usize = u64::BITS as usize;

/// A bit for each lane there may be.
#[derive(Debug)]
pub(super) struct LaneSet {
    words: [u64; PEERS_MAX.div_ceil(BITS)],
    len: usize,
}

impl LaneSet {
    pub(super) const EMPTY: Self = Self { words: [0; PEERS_MAX.div_ceil(BITS)], len: 0 };

    /// How many lanes are in it.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Puts a lane in, or takes it out.
    pub(super) fn set(&mut self, lane: usize, is_in: bool) {
        let Some(word) = self.words.get_mut(lane / BITS) else { return };
        let bit = 1 << (lane % BITS);
        let was_in = *word & bit != 0;
        *word = if is_in { *word | bit } else { *word & !bit };
        self.len = self.len + usize::from(is_in) - usize::from(was_in);
    }

    /// The first lane in it from this one on.
    pub(super) fn from(&self, lane: usize) -> Option<usize> {
        let mut mask = u64::MAX << (lane % BITS);
        for (index, word) in self.words.iter().enumerate().skip(lane / BITS) {
            let rest = word & mask;
            if rest != 0 {
                return Some(index * BITS + rest.trailing_zeros() as usize);
            }
            mask = u64::MAX;
        }
        None
    }

    /// All of them, in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        core::iter::successors(self.from(0), |lane| self.from(lane + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_found_in_order() {
        let mut set = LaneSet::EMPTY;
        let lanes = [0, 1, 63, 64, 700, PEERS_MAX - 1];
        for lane in [700, 0, 64, 5, 1, 63, PEERS_MAX - 1, 0] {
            set.set(lane, true);
        }
        set.set(5, false);
        set.set(6, false);
        assert_eq!(set.iter().collect::<std::vec::Vec<_>>(), lanes);
        assert_eq!(set.len(), lanes.len());
        assert_eq!((set.from(65), set.from(701)), (Some(700), Some(PEERS_MAX - 1)));
        assert_eq!(set.from(PEERS_MAX), None);
    }
}
