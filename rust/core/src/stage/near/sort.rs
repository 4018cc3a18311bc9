//! Sorting in buckets: items whose numbers are as good as random come in buckets by their first bits, and each bucket is
//! sorted for itself on some thread. So all are in order as a whole, with nothing left to merge.

/// What is sorted: its first number decides before all else.
pub(in crate::stage) trait Leading: Copy + Ord + Send {
    fn first(self) -> u64;
}

/// Bits of a number that choose its bucket.
const BUCKET_BITS: u32 = 4;
/// Number of buckets.
pub(super) const BUCKETS: usize = 1 << BUCKET_BITS;
/// Bits that come next.
const NEXT_BITS: u32 = 8;
const PLACES: usize = 1 << NEXT_BITS;
/// Fewer items are sorted at once.
const FEW: usize = 16 * PLACES;

/// The bucket of an item; the buckets are in order.
pub(super) fn bucket<T: Leading>(item: T) -> usize {
    (item.first() >> (u64::BITS - BUCKET_BITS)) as usize
}

/// Sorts each bucket.
pub(super) fn sort_buckets<T: Leading>(buckets: &mut [Vec<T>], workers: usize) {
    let sort = |share: &mut [Vec<T>]| share.iter_mut().for_each(|bucket| sort_bucket(bucket));
    if workers == 1 {
        return sort(buckets);
    }
    std::thread::scope(|scope| {
        for share in buckets.chunks_mut(BUCKETS.div_ceil(workers)) {
            scope.spawn(move || sort(share));
        }
    });
}

/// Sorts equal parts of the items, each on a thread of its own; gives their length.
pub(super) fn sort_parts<T: Leading>(items: &mut [T], workers: usize) -> usize {
    let size = items.len().div_ceil(workers).max(1);
    if workers == 1 {
        items.sort_unstable();
    } else {
        std::thread::scope(|scope| {
            for part in items.chunks_mut(size) {
                scope.spawn(|| part.sort_unstable());
            }
        });
    }
    size
}

/// Sorts items that have the same bucket.
fn sort_bucket<T: Leading>(items: &mut [T]) {
    let Some(ends) = spread(items) else { return items.sort_unstable() };
    let mut start = 0;
    for end in ends {
        items[start..end].sort_unstable();
        start = end;
    }
}

/// Puts the items of a bucket in the order of the bits behind those of the bucket, and says where the items of each value
/// end; nothing is done to few items, or if some value has far more of them than others (Engineering Radix Sort, 1993).
fn spread<T: Leading>(items: &mut [T]) -> Option<[usize; PLACES]> {
    let place = |item: T| (item.first() >> (u64::BITS - BUCKET_BITS - NEXT_BITS)) as usize % PLACES;
    if items.len() < FEW {
        return None;
    }
    let mut ends = [0; PLACES];
    for &item in &*items {
        ends[place(item)] += 1;
    }
    if ends.iter().any(|&count| count > items.len() / PLACES * 4) {
        return None;
    }
    let mut free = [0; PLACES];
    let mut sum = 0;
    for (count, free) in ends.iter_mut().zip(&mut free) {
        *free = sum;
        sum += *count;
        *count = sum;
    }
    for value in 0..PLACES {
        while free[value] < ends[value] {
            let mut item = items[free[value]];
            // Round a cycle of items that stand in each other's places.
            loop {
                let of = place(item);
                let at = free[of];
                free[of] += 1;
                if of == value {
                    items[at] = item;
                    break;
                }
                std::mem::swap(&mut items[at], &mut item);
            }
        }
    }
    Some(ends)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Leading for u64 {
        fn first(self) -> u64 {
            self
        }
    }

    /// Numbers as good as random, but for the first bits.
    fn numbers(count: u64, cut: u32) -> Vec<u64> {
        (0..count).map(|at| at.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29) >> cut).collect()
    }

    #[test]
    fn buckets_are_in_order_as_a_whole() {
        for workers in [1, 2, 3, 7, 300] {
            let items = numbers(20 * FEW as u64, 0);
            let mut buckets = vec![Vec::new(); BUCKETS];
            for &item in &items {
                buckets[bucket(item)].push(item);
            }
            assert!(spread(&mut buckets[3].clone()).is_some());
            sort_buckets(&mut buckets, workers);
            let mut expected = items;
            expected.sort_unstable();
            assert_eq!(buckets.concat(), expected);
        }
    }

    proptest! {
        #[test]
        fn parts_are_sorted_and_nothing_is_lost(count in 0..3 * FEW as u64, cut in 0..64u32, workers in 1..5usize) {
            let items = numbers(count, cut);
            let mut expected = items.clone();
            expected.sort_unstable();
            let mut parts = items.clone();
            let part = sort_parts(&mut parts, workers);
            prop_assert!(parts.chunks(part).all(<[u64]>::is_sorted) && parts.chunks(part).count() <= workers);
            parts.sort_unstable();
            prop_assert_eq!(&parts, &expected);
            let mut buckets = vec![Vec::new(); BUCKETS];
            for &item in &items {
                buckets[bucket(item)].push(item);
            }
            sort_buckets(&mut buckets, workers);
            prop_assert_eq!(buckets.concat(), expected);
        }
    }
}
