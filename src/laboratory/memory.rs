//! The memory that experiments see: what is in use, the most that was, and what is left. The count comes from outside, as the clock does;
//! where nobody counts, peaks are unknown and nothing is refused.

use crate::experiment::kept::World;
use crate::reused;

/// The memory of the world around a laboratory.
#[derive(Clone, Copy)]
pub struct Memory<'a>(Option<&'a dyn World>);

impl<'a> Memory<'a> {
    /// That of this world.
    pub fn of(world: &'a dyn World) -> Self {
        Self(Some(world))
    }

    /// Memory that nobody counts.
    pub fn unknown() -> Self {
        Self(None)
    }

    /// The bytes in use, without those that wait to be used again: they are given back first. 0 where nobody counts.
    pub fn in_use(self) -> u64 {
        reused::release();
        self.0.and_then(World::meter).map_or(0, |meter| meter.in_use())
    }

    /// Forgets the peak, and gives back what tells the next one, above `base` bytes in use.
    pub fn watch(self, base: u64) -> Watch<'a> {
        let world = self.0.filter(|world| world.meter().is_some());
        if let Some(meter) = world.and_then(World::meter) {
            reused::release();
            meter.forget_peak();
        }
        Watch { world, base }
    }

    /// Why so many bytes cannot be taken, where they cannot: one line with both numbers.
    pub fn refusal(self, needed: f64) -> Option<String> {
        let available = self.0.and_then(World::available_memory)?;
        refusal(needed, available)
    }
}

/// Why `needed` bytes cannot be taken of `available` ones; none where they can.
pub fn refusal(needed: f64, available: u64) -> Option<String> {
    (needed > available as f64).then(|| format!("needs {needed:.0} bytes of memory, {available} are available"))
}

/// A peak that is being waited for.
pub struct Watch<'a> {
    world: Option<&'a dyn World>,
    base: u64,
}

impl Watch<'_> {
    /// The most bytes in use since it began, above its base; none where nobody counts.
    pub fn peak(&self) -> Option<u64> {
        self.world.and_then(World::meter).map(|meter| meter.peak().saturating_sub(self.base))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::experiment::kept::MemoryMeter;

    /// A machine with 1,000 bytes left, on which 100 are in use and 700 once were.
    #[derive(Default)]
    struct Small {
        peak: AtomicU64,
    }

    impl MemoryMeter for Small {
        fn in_use(&self) -> u64 {
            100
        }

        fn peak(&self) -> u64 {
            self.peak.load(Ordering::Relaxed)
        }

        fn forget_peak(&self) {
            self.peak.store(self.in_use(), Ordering::Relaxed);
        }
    }

    impl World for Small {
        fn now(&self) -> Duration {
            Duration::ZERO
        }

        fn meter(&self) -> Option<&dyn MemoryMeter> {
            Some(self)
        }

        fn available_memory(&self) -> Option<u64> {
            Some(1000)
        }
    }

    #[test]
    fn a_peak_is_the_most_since_the_watch_began_above_its_base() {
        let world = Small { peak: AtomicU64::new(700) };
        let watch = Memory::of(&world).watch(60);
        assert_eq!(watch.peak(), Some(40), "what was before is forgotten");
        world.peak.store(300, Ordering::Relaxed);
        assert_eq!(watch.peak(), Some(240));
        assert_eq!(Memory::unknown().watch(0).peak(), None);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let world = Small::default();
        assert_eq!(Memory::of(&world).refusal(1000.0), None);
        assert_eq!(Memory::of(&world).refusal(1001.0).unwrap(), "needs 1001 bytes of memory, 1000 are available");
        assert_eq!(Memory::unknown().refusal(1e300), None);
        assert!(refusal(f64::INFINITY, 1).is_some());
    }
}
