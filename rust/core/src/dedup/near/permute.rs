//! The least of 128 permutations of a text's shingles: the inner loop of `MinHash`, with the only unsafe code
//! of `dedup`.
//!
//! A permutation is `h -> a * h + b` in 32 bits, with `a` odd, which is a bijection. (The upper half of the 32 x 32 bit
//! product would not do: it grows with `h`, so all 128 would have their least value at the same shingle, that of the least
//! `h`.) One loop is compiled for each instruction set that matters, by the compiler's own vectorization, so all of them
//! give the same numbers; which one runs is decided by [`crate::simd`].

use super::hash::mix;
use crate::simd::Path;

/// Permutations of a sketch.
pub const PERMUTATIONS: usize = 128;

/// The least value of each permutation.
pub(super) type Slots = [u32; PERMUTATIONS];

/// Slots of no shingles at all.
pub(super) const EMPTY: Slots = [u32::MAX; PERMUTATIONS];

/// How many permutations are kept in registers at a time: with their factors they fill what AVX-512 has.
const GROUP: usize = 64;

static FACTORS: [(/* a */ [u32; GROUP], /* b */ [u32; GROUP]); PERMUTATIONS / GROUP] = factors();

const fn factors() -> [([u32; GROUP], [u32; GROUP]); PERMUTATIONS / GROUP] {
    let mut factors = [([0; GROUP], [0; GROUP]); PERMUTATIONS / GROUP];
    // Splitmix64: any well mixed numbers do, as long as they are the same for ever.
    let (mut state, mut at) = (0u64, 0);
    while at < PERMUTATIONS {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = state;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
        factors[at / GROUP].0[at % GROUP] = x as u32 | 1;
        factors[at / GROUP].1[at % GROUP] = (x >> 32) as u32;
        at += 1;
    }
    factors
}

/// Lowers `slots` to the least values of the permutations of `hashes`, whose bits must be well mixed.
pub(super) fn lower(path: Path, hashes: &[u32], slots: &mut Slots) {
    match path {
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "`Path::available` offers it only where the processor has AVX-512 F")]
        Path::Avx512Vbmi | Path::Avx512 => unsafe { lower_avx512(hashes, slots) },
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "`Path::available` offers it only where the processor has AVX2")]
        Path::Avx2 => unsafe { lower_avx2(hashes, slots) },
        _ => lower_baseline(hashes, slots),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn lower_avx512(hashes: &[u32], slots: &mut Slots) {
    lower_baseline(hashes, slots);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn lower_avx2(hashes: &[u32], slots: &mut Slots) {
    lower_baseline(hashes, slots);
}

#[expect(clippy::inline_always, reason = "the callers compile it for their instruction sets")]
#[inline(always)]
fn lower_baseline(hashes: &[u32], slots: &mut Slots) {
    let (groups, _) = slots.as_chunks_mut::<GROUP>();
    for (group, (a, b)) in groups.iter_mut().zip(&FACTORS) {
        let mut least = *group;
        for &hash in hashes {
            for at in 0..GROUP {
                least[at] = least[at].min(a[at].wrapping_mul(hash).wrapping_add(b[at]));
            }
        }
        *group = least;
    }
}

/// The number of a shingle as the permutations take it, another one in every part of a row.
#[inline]
pub(super) fn tagged(shingle: u64, part: usize) -> u32 {
    // Part 0 as it is: `shingle` is mixed already, and most rows have no other part.
    if part == 0 { (shingle >> 32) as u32 } else { (mix(shingle ^ part as u64) >> 32) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_gives_the_numbers_of_the_plain_loop() {
        for length in [0, 1, 2, 31, 300] {
            let hashes: Vec<u32> = (0..length).map(|n| mix(n) as u32).collect();
            let mut expected = EMPTY;
            for (slot, least) in expected.iter_mut().enumerate() {
                let (a, b) = (FACTORS[slot / GROUP].0[slot % GROUP], FACTORS[slot / GROUP].1[slot % GROUP]);
                for &hash in &hashes {
                    *least = (*least).min((u64::from(a) * u64::from(hash) + u64::from(b)) as u32);
                }
            }
            let paths = Path::available();
            assert!(paths.contains(&Path::Scalar));
            for path in paths {
                let mut slots = EMPTY;
                lower(path, &hashes, &mut slots);
                assert_eq!(slots, expected, "{path:?}");
            }
        }
    }

    #[test]
    fn the_least_values_lie_at_many_shingles() {
        // Guards against families whose permutations agree on the order, as that of upper halves would.
        let hashes: Vec<u32> = (0..300).map(|n| mix(n) as u32).collect();
        let mut slots = EMPTY;
        lower(Path::Scalar, &hashes, &mut slots);
        let holder = |slot: usize| {
            let (a, b) = (FACTORS[slot / GROUP].0[slot % GROUP], FACTORS[slot / GROUP].1[slot % GROUP]);
            hashes.iter().position(|&hash| a.wrapping_mul(hash).wrapping_add(b) == slots[slot]).unwrap()
        };
        let mut holders: Vec<usize> = (0..PERMUTATIONS).map(holder).collect();
        holders.sort_unstable();
        holders.dedup();
        // 128 draws out of 300 hit about 104 different ones.
        assert!(holders.len() > 85, "{}", holders.len());
    }

    #[test]
    fn the_share_of_equal_slots_estimates_the_jaccard_index() {
        let mut sum = 0;
        for trial in 0..200u64 {
            // 200 shingles each, 100 in common: an index of 1/3.
            let side = |from: u64| {
                let hashes: Vec<u32> = (from..from + 200).map(|n| mix(n + trial * 1000) as u32).collect();
                let mut slots = EMPTY;
                lower(Path::Scalar, &hashes, &mut slots);
                slots
            };
            let (left, right) = (side(0), side(100));
            sum += left.iter().zip(&right).filter(|(a, b)| a == b).count();
        }
        let estimate = sum as f64 / (200 * PERMUTATIONS) as f64;
        assert!((estimate - 1.0 / 3.0).abs() < 0.01, "{estimate}");
    }
}
