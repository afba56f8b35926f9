//! Parallel work whose result does not depend on the number of threads: work is cut into blocks of a fixed size, blocks run in
//! any order, results are folded in block order. Parallel outside, sequential inside. The only file that names `rayon`.

use std::ops::Range;

use rayon::prelude::*;

use crate::error::{Error, Result, check_count};

/// The ranges of length `size` (the last may be shorter) that cover 0..n.
pub fn blocks(n: usize, size: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
    let size = size.max(1);
    (0..n.div_ceil(size)).map(move |i| i * size..((i + 1) * size).min(n))
}

/// The ranges of length `size` (the last may be shorter) that cover `range`.
pub fn blocks_of(range: Range<usize>, size: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
    blocks(range.len(), size).map(move |block| range.start + block.start..range.start + block.end)
}

/// Applies `f` to every block of 0..n, in parallel, and returns the results in block order.
pub fn map_blocks<T: Send>(n: usize, size: usize, f: impl Fn(Range<usize>) -> T + Sync) -> Vec<T> {
    let ranges: Vec<_> = blocks(n, size).collect();
    if ranges.len() <= 1 {
        return ranges.into_iter().map(f).collect();
    }
    ranges.into_par_iter().map(&f).collect()
}

/// Folds `f` over the blocks of 0..n in block order: `fold(…fold(init, f(block 0))…, f(last block))`.
pub fn fold_blocks<T: Send, A>(
    n: usize,
    size: usize,
    f: impl Fn(Range<usize>) -> T + Sync,
    init: A,
    fold: impl FnMut(A, T) -> A,
) -> A {
    map_blocks(n, size, f).into_iter().fold(init, fold)
}

/// Joins what `leaf` makes of the blocks of `range`, two neighbours at a time: a tree whose shape depends on the range alone, of which few
/// results are held at once.
pub fn reduce_blocks<T: Send>(
    range: Range<usize>,
    size: usize,
    leaf: &(impl Fn(Range<usize>) -> T + Sync),
    combine: &(impl Fn(T, T) -> T + Sync),
) -> T {
    let size = size.max(1);
    if range.len() <= size {
        return leaf(range);
    }
    let middle = range.start + range.len().div_ceil(size).div_ceil(2) * size;
    let (left, right) =
        join(|| reduce_blocks(range.start..middle, size, leaf, combine), || reduce_blocks(middle..range.end, size, leaf, combine));
    combine(left, right)
}

/// Runs `f` on every chunk of `chunk` entries of `values`, in parallel, with the chunk's number.
pub fn for_chunks<T: Send>(values: &mut [T], chunk: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    if values.len() <= chunk {
        return values.chunks_mut(chunk.max(1)).enumerate().for_each(|(i, part)| f(i, part));
    }
    values.par_chunks_mut(chunk.max(1)).enumerate().for_each(|(i, part)| f(i, part));
}

/// Maps every item in parallel; the results keep the items' order.
pub fn map<I: Send, T: Send>(items: Vec<I>, f: impl Fn(I) -> T + Sync) -> Vec<T> {
    items.into_par_iter().map(&f).collect()
}

/// Runs two independent pieces of work, at once where a thread is free.
pub fn join<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    rayon::join(a, b)
}

/// The number of threads that work started here will use.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// The most threads of a pool: far more than pay.
const MOST_THREADS: usize = 1024;

/// Runs `f` in a pool of `count` threads.
///
/// # Errors
/// [`Error::Argument`] for a count of 0 or above 1024, [`Error::Numerical`] if the system refuses the threads.
pub fn with_threads<T: Send>(count: usize, f: impl FnOnce() -> T + Send) -> Result<T> {
    check_count("threads", count)?;
    if count > MOST_THREADS {
        return Err(Error::argument("threads", format_args!("at most {MOST_THREADS}"), count));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build();
    let pool = pool.map_err(|e| Error::Numerical { operation: "thread pool", reason: e.to_string() })?;
    Ok(pool.install(f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_have_the_same_bits_at_every_thread_count() {
        for n in [0, 1, 2, 63, 64, 65, 127, 10_000] {
            let values: Vec<f64> = (0..n).map(|i| 1.0 / (1.0 + i as f64)).collect();
            let sum = || fold_blocks(n, 64, |r| values[r].iter().sum::<f64>(), 0.0, |a, b| a + b).to_bits();
            let reference = values.chunks(64).map(|c| c.iter().sum::<f64>()).fold(0.0, |a, b| a + b).to_bits();
            for threads in [1, 2, 4] {
                assert_eq!(with_threads(threads, sum).unwrap(), reference, "n = {n}, {threads} threads");
            }
        }
    }

    #[test]
    fn trees_join_their_blocks_in_order_with_the_same_bits_at_every_thread_count() {
        for n in [0, 1, 2, 63, 64, 65, 127, 10_000] {
            let start = 5;
            let append = |mut left: Vec<usize>, right: Vec<usize>| {
                left.extend(right);
                left
            };
            let order = reduce_blocks(start..start + n, 7, &|range| range.collect(), &append);
            assert_eq!(order, (start..start + n).collect::<Vec<_>>());
            let leaf = |range: Range<usize>| range.map(|i| 1.0 / (1.0 + i as f64)).sum::<f64>();
            let sum = || reduce_blocks(0..n, 7, &leaf, &|a, b| a + b).to_bits();
            let reference = with_threads(1, sum).unwrap();
            for threads in [2, 4] {
                assert_eq!(with_threads(threads, sum).unwrap(), reference, "n = {n}, {threads} threads");
            }
        }
    }

    #[test]
    fn blocks_cover_the_range_once_and_in_order() {
        for (n, size) in [(0, 4), (1, 4), (4, 4), (5, 4), (127, 64), (3, 0)] {
            let all: Vec<usize> = blocks(n, size).flatten().collect();
            assert_eq!(all, (0..n).collect::<Vec<_>>());
        }
        assert!(with_threads(0, || ()).is_err());
    }
}
