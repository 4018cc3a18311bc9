//! Which documents share a packed row: best-fit decreasing over the lengths of all documents at once.
//!
//! Longest first, each document goes into the row with the least room that still holds it. Over a whole data set this is
//! within 0.1 % of the least possible number of rows, and the lengths alone decide, so the texts stay on disk. Rows are
//! numbered in a seeded order, since best-fit decreasing would put all long documents first.
//! Ding et al., *Fewer Truncations Improve Language Modeling* (2024), <https://arxiv.org/abs/2404.10830>.
//!
//! ```
//! let packing = zephyr_data_core::pack::best_fit_decreasing(&[5, 3, 7, 2], 8, 0);
//! assert_eq!(packing.rows(), 3);
//! assert!(packing.iter().all(|row| row.iter().map(|&document| [5, 3, 7, 2][document as usize]).sum::<u32>() <= 8));
//! ```

/// Documents by row.
pub struct Packing {
    /// Document numbers, row after row.
    documents: Vec<u32>,
    /// Where each row's documents end.
    ends: Vec<u32>,
}

impl Packing {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.ends.len()
    }

    /// The documents of each row.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let row = &self.documents[start as usize..end as usize];
            start = end;
            row
        })
    }
}

const NONE: u32 = u32::MAX;

/// Rows with `r` tokens of room form a queue `first[r] ..`, linked by `following`; bit `r` of `occupied` says that it is
/// not empty, so the best fit is the next set bit from the document's length on.
struct Room {
    first: Vec<u32>,
    last: Vec<u32>,
    following: Vec<u32>,
    occupied: Vec<u64>,
}

impl Room {
    fn new(capacity: usize) -> Self {
        Room {
            first: vec![NONE; capacity + 1],
            last: vec![NONE; capacity + 1],
            following: Vec::new(),
            occupied: vec![0; capacity / 64 + 1],
        }
    }

    /// The least room of at least `length` that some row has.
    fn best_fit(&self, length: usize) -> Option<usize> {
        let mut word = length / 64;
        let mut bits = self.occupied[word] & (u64::MAX << (length % 64));
        while bits == 0 {
            word += 1;
            bits = *self.occupied.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    fn take(&mut self, room: usize) -> u32 {
        let row = self.first[room];
        self.first[room] = self.following[row as usize];
        if self.first[room] == NONE {
            self.last[room] = NONE;
            self.occupied[room / 64] &= !(1 << (room % 64));
        }
        row
    }

    fn give(&mut self, row: u32, room: usize) {
        self.following[row as usize] = NONE;
        match self.last[room] {
            NONE => {
                self.first[room] = row;
                self.occupied[room / 64] |= 1 << (room % 64);
            }
            last => self.following[last as usize] = row,
        }
        self.last[room] = row;
    }
}

/// Packs documents of these lengths into rows of `capacity` tokens; documents without tokens are left out.
///
/// # Panics
/// If a length exceeds `capacity`: such documents must be cut before.
pub fn best_fit_decreasing(lengths: &[u32], capacity: u32, seed: u64) -> Packing {
    let mut order: Vec<u32> = (0..lengths.len() as u32).filter(|&document| lengths[document as usize] > 0).collect();
    // Stable, so that documents of equal length stay in input order.
    order.sort_by_key(|&document| std::cmp::Reverse(lengths[document as usize]));
    let mut room = Room::new(capacity as usize);
    let mut row_of = vec![NONE; lengths.len()];
    for &document in &order {
        let length = lengths[document as usize];
        assert!(length <= capacity, "document {document} of {length} tokens does not fit into {capacity}");
        let (row, left) = if let Some(fit) = room.best_fit(length as usize) {
            (room.take(fit), fit - length as usize)
        } else {
            room.following.push(NONE);
            (room.following.len() as u32 - 1, (capacity - length) as usize)
        };
        row_of[document as usize] = row;
        if left > 0 {
            room.give(row, left);
        }
    }
    collect(&order, &row_of, room.following.len(), seed)
}

/// Numbers the rows in seeded order; inside a row the documents stand in input order.
fn collect(order: &[u32], row_of: &[u32], rows: usize, seed: u64) -> Packing {
    let number = shuffled(rows, seed);
    let mut ends = vec![0; rows];
    for &document in order {
        ends[number[row_of[document as usize] as usize] as usize] += 1;
    }
    let mut next = Vec::with_capacity(rows);
    let mut total = 0;
    for end in &mut ends {
        next.push(total);
        total += *end;
        *end = total;
    }
    let mut documents = vec![0; order.len()];
    for (document, &row) in row_of.iter().enumerate().filter(|(_, row)| **row != NONE) {
        let place = &mut next[number[row as usize] as usize];
        documents[*place as usize] = document as u32;
        *place += 1;
    }
    Packing { documents, ends }
}

/// The numbers below `count` in an order that the seed alone decides (Fisher-Yates).
fn shuffled(count: usize, seed: u64) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..count as u32).collect();
    let mut state = seed;
    for last in (1..count).rev() {
        // SplitMix64 (Steele, Lea and Flood 2014); the product's upper half is uniform enough for any data set.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        numbers.swap(last, ((u128::from(bits) * (last as u128 + 1)) >> 64) as usize);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_document_once_and_no_row_too_long(lengths in prop::collection::vec(0u32..=97, 0..400), seed: u64) {
            let packing = best_fit_decreasing(&lengths, 97, seed);
            let mut seen: Vec<u32> = packing.iter().flatten().copied().collect();
            seen.sort_unstable();
            let wanted: Vec<u32> = (0..lengths.len() as u32).filter(|&i| lengths[i as usize] > 0).collect();
            prop_assert_eq!(seen, wanted);
            let tokens = |row: &[u32]| row.iter().map(|&document| lengths[document as usize]).sum::<u32>();
            prop_assert!(packing.iter().all(|row| !row.is_empty() && tokens(row) <= 97));
            // Any-fit decreasing never needs more than 3/2 of the least number of rows (Simchi-Levi 1994).
            let least = lengths.iter().sum::<u32>().div_ceil(97) as usize;
            let large = lengths.iter().filter(|&&length| length > 48).count();
            prop_assert!(packing.rows() <= (least.max(large) * 3).div_ceil(2) + 1);
        }
    }

    #[test]
    fn the_seed_orders_the_rows_and_nothing_else() {
        let lengths: Vec<u32> = (0..500).map(|i| 1 + i * 37 % 90).collect();
        let rows = |seed| best_fit_decreasing(&lengths, 100, seed).iter().map(<[u32]>::to_vec).collect::<Vec<_>>();
        assert_eq!(rows(1), rows(1));
        let (mut one, mut two) = (rows(1), rows(2));
        assert_ne!(one, two);
        one.sort();
        two.sort();
        assert_eq!(one, two);
    }

    #[test]
    fn the_best_fit_is_the_fullest_row() {
        // 60 and 50 open two rows of 100; 40 fits exactly beside 60, 45 then beside 50.
        let packing = best_fit_decreasing(&[50, 60, 40, 45], 100, 0);
        let mut rows: Vec<_> = packing.iter().map(<[u32]>::to_vec).collect();
        rows.sort();
        assert_eq!(rows, [vec![0, 3], vec![1, 2]]);
    }
}
