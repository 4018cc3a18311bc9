//! Sorting on several threads, in place: numbers that are as good as random are spread by their first byte, and then a
//! thread sorts its share of the bytes. So they are in order as a whole, with nothing left to merge.

/// Number of values of a byte.
const BYTES: usize = 256;
/// Fewer items are sorted at once.
const FEW: usize = 16 * BYTES;

/// What is sorted: its first byte decides before all else.
pub(in crate::stage) trait Leading: Copy + Ord + Send {
    fn first_byte(self) -> u8;
}

/// Sorts the items, or parts of them, each on a thread of its own; gives the length of the parts, at least 1.
pub(super) fn sort_parts<T: Leading>(items: &mut [T], workers: usize) -> usize {
    let size = items.len().div_ceil(workers).max(1);
    if let Some(ends) = spread(items) {
        let mut rest = items;
        std::thread::scope(|scope| {
            let (mut start, mut done) = (0, 0);
            for worker in 1..=workers {
                let bytes = &ends[done..];
                let mine =
                    if worker == workers { bytes.len() } else { bytes.partition_point(|&end| end <= worker * size) };
                let share = &bytes[..mine];
                let (now, later) = std::mem::take(&mut rest).split_at_mut(share.last().map_or(0, |end| end - start));
                rest = later;
                let mut sort = move || sort_each(now, start, share);
                if worker == workers {
                    sort();
                } else {
                    scope.spawn(sort);
                }
                start = share.last().copied().unwrap_or(start);
                done += mine;
            }
        });
        return ends[BYTES - 1];
    }
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

/// Sorts what ends at each of `ends`, the first of which begins at `start`, as `items` do.
fn sort_each<T: Ord>(mut items: &mut [T], mut start: usize, ends: &[usize]) {
    for &end in ends {
        let (bucket, later) = items.split_at_mut(end - start);
        bucket.sort_unstable();
        (items, start) = (later, end);
    }
}

/// Puts the items in the order of their first bytes, and says where each byte's end; nothing is done to few items, or if some
/// byte has far more of them than others (Engineering Radix Sort, 1993).
fn spread<T: Leading>(items: &mut [T]) -> Option<[usize; BYTES]> {
    if items.len() < FEW {
        return None;
    }
    let mut ends = [0; BYTES];
    for item in &*items {
        ends[item.first_byte() as usize] += 1;
    }
    if ends.iter().any(|&count| count > items.len() / BYTES * 4) {
        return None;
    }
    let mut free = [0; BYTES];
    let mut sum = 0;
    for (count, free) in ends.iter_mut().zip(&mut free) {
        *free = sum;
        sum += *count;
        *count = sum;
    }
    for byte in 0..BYTES {
        while free[byte] < ends[byte] {
            let mut item = items[free[byte]];
            // Round a cycle of items that stand in each other's places.
            loop {
                let of = item.first_byte() as usize;
                let at = free[of];
                free[of] += 1;
                if of == byte {
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
        fn first_byte(self) -> u8 {
            (self >> 56) as u8
        }
    }

    fn numbers(count: u64, cut: u32) -> Vec<u64> {
        (0..count).map(|at| at.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29) >> cut).collect()
    }

    #[test]
    fn numbers_as_good_as_random_are_in_order_as_a_whole() {
        for workers in [1, 2, 3, 7, 300] {
            let mut items = numbers(50_000, 0);
            let mut expected = items.clone();
            expected.sort_unstable();
            assert_eq!(sort_parts(&mut items, workers), items.len());
            assert_eq!(items, expected);
        }
    }

    proptest! {
        #[test]
        fn parts_are_sorted_and_nothing_is_lost(count in 0..9000u64, cut in 0..64u32, workers in 1..5usize) {
            let mut items = numbers(count, cut);
            let mut expected = items.clone();
            let part = sort_parts(&mut items, workers);
            prop_assert!(part > 0 && items.chunks(part).all(<[u64]>::is_sorted) && items.chunks(part).count() <= workers);
            items.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(items, expected);
        }
    }
}
