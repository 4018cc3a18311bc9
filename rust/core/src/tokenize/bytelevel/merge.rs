//! Byte pair encoding of one piece, exactly as the `tokenizers` crate does it: the best rank first, of equals the leftmost.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Rank of a pair that is no merge.
const NONE: u32 = u32::MAX;
/// Up to so many symbols a scan for the best rank is faster than a heap.
const SCAN: usize = 64;
/// Most pieces have no more; for them smaller buffers are cleared.
const FEW: usize = 16;
/// Where better pairs have put off so many places for each symbol of a piece, a heap is faster than the lists.
const PUT_OFF: usize = 8;
/// So many places may stay in the lists when a piece is done: 1 MiB of them.
const MOST_PLACES: usize = 1 << 18;

/// Bits of a token's id and of a rank, so that two ids and a rank are one number. No vocabulary has half of this.
const ID_BITS: u32 = 21;
const RANK_BITS: u32 = 64 - 2 * ID_BITS;
/// The ids that [`Merges`] takes are below this.
pub(in crate::tokenize) const MOST_IDS: u32 = (1 << ID_BITS) - 1;
const RANKS: u64 = (1 << RANK_BITS) - 1;

/// The merges of a vocabulary.
#[derive(Debug)]
pub(in crate::tokenize) struct Merges {
    /// The token of each byte.
    bytes: [u32; 256],
    /// The ranks of two bytes, which are half of all look-ups.
    pairs: Vec<u32>,
    /// All of them: an open table of [`Merges::key`] and rank, at most half full. Small, because a first pass over a text waits
    /// for it.
    table: Vec<u64>,
    /// A bit for each, by the hash: most pairs that are looked up are no merges, and these bits stay in the caches.
    known: Vec<u64>,
    /// What two tokens become, by rank.
    merged: Vec<u32>,
}

/// Bits of [`Merges::known`] for each merge, at least.
const BITS: usize = 16;

#[inline]
fn hash(key: u64) -> u64 {
    key.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// No merge has the ids that this would be of.
const EMPTY: u64 = u64::MAX;

/// Buffers of [`Merges::encode`]: what [`Merges::encode_long`] knows of a long piece. The symbols stay as large as the longest
/// piece; the lists, of which each rank has its own, have a bound for all together.
#[derive(Debug, Default)]
pub(in crate::tokenize) struct Work {
    symbols: Vec<Symbol>,
    /// Ranks that have places, the best first.
    ranks: BinaryHeap<Reverse<u32>>,
    /// For each rank of the vocabulary the number of its list of places, from 1 on.
    list_of: Vec<u32>,
    lists: Vec<Vec<u32>>,
    /// Places that the lists have room for.
    room: usize,
    /// Where it is there, it has all pairs, by rank and place, and the lists have none.
    heap: Option<BinaryHeap<Reverse<(u32, u32)>>>,
    /// Places of all lists that were taken up.
    #[cfg(test)]
    taken_up: usize,
}

/// A token of a long piece and its neighbours; the merged-away have the token [`NONE`].
#[derive(Clone, Copy, Debug)]
struct Symbol {
    token: u32,
    before: u32,
    behind: u32,
}

impl Work {
    /// Notes that the pair at `place` has `rank`.
    fn note(&mut self, rank: u32, place: u32) {
        if rank == NONE {
            return;
        }
        if let Some(heap) = &mut self.heap {
            return heap.push(Reverse((rank, place)));
        }
        let list = &mut self.list_of[rank as usize];
        if *list == 0 {
            self.lists.push(Vec::new());
            *list = self.lists.len() as u32;
        }
        let places = &mut self.lists[*list as usize - 1];
        if places.is_empty() {
            self.ranks.push(Reverse(rank));
        }
        let before = places.capacity();
        places.push(place);
        self.room += places.capacity() - before;
    }

    /// Gives the lists back where the ranks of several long pieces, one after the other, would keep too much.
    fn give_back(&mut self) {
        if self.room > MOST_PLACES {
            (self.list_of, self.lists, self.room) = (Vec::new(), Vec::new(), 0);
        }
    }
}

impl Merges {
    /// Takes the token of each byte, and left, right and merged token of each merge by rank; none if there are too many or an id is
    /// not below [`MOST_IDS`]. The crate keeps the last of several merges of one pair, and so does this.
    pub(in crate::tokenize) fn new(bytes: &[u32; 256], merges: &[(u32, u32, u32)]) -> Option<Merges> {
        let fits = |id: u32| id < MOST_IDS;
        let all_fit = merges.iter().all(|&(left, right, id)| fits(left) && fits(right) && fits(id));
        if !all_fit || !bytes.iter().all(|id| fits(*id)) || merges.len() as u64 > RANKS {
            return None;
        }
        let size = (merges.len() * 2).next_power_of_two().max(2);
        let mut all = Merges {
            bytes: *bytes,
            pairs: vec![NONE; 1 << 16],
            table: vec![EMPTY; size],
            known: vec![0; (merges.len() * BITS).next_power_of_two().max(64) / 64],
            merged: merges.iter().map(|(_, _, id)| *id).collect(),
        };
        for (rank, &(left, right, _)) in (0..).zip(merges) {
            let key = Self::key(left, right);
            let mut place = all.home(key);
            while all.table[place] != EMPTY && all.table[place] >> RANK_BITS != key {
                place = (place + 1) & (size - 1);
            }
            all.table[place] = key << RANK_BITS | rank;
            let (word, bit) = all.bit(key);
            all.known[word] |= bit;
        }
        for left in 0..256 {
            for right in 0..256 {
                all.pairs[left << 8 | right] = all.rank(bytes[left], bytes[right]);
            }
        }
        Some(all)
    }

    /// Two tokens as one number.
    #[inline]
    fn key(left: u32, right: u32) -> u64 {
        u64::from(left) << ID_BITS | u64::from(right)
    }

    #[inline]
    fn home(&self, key: u64) -> usize {
        (hash(key) >> 32) as usize & (self.table.len() - 1)
    }

    /// Where the bit of a pair lies: its word, and it alone.
    #[inline]
    fn bit(&self, key: u64) -> (usize, u64) {
        let hash = hash(key);
        ((hash >> 40) as usize & (self.known.len() - 1), 1 << (hash >> 34 & 63))
    }

    /// Whether two tokens may be a merge: false is certain.
    #[inline]
    fn may_be(&self, key: u64) -> bool {
        let (word, bit) = self.bit(key);
        self.known[word] & bit != 0
    }

    /// The rank of a pair that may be a merge.
    #[inline]
    fn find(&self, key: u64) -> u32 {
        let mut place = self.home(key);
        loop {
            match self.table[place] {
                found if found >> RANK_BITS == key => return (found & RANKS) as u32,
                EMPTY => return NONE,
                _ => place = (place + 1) & (self.table.len() - 1),
            }
        }
    }

    #[inline]
    fn rank(&self, left: u32, right: u32) -> u32 {
        let key = Self::key(left, right);
        if self.may_be(key) { self.find(key) } else { NONE }
    }

    /// The rank of two tokens and what they become, if that is a merge.
    pub(super) fn rank_and_token(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let rank = self.rank(left, right);
        (rank != NONE).then(|| (rank, self.merged[rank as usize]))
    }

    /// The token of each byte.
    pub(super) fn bytes(&self) -> &[u32; 256] {
        &self.bytes
    }

    /// Appends the tokens of `piece`.
    pub(super) fn encode(&self, piece: &[u8], work: &mut Work, out: &mut Vec<u32>) {
        if piece.len() <= SCAN { self.encode_short(piece, out) } else { self.encode_long(piece, work, out) }
    }

    /// Appends the tokens that `symbols`, tokens of single characters, become.
    pub(in crate::tokenize) fn merge(&self, symbols: &[u32], work: &mut Work, out: &mut Vec<u32>) {
        if symbols.len() < 2 {
            out.extend_from_slice(symbols);
        } else if symbols.len() <= FEW {
            self.merge_few::<FEW>(symbols, out);
        } else if symbols.len() <= SCAN {
            self.merge_few::<SCAN>(symbols, out);
        } else {
            let first = |at: usize| self.rank(symbols[at], symbols[at + 1]);
            self.merge_long(symbols.len(), |at| symbols[at], first, PUT_OFF, work, out);
        }
    }

    /// At most `ROOM` symbols.
    fn merge_few<const ROOM: usize>(&self, symbols: &[u32], out: &mut Vec<u32>) {
        // First which pairs may be merges, all without a branch, since that is hard to guess; mostly few may.
        let mut may_be = (0..)
            .zip(symbols.windows(2))
            .fold(0_u64, |may_be, (at, pair)| may_be | u64::from(self.may_be(Self::key(pair[0], pair[1]))) << at);
        if may_be == 0 {
            out.extend_from_slice(symbols);
            return;
        }
        let (mut tokens, mut ranks) = ([0; ROOM], [NONE; ROOM]);
        tokens[..symbols.len()].copy_from_slice(symbols);
        while may_be != 0 {
            let at = may_be.trailing_zeros() as usize;
            ranks[at] = self.find(Self::key(symbols[at], symbols[at + 1]));
            may_be &= may_be - 1;
        }
        self.merge_short(symbols.len(), tokens, ranks, out);
    }

    fn encode_short(&self, piece: &[u8], out: &mut Vec<u32>) {
        if piece.len() <= FEW { self.encode_few::<FEW>(piece, out) } else { self.encode_few::<SCAN>(piece, out) }
    }

    /// At most `ROOM` bytes.
    fn encode_few<const ROOM: usize>(&self, piece: &[u8], out: &mut Vec<u32>) {
        let (mut tokens, mut ranks) = ([0; ROOM], [NONE; ROOM]);
        for (token, byte) in tokens.iter_mut().zip(piece) {
            *token = self.bytes[usize::from(*byte)];
        }
        for at in 1..piece.len() {
            ranks[at - 1] = self.rank_of_bytes(piece, at - 1);
        }
        self.merge_short(piece.len(), tokens, ranks, out);
    }

    /// The rank of the bytes at `at` and behind it.
    fn rank_of_bytes(&self, piece: &[u8], at: usize) -> u32 {
        self.pairs[usize::from(piece[at]) << 8 | usize::from(piece[at + 1])]
    }

    /// Merges the first `count` of `tokens`; `ranks` has the rank of each and the next.
    #[inline]
    fn merge_short<const ROOM: usize>(
        &self,
        mut count: usize,
        mut tokens: [u32; ROOM],
        mut ranks: [u32; ROOM],
        out: &mut Vec<u32>,
    ) {
        while count > 1 {
            let best = ranks[..count - 1].iter().fold(NONE, |best, rank| best.min(*rank));
            if best == NONE {
                break;
            }
            let Some(at) = ranks[..count - 1].iter().position(|rank| *rank == best) else { break };
            tokens[at] = self.merged[best as usize];
            tokens.copy_within(at + 2..count, at + 1);
            ranks.copy_within(at + 1..count - 1, at);
            count -= 1;
            if at + 1 < count {
                ranks[at] = self.rank(tokens[at], tokens[at + 1]);
            }
            if at > 0 {
                ranks[at - 1] = self.rank(tokens[at - 1], tokens[at]);
            }
        }
        out.extend_from_slice(&tokens[..count]);
    }

    fn encode_long(&self, piece: &[u8], work: &mut Work, out: &mut Vec<u32>) {
        let token = |at: usize| self.bytes[usize::from(piece[at])];
        self.merge_long(piece.len(), token, |at| self.rank_of_bytes(piece, at), PUT_OFF, work, out);
    }

    /// A linked list of tokens, and a list of places for each rank. Long pieces are nearly always runs of something, with few
    /// ranks and many places of each, so that the heap is small.
    ///
    /// A merge may make a better pair, which puts the other places of its rank off. That is rare in learnt vocabularies, but each
    /// time costs as many steps as there are places; where it comes to more than `put_off` for each symbol, a heap does the rest.
    fn merge_long(
        &self,
        count: usize,
        token: impl Fn(usize) -> u32,
        first: impl Fn(usize) -> u32,
        put_off: usize,
        work: &mut Work,
        out: &mut Vec<u32>,
    ) {
        if work.list_of.len() != self.merged.len() {
            // Of a fresh one only the pages are touched that are used.
            work.list_of = vec![0; self.merged.len()];
        }
        work.symbols.clear();
        work.symbols.extend((0..count).map(|at| Symbol {
            token: token(at),
            before: (at as u32).wrapping_sub(1),
            behind: at as u32 + 1,
        }));
        for at in 1..count {
            work.note(first(at - 1), at as u32 - 1);
        }
        let mut may_put_off = put_off.saturating_mul(count);
        while let Some(Reverse(rank)) = work.ranks.pop() {
            let list = work.list_of[rank as usize] as usize - 1;
            let mut places = std::mem::take(&mut work.lists[list]);
            #[cfg(test)]
            (work.taken_up += places.len());
            // Noted from left to right for one rank, but perhaps for several.
            if !places.is_sorted() {
                places.sort_unstable();
            }
            let mut done = 0;
            while done < places.len() {
                self.merge_at(places[done], rank, work);
                done += 1;
                if work.ranks.peek().is_some_and(|Reverse(best)| *best < rank) {
                    break;
                }
            }
            places.drain(..done);
            let rest = places.len();
            work.lists[list] = places;
            if rest > 0 {
                work.ranks.push(Reverse(rank));
                if rest > may_put_off {
                    self.merge_by_heap(work);
                    break;
                }
                may_put_off -= rest;
            }
        }
        for list in &work.lists {
            debug_assert!(list.is_empty());
        }
        out.extend(work.symbols.iter().map(|symbol| symbol.token).filter(|token| *token != NONE));
        work.give_back();
    }

    /// Merges what the lists still hold as the crate does it, in a time that hardly grows faster than the piece.
    fn merge_by_heap(&self, work: &mut Work) {
        let mut pairs = Vec::new();
        while let Some(Reverse(rank)) = work.ranks.pop() {
            let places = &mut work.lists[work.list_of[rank as usize] as usize - 1];
            pairs.extend(places.drain(..).map(|place| Reverse((rank, place))));
        }
        work.heap = Some(pairs.into());
        while let Some(Reverse((rank, place))) = work.heap.as_mut().and_then(BinaryHeap::pop) {
            self.merge_at(place, rank, work);
        }
        work.heap = None;
    }

    /// Joins the pair at `left`, if it still has this rank.
    fn merge_at(&self, left: u32, rank: u32, work: &mut Work) {
        let end = work.symbols.len() as u32;
        let symbol = work.symbols[left as usize];
        if symbol.token == NONE || symbol.behind == end {
            return;
        }
        let right = work.symbols[symbol.behind as usize];
        if self.rank(symbol.token, right.token) != rank {
            return;
        }
        let merged = self.merged[rank as usize];
        work.symbols[symbol.behind as usize].token = NONE;
        work.symbols[left as usize] = Symbol { token: merged, behind: right.behind, ..symbol };
        if symbol.before != u32::MAX {
            let before = work.symbols[symbol.before as usize].token;
            work.note(self.rank(before, merged), symbol.before);
        }
        if right.behind != end {
            work.symbols[right.behind as usize].before = left;
            work.note(self.rank(merged, work.symbols[right.behind as usize].token), left);
        }
    }
}

/// The definition, word for word and without any table.
#[cfg(test)]
pub(super) fn by_definition(piece: &[u8], merges: &[(u32, u32, u32)]) -> Vec<u32> {
    let mut tokens: Vec<u32> = piece.iter().map(|byte| u32::from(*byte)).collect();
    loop {
        let rank = |pair: &[u32]| merges.iter().position(|merge| (merge.0, merge.1) == (pair[0], pair[1]));
        let ranks: Vec<Option<usize>> = tokens.windows(2).map(rank).collect();
        let Some(best) = ranks.iter().flatten().min() else { return tokens };
        let at = ranks.iter().position(|rank| rank == &Some(*best)).unwrap();
        tokens.splice(at..at + 2, [merges[*best].2]);
    }
}
