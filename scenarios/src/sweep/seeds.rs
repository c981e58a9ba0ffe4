//! Which seeds a sweep runs: every n-th of a range, from the i-th on.

use std::{fmt, ops::Range, str::FromStr};

use serde::{Deserialize, Serialize};

/// Most shards.
const MOST_SHARDS: u64 = 10_000;

/// A part of a sweep: the `index`-th of `of`, from 1. It has every `of`-th seed, so that all parts take about as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shard {
    /// Which, from 1.
    pub index: u64,
    /// Of how many.
    pub of: u64,
}

/// The text is no shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a shard as `i/n`, with i from 1 to n, such as `2/8`; n is at most {MOST_SHARDS}")]
pub struct ShardError;

impl Shard {
    /// The whole sweep.
    pub const ALL: Self = Self { index: 1, of: 1 };

    /// How many seeds of a range it has.
    pub(super) fn count(self, seeds: &Range<u64>) -> u64 {
        let all = seeds.end.saturating_sub(seeds.start);
        all.saturating_sub(self.index - 1).div_ceil(self.of)
    }

    /// The seed in this place of its own, from 0.
    pub(super) const fn seed(self, seeds: &Range<u64>, place: u64) -> u64 {
        seeds.start + self.index - 1 + place * self.of
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let (index, of) = text.split_once('/').ok_or(ShardError)?;
        let shard = Self { index: index.parse().map_err(|_| ShardError)?, of: of.parse().map_err(|_| ShardError)? };
        let fits = (1..=MOST_SHARDS).contains(&shard.of) && (1..=shard.of).contains(&shard.index);
        if fits { Ok(shard) } else { Err(ShardError) }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn shards_have_every_seed_once() {
        for (seeds, of) in [(0..10, 3), (5..6, 4), (0..0, 2), (7..1_000, 8), (3..9, 6)] {
            let mut all = Vec::new();
            for index in 1..=of {
                let shard = Shard { index, of };
                all.extend((0..shard.count(&seeds)).map(|place| shard.seed(&seeds, place)));
            }
            assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len(), "{seeds:?} {of}");
            all.sort_unstable();
            assert_eq!(all, seeds.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_shard_is_read_as_it_is_written() {
        let shard: Shard = "2/8".parse().unwrap();
        assert_eq!((shard, shard.to_string().as_str()), (Shard { index: 2, of: 8 }, "2/8"));
        for wrong in ["", "1", "0/3", "4/3", "1/0", "a/b", "1/2/3", "-1/2", "1/20000"] {
            assert_eq!(wrong.parse::<Shard>(), Err(ShardError), "{wrong}");
        }
    }
}
