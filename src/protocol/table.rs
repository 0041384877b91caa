//! Tables that grow with what is used: entries are added one by one when first needed, so that a bus with one
//! peer never touches the memory of the worst case.

use heapless::Vec;

/// A table of `T`, whose entries stay where they are.
pub trait Table<T>: AsRef<[T]> + AsMut<[T]> {
    /// Makes room for `most` entries in all, as far as it can. Called when a peer comes for the first time,
    /// never for a frame.
    fn reserve(&mut self, most: usize);

    /// Adds an entry, without allocating; `false` if there is no room for it.
    fn add(&mut self, entry: T) -> bool;
}

/// Its room is fixed when the program is built.
impl<T, const N: usize> Table<T> for Vec<T, N> {
    fn reserve(&mut self, _: usize) {}

    fn add(&mut self, entry: T) -> bool {
        self.push(entry).is_ok()
    }
}
