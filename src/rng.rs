//! Randomness as a value. A [`Key`] names a stream of random numbers; child keys name independent streams, so that work cut
//! into blocks or steps draws the same numbers in any order and on any number of threads. Keys are mixed with SplitMix64
//! (Steele, Lea & Flood 2014) and streams are xoshiro256++ (Blackman & Vigna 2021). The only file that names `rand`.

use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::StandardNormal;
use rand_xoshiro::{SplitMix64, Xoshiro256PlusPlus};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

fn mix(x: u64) -> u64 {
    SplitMix64::seed_from_u64(x).next_u64()
}

/// The name of a random stream: 128 bits, cheap to copy, derived from a seed.
///
/// ```
/// use nhgd::rng::Key;
/// let key = Key::new(7);
/// assert_eq!(key.child(3).stream().uniform(), key.child(3).stream().uniform());
/// assert_ne!(key.child(3), key.child(4));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key([u64; 2]);

impl Key {
    /// The root key of a seed.
    pub fn new(seed: u64) -> Self {
        Self([mix(seed), mix(!seed)])
    }

    /// The key of the `index`-th child: a step, a block, a replicate.
    pub fn child(self, index: u64) -> Self {
        let Self([a, b]) = self;
        Self([mix(a ^ mix(index)), mix(b.wrapping_add(mix(!index)))])
    }

    /// The child named by a word, so that a purpose reads as one: `key.named("labels")`.
    pub fn named(self, purpose: &str) -> Self {
        // FNV-1a: the name only has to be a number; `child` does the mixing.
        let hash = purpose.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        self.child(hash).child(purpose.len() as u64)
    }

    /// Opens the stream of this key, from its beginning.
    pub fn stream(self) -> Stream {
        let Self([a, b]) = self;
        let mut seed = [0_u8; 32];
        for (chunk, word) in seed.chunks_exact_mut(8).zip([a, b, mix(a ^ b.rotate_left(32)), mix(a.wrapping_add(b))]) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        Stream(Xoshiro256PlusPlus::from_seed(seed))
    }
}

/// An open random stream.
#[derive(Debug, Clone)]
pub struct Stream(Xoshiro256PlusPlus);

impl Stream {
    /// A number uniform on [0, 1), with 53 bits.
    pub fn uniform(&mut self) -> f64 {
        self.0.random()
    }

    /// 64 independent fair bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A standard normal number.
    pub fn normal(&mut self) -> f64 {
        self.0.sample(StandardNormal)
    }

    /// An index uniform on 0..n.
    ///
    /// # Errors
    /// [`Error::Argument`] for n = 0.
    pub fn below(&mut self, n: usize) -> Result<usize> {
        if n == 0 {
            return Err(Error::argument("n", "at least 1 choice", n));
        }
        Ok(self.0.random_range(0..n as u64) as usize)
    }

    /// `count` indices drawn from 0..n with replacement.
    ///
    /// # Errors
    /// [`Error::Argument`] for n = 0 and a positive count.
    pub fn indices(&mut self, n: usize, count: usize) -> Result<Vec<usize>> {
        (0..count).map(|_| self.below(n)).collect()
    }

    /// Fills a slice with indices drawn from 0..n with replacement: those of [`indices`](Self::indices).
    ///
    /// # Errors
    /// As [`indices`](Self::indices).
    pub fn fill_indices(&mut self, n: usize, indices: &mut [usize]) -> Result<()> {
        for index in indices {
            *index = self.below(n)?;
        }
        Ok(())
    }

    /// A random order of 0..n (Fisher–Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        order.shuffle(&mut self.0);
        order
    }

    /// Fills a slice with standard normal numbers.
    pub fn fill_normal(&mut self, values: &mut [f64]) {
        values.fill_with(|| self.normal());
    }

    /// A vector of standard normal numbers.
    pub fn normals(&mut self, count: usize) -> Vec<f64> {
        let mut values = vec![0.0; count];
        self.fill_normal(&mut values);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// xoshiro256++ and SplitMix64 computed here from their published definitions, independently of the crates.
    #[test]
    fn stream_equals_the_published_xoshiro_and_splitmix_definitions() {
        fn splitmix(seed: u64) -> u64 {
            let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
        assert_eq!(splitmix(1_234_567), 6_457_827_717_110_365_317, "the published SplitMix64 vector");
        let (a, b) = (splitmix(42), splitmix(!42));
        assert_eq!(Key::new(42), Key([a, b]));
        let mut s = [a, b, splitmix(a ^ b.rotate_left(32)), splitmix(a.wrapping_add(b))];
        let (mut stream, mut bits) = (Key::new(42).stream(), Key::new(42).stream());
        for _ in 0..100 {
            let word = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
            let t = s[1] << 17;
            s[2] ^= s[0];
            s[3] ^= s[1];
            s[1] ^= s[2];
            s[0] ^= s[3];
            s[2] ^= t;
            s[3] = s[3].rotate_left(45);
            assert_eq!(bits.bits(), word);
            assert_eq!(stream.uniform(), (word >> 11) as f64 / (1_u64 << 53) as f64);
        }
    }

    /// Pins the samplers whose algorithm belongs to a dependency: an update that changes values must be noticed.
    #[test]
    fn samplers_give_their_known_answers() {
        let mut stream = Key::new(1).named("known").stream();
        let normals: Vec<u64> = (0..3).map(|_| stream.normal().to_bits()).collect();
        let indices = stream.indices(1000, 4).unwrap();
        let order = stream.permutation(6);
        assert_eq!(normals, KNOWN_NORMALS);
        assert_eq!(indices, KNOWN_INDICES);
        assert_eq!(order, KNOWN_ORDER);
    }
    const KNOWN_NORMALS: [u64; 3] = [13831532875704185485, 13826174423075344825, 13830824724572662775];
    const KNOWN_INDICES: [usize; 4] = [147, 767, 575, 729];
    const KNOWN_ORDER: [usize; 6] = [2, 0, 3, 4, 5, 1];

    #[test]
    fn normals_have_the_moments_of_a_standard_normal() {
        let x = Key::new(5).stream().normals(200_000);
        let n = x.len() as f64;
        let moment = |k: i32| x.iter().map(|v| v.powi(k)).sum::<f64>() / n;
        // Standard errors of the first four moments: 1, √2, √15, √96 over √n.
        for (k, expected, deviation) in
            [(1, 0.0, 1.0), (2, 1.0, 2.0_f64.sqrt()), (3, 0.0, 15.0_f64.sqrt()), (4, 3.0, 96.0_f64.sqrt())]
        {
            assert!((moment(k) - expected).abs() < 5.0 * deviation / n.sqrt(), "moment {k}: {}", moment(k));
        }
    }

    #[test]
    fn children_are_distinct_and_uncorrelated() {
        let key = Key::new(0);
        let firsts: Vec<f64> = (0..20_000).map(|i| key.child(i).stream().uniform() - 0.5).collect();
        let n = firsts.len() as f64;
        let lag: f64 = firsts.windows(2).map(|w| w[0] * w[1]).sum::<f64>() / n;
        let mean = firsts.iter().sum::<f64>() / n;
        assert!(mean.abs() < 5.0 / (12.0 * n).sqrt(), "{mean}");
        assert!(lag.abs() < 5.0 / (12.0 * n.sqrt()), "{lag}");
        assert_ne!(key.named("ab").child(1), key.named("a").named("b"));
    }

    #[test]
    fn an_empty_choice_is_refused() {
        assert_eq!(Key::new(0).stream().below(0).unwrap_err().offending_argument(), Some("n"));
        assert_eq!(Key::new(0).stream().indices(0, 0).unwrap(), Vec::<usize>::new());
    }
}
