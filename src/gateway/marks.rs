//! Sets of small numbers: what is to be read, written or looked at in a turn of the loop.

/// Numbers below 64 times `WORDS`. Greater ones are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks<const WORDS: usize>([u64; WORDS]);

impl<const WORDS: usize> Default for Marks<WORDS> {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

impl<const WORDS: usize> Marks<WORDS> {
    pub(super) fn set(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
    }

    pub(super) fn clear(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Takes all marks; what is marked while they are looked at is for the next time.
    pub(super) fn take(&mut self) -> impl Iterator<Item = usize> + use<WORDS> {
        let words = core::mem::take(self).0;
        words
            .into_iter()
            .enumerate()
            .flat_map(|(at, word)| bits(word).map(move |bit| at * 64 + bit))
    }
}

/// The numbers of the bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.checked_sub(1)?;
        Some(bit as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_taken_once_in_order() {
        let mut marks = Marks::<2>::default();
        for number in [127, 3, 64, 0, 63, 3, 500] {
            marks.set(number);
        }
        marks.clear(64);
        assert!(!marks.is_empty());
        assert_eq!(marks.take().collect::<Vec<_>>(), [0, 3, 63, 127]);
        assert!(marks.is_empty());
        assert_eq!(marks.take().next(), None);
    }
}
