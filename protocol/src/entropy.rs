//! Randomness as an argument: session ids, keys, jitter, frame ids and codes come from an injected source.

/// A source of random bytes: the operating system's in production, seeded in simulation.
pub trait Entropy: Send {
    /// Fills `out` with random bytes.
    fn fill(&mut self, out: &mut [u8]);

    /// `N` random bytes.
    fn bytes<const N: usize>(&mut self) -> [u8; N]
    where
        Self: Sized,
    {
        bytes(self)
    }
}

impl Entropy for Box<dyn Entropy> {
    fn fill(&mut self, out: &mut [u8]) {
        (**self).fill(out);
    }
}

/// `N` random bytes from any source.
pub fn bytes<const N: usize>(source: &mut (impl Entropy + ?Sized)) -> [u8; N] {
    let mut out = [0; N];
    source.fill(&mut out);
    out
}

/// A random 64-bit number.
pub fn next_u64(source: &mut (impl Entropy + ?Sized)) -> u64 {
    u64::from_be_bytes(bytes(source))
}

/// A random number in `[0, 1)` with 53 bits.
pub fn next_unit(source: &mut (impl Entropy + ?Sized)) -> f64 {
    (next_u64(source) >> 11) as f64 / (1u64 << 53) as f64
}

/// A random number in `0..bound` without bias; 0 if `bound` is 0.
pub fn next_below(source: &mut (impl Entropy + ?Sized), bound: u64) -> u64 {
    if bound == 0 {
        return 0;
    }
    let zone = u64::MAX - u64::MAX % bound;
    loop {
        let n = next_u64(source);
        if n < zone {
            return n % bound;
        }
    }
}
