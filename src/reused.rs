//! Memory that is used again. A loop whose steps need arrays of the same sizes would ask the system for them at every step, and every
//! page of a large one is then mapped and zeroed anew. A [`Reused`] vector gives its memory back to a shelf when it is dropped, and the next one
//! that needs about as much takes it from there. There is a shelf for each type of element, bounded in number and bytes, shared by all
//! threads. What a vector holds never depends on where its memory comes from.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// Smaller vectors are not kept, in bytes: the allocator is as fast.
const SMALLEST: usize = 1 << 10;
/// Larger vectors are not kept, in bytes: they are few, and nobody would know where the memory went.
const LARGEST: usize = 16 << 20;
/// The most bytes on a shelf.
const SHELF_BYTES: usize = 256 << 20;
/// The most vectors on a shelf.
const SHELF_VECTORS: usize = 256;

/// What vectors that are used again are made of.
pub trait Element: Copy + Default + Send + 'static {
    /// Where they wait.
    fn shelf() -> &'static Shelf<Self>;
}

/// Vectors that wait to be used again, the longest waiting first.
pub struct Shelf<T>(Mutex<Vec<Vec<T>>>);

macro_rules! shelves {
    ($($element:ty),*) => {
        $(impl Element for $element {
            fn shelf() -> &'static Shelf<Self> {
                static SHELF: Shelf<$element> = Shelf(Mutex::new(Vec::new()));
                &SHELF
            }
        })*
    };
}

shelves!(f64, f32, usize, u32);

/// Gives all memory that waits to be used again back to the system: before its use is measured, or after the last of many large problems.
pub fn release() {
    f64::shelf().clear();
    f32::shelf().clear();
    usize::shelf().clear();
    u32::shelf().clear();
}

fn bytes<T>(capacity: usize) -> usize {
    capacity.saturating_mul(size_of::<T>())
}

impl<T: Element> Shelf<T> {
    /// A vector with room for so many elements, but not for more than twice as many; the smallest there is.
    fn take(&self, capacity: usize) -> Option<Vec<T>> {
        if !(SMALLEST..=LARGEST).contains(&bytes::<T>(capacity)) {
            return None;
        }
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |vector: &Vec<T>| (capacity..=capacity.saturating_mul(2)).contains(&vector.capacity());
        let (index, _) = waiting.iter().enumerate().filter(|(_, v)| fits(v)).min_by_key(|(_, v)| v.capacity())?;
        let mut vector = waiting.remove(index);
        vector.clear();
        Some(vector)
    }

    fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
    }

    fn give(&self, vector: Vec<T>) {
        if !(SMALLEST..=LARGEST).contains(&bytes::<T>(vector.capacity())) {
            return;
        }
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(vector);
        let total = |waiting: &[Vec<T>]| waiting.iter().map(|v| bytes::<T>(v.capacity())).sum::<usize>();
        while waiting.len() > SHELF_VECTORS || total(&waiting) > SHELF_BYTES {
            waiting.remove(0);
        }
    }
}

/// A vector whose memory is used again once it is dropped.
#[derive(Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Reused<T: Element>(Vec<T>);

impl<T: Element> Reused<T> {
    /// An empty vector with room for so many elements.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(T::shelf().take(capacity).unwrap_or_else(|| Vec::with_capacity(capacity)))
    }

    /// A vector of zeros.
    pub fn zeros(length: usize) -> Self {
        match T::shelf().take(length) {
            // Fresh zeros come with fresh pages, at no cost until they are touched.
            None => Self(vec![T::default(); length]),
            Some(mut vector) => {
                vector.resize(length, T::default());
                Self(vector)
            }
        }
    }

    /// Empties the vector and makes room for so many elements.
    pub fn empty(&mut self, capacity: usize) -> &mut Vec<T> {
        if self.0.capacity() < capacity {
            *self = Self::with_capacity(capacity);
        }
        self.0.clear();
        &mut self.0
    }

    /// The vector itself, which is then nobody's to use again.
    pub fn into_vec(mut self) -> Vec<T> {
        mem::take(&mut self.0)
    }
}

impl<T: Element> From<Vec<T>> for Reused<T> {
    fn from(vector: Vec<T>) -> Self {
        Self(vector)
    }
}

impl<T: Element> Default for Reused<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Element> Clone for Reused<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::with_capacity(self.len());
        copy.extend_from_slice(self);
        copy
    }
}

impl<T: Element> Drop for Reused<T> {
    fn drop(&mut self) {
        T::shelf().give(mem::take(&mut self.0));
    }
}

impl<T: Element> Deref for Reused<T> {
    type Target = Vec<T>;
    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T: Element> DerefMut for Reused<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shelf of this test alone: those of the crate are everyone's.
    fn shelf() -> Shelf<f64> {
        Shelf(Mutex::new(Vec::new()))
    }

    #[test]
    fn what_is_given_back_is_taken_again_if_it_fits() {
        let shelf = shelf();
        assert!(shelf.take(1000).is_none(), "nothing there yet");
        for capacity in [1000, 3000, 1500] {
            shelf.give(Vec::with_capacity(capacity));
        }
        shelf.give(vec![7.0; 2000]);
        assert_eq!(shelf.take(1200).unwrap().capacity(), 1500, "the smallest that fits");
        assert!(shelf.take(1200).unwrap().is_empty(), "emptied");
        assert!(shelf.take(1200).is_none(), "3000 is more than twice as much, 1000 too little");
        assert_eq!(shelf.take(1600).unwrap().capacity(), 3000);
    }

    #[test]
    fn shelves_are_bounded() {
        let shelf = shelf();
        shelf.give(Vec::with_capacity(SMALLEST / 8 - 1));
        shelf.give(Vec::with_capacity(LARGEST / 8 + 1));
        assert!(shelf.0.lock().unwrap().is_empty(), "too small, too large");
        for _ in 0..SHELF_VECTORS + 5 {
            shelf.give(Vec::with_capacity(1000));
        }
        assert_eq!(shelf.0.lock().unwrap().len(), SHELF_VECTORS);
        for _ in 0..2 * SHELF_BYTES / LARGEST {
            shelf.give(Vec::with_capacity(LARGEST / 8));
        }
        let total: usize = shelf.0.lock().unwrap().iter().map(|v| 8 * v.capacity()).sum();
        assert!(total <= SHELF_BYTES, "{total}");
        shelf.clear();
        assert!(shelf.take(1000).is_none());
    }

    #[test]
    fn zeros_are_zeros_wherever_they_come_from() {
        for length in [0, 1, 127, 128, 1000, 100_000] {
            for _ in 0..3 {
                let mut zeros = Reused::<f32>::zeros(length);
                assert!(zeros.len() == length && zeros.iter().all(|x| *x == 0.0));
                zeros.iter_mut().for_each(|x| *x = f32::NAN);
            }
            let mut room = Reused::<f32>::default();
            room.empty(length).extend(std::iter::repeat_n(1.0, length));
            assert_eq!(room.clone().into_vec(), vec![1.0; length]);
        }
    }
}
