//! Byte pair encoding of one piece, exactly as the `tokenizers` crate does it: the best rank first, of equals the leftmost.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Rank of a pair that is no merge.
const NONE: u32 = u32::MAX;
/// Up to so many symbols a scan for the best rank is faster than a heap.
const SCAN: usize = 64;

/// What a pair becomes, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Merge {
    rank: u32,
    id: u32,
}

const NO_MERGE: Merge = Merge { rank: NONE, id: 0 };

/// The merges of a vocabulary.
#[derive(Debug)]
pub(super) struct Merges {
    /// The token of each byte.
    bytes: [u32; 256],
    /// The merges of two bytes, which are half of all look-ups.
    pairs: Vec<Merge>,
    /// All others: an open table by left and right token, at most half full.
    keys: Vec<u64>,
    values: Vec<Merge>,
}

/// Buffers of [`Merges::encode`].
#[derive(Debug, Default)]
pub(super) struct Work {
    heap: BinaryHeap<Reverse<(u32, u32, u32)>>,
    symbols: Vec<Symbol>,
}

/// A token of a long piece and its neighbours; the merged-away have the token [`NONE`].
#[derive(Clone, Copy, Debug)]
struct Symbol {
    token: u32,
    before: u32,
    behind: u32,
}

impl Merges {
    /// Takes the token of each byte, and left, right and merged token of each merge by rank. The crate keeps the last of
    /// several merges of one pair, and so does this.
    pub(super) fn new(bytes: [u32; 256], merges: &[(u32, u32, u32)]) -> Merges {
        let size = (merges.len() * 2).next_power_of_two().max(2);
        let mut table =
            Merges { bytes, pairs: vec![NO_MERGE; 1 << 16], keys: vec![u64::MAX; size], values: vec![NO_MERGE; size] };
        for (rank, &(left, right, id)) in merges.iter().enumerate() {
            let key = u64::from(left) << 32 | u64::from(right);
            let mut place = table.home(key);
            while table.keys[place] != u64::MAX && table.keys[place] != key {
                place = (place + 1) & (size - 1);
            }
            table.keys[place] = key;
            table.values[place] = Merge { rank: rank as u32, id };
        }
        for left in 0..256 {
            for right in 0..256 {
                table.pairs[left << 8 | right] = table.get(bytes[left], bytes[right]);
            }
        }
        table
    }

    #[inline]
    fn home(&self, key: u64) -> usize {
        (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & (self.keys.len() - 1)
    }

    #[inline]
    fn get(&self, left: u32, right: u32) -> Merge {
        let key = u64::from(left) << 32 | u64::from(right);
        let mut place = self.home(key);
        loop {
            match self.keys[place] {
                found if found == key => return self.values[place],
                u64::MAX => return NO_MERGE,
                _ => place = (place + 1) & (self.keys.len() - 1),
            }
        }
    }

    /// Appends the tokens of `piece`.
    pub(super) fn encode(&self, piece: &[u8], work: &mut Work, out: &mut Vec<u32>) {
        if piece.len() <= SCAN { self.encode_short(piece, out) } else { self.encode_long(piece, work, out) }
    }

    fn encode_short(&self, piece: &[u8], out: &mut Vec<u32>) {
        let mut tokens = [0; SCAN];
        let mut ranks = [NONE; SCAN];
        let mut merged = [0; SCAN];
        let mut count = piece.len();
        for (token, byte) in tokens.iter_mut().zip(piece) {
            *token = self.bytes[usize::from(*byte)];
        }
        for (at, pair) in piece.windows(2).enumerate() {
            let merge = self.pairs[usize::from(pair[0]) << 8 | usize::from(pair[1])];
            (ranks[at], merged[at]) = (merge.rank, merge.id);
        }
        while count > 1 {
            let best = ranks[..count - 1].iter().fold(NONE, |best, rank| best.min(*rank));
            if best == NONE {
                break;
            }
            let Some(at) = ranks[..count - 1].iter().position(|rank| *rank == best) else { break };
            tokens[at] = merged[at];
            tokens.copy_within(at + 2..count, at + 1);
            ranks.copy_within(at + 1..count - 1, at);
            merged.copy_within(at + 1..count - 1, at);
            count -= 1;
            if at + 1 < count {
                let merge = self.get(tokens[at], tokens[at + 1]);
                (ranks[at], merged[at]) = (merge.rank, merge.id);
            }
            if at > 0 {
                let merge = self.get(tokens[at - 1], tokens[at]);
                (ranks[at - 1], merged[at - 1]) = (merge.rank, merge.id);
            }
        }
        out.extend_from_slice(&tokens[..count]);
    }

    /// A heap of ranks and places over a linked list.
    fn encode_long(&self, piece: &[u8], work: &mut Work, out: &mut Vec<u32>) {
        let Work { heap, symbols } = work;
        heap.clear();
        symbols.clear();
        symbols.extend(piece.iter().enumerate().map(|(at, byte)| Symbol {
            token: self.bytes[usize::from(*byte)],
            before: (at as u32).wrapping_sub(1),
            behind: at as u32 + 1,
        }));
        let end = symbols.len() as u32;
        for (at, pair) in piece.windows(2).enumerate() {
            let merge = self.pairs[usize::from(pair[0]) << 8 | usize::from(pair[1])];
            if merge.rank != NONE {
                heap.push(Reverse((merge.rank, at as u32, merge.id)));
            }
        }
        while let Some(Reverse((rank, left, id))) = heap.pop() {
            let symbol = symbols[left as usize];
            if symbol.token == NONE || symbol.behind == end {
                continue;
            }
            let right = symbols[symbol.behind as usize];
            // One of the two may have been merged since.
            if self.get(symbol.token, right.token) != (Merge { rank, id }) {
                continue;
            }
            symbols[symbol.behind as usize].token = NONE;
            symbols[left as usize] = Symbol { token: id, behind: right.behind, ..symbol };
            if right.behind != end {
                symbols[right.behind as usize].before = left;
                let merge = self.get(id, symbols[right.behind as usize].token);
                if merge.rank != NONE {
                    heap.push(Reverse((merge.rank, left, merge.id)));
                }
            }
            if symbol.before != u32::MAX {
                let merge = self.get(symbols[symbol.before as usize].token, id);
                if merge.rank != NONE {
                    heap.push(Reverse((merge.rank, symbol.before, merge.id)));
                }
            }
        }
        out.extend(symbols.iter().map(|symbol| symbol.token).filter(|token| *token != NONE));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, word for word and without any table.
    fn by_definition(piece: &[u8], merges: &[(u32, u32, u32)]) -> Vec<u32> {
        let mut tokens: Vec<u32> = piece.iter().map(|byte| u32::from(*byte)).collect();
        loop {
            let rank = |pair: &[u32]| merges.iter().position(|merge| (merge.0, merge.1) == (pair[0], pair[1]));
            let ranks: Vec<Option<usize>> = tokens.windows(2).map(rank).collect();
            let Some(best) = ranks.iter().flatten().min() else { return tokens };
            let at = ranks.iter().position(|rank| rank == &Some(*best)).unwrap();
            tokens.splice(at..at + 2, [merges[*best].2]);
        }
    }

    proptest! {
        #[test]
        fn both_ways_follow_the_definition(
            seeds in proptest::collection::vec((0usize..200, 0usize..200), 0..60),
            piece in proptest::collection::vec(b'a'..b'e', 0..150),
        ) {
            // Each merge joins two of the bytes in use or of the merges before it.
            let mut tokens: Vec<(u32, String)> = (b'a'..b'e').map(|byte| (u32::from(byte), char::from(byte).to_string())).collect();
            let mut merges = Vec::new();
            for (left, right) in seeds {
                let (left, right) = (tokens[left % tokens.len()].clone(), tokens[right % tokens.len()].clone());
                let text = left.1 + &right.1;
                let known = tokens.iter().find(|token| token.1 == text).map(|token| token.0);
                let id = known.unwrap_or(256 + merges.len() as u32);
                if !merges.iter().any(|merge: &(u32, u32, u32)| (merge.0, merge.1) == (left.0, right.0)) {
                    merges.push((left.0, right.0, id));
                    if known.is_none() {
                        tokens.push((id, text));
                    }
                }
            }
            let mut bytes = [0; 256];
            (0..).zip(&mut bytes).for_each(|(id, byte)| *byte = id);
            let table = Merges::new(bytes, &merges);
            let expected = by_definition(&piece, &merges);
            let (mut out, mut work) = (Vec::new(), Work::default());
            table.encode_long(&piece, &mut work, &mut out);
            prop_assert_eq!(&out, &expected);
            if piece.len() <= SCAN {
                out.clear();
                table.encode_short(&piece, &mut out);
                prop_assert_eq!(&out, &expected);
            }
        }
    }
}
