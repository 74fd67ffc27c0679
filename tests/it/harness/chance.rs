//! Chance from a seed: the same seed gives the same numbers, on every machine.

/// A splitmix64 generator (<https://prng.di.unimi.it/splitmix64.c>).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// Returns the chance of one thing: other things may ask for theirs in any order and change nothing.
    pub(crate) fn of(seed: u64, thing: &str, time: u64) -> Chance {
        let mut chance = Chance(seed);
        for byte in thing.bytes() {
            chance.0 = chance.next() ^ u64::from(byte);
        }
        chance.0 = chance.next() ^ time;
        chance
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from 0 to `end`, which is not reached.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("it is below a usize")
    }

    pub(crate) fn one_in(&mut self, cases: usize) -> bool {
        self.below(cases) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Returns bytes that no compression makes smaller.
    pub(crate) fn noise(&mut self, length: usize) -> Vec<u8> {
        let mut noise = vec![0; length.next_multiple_of(8)];
        for word in noise.chunks_exact_mut(8) {
            word.copy_from_slice(&self.next().to_le_bytes());
        }
        noise.truncate(length);
        noise
    }
}
