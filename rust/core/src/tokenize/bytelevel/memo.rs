//! The tokens of pieces that have been seen, found by the whole piece and never by its hash alone.
//!
//! Pieces of up to 15 bytes, which are nearly all of an English text, lie in buckets of two places, one cache line each. A
//! batch of pieces is asked for before the first of it is read, so that the processor waits for many buckets at once. What
//! does not fit into a bucket lies with the longer pieces ([`super::long`]), which are forgotten when they are too many. So
//! the memory has a bound, and what is forgotten is encoded again.

#[cfg(doc)]
use super::super::NOWHERE;
use super::super::vector::prefetch;
use super::long::Long;

/// Longest piece whose bytes are its key.
const SHORT: usize = 15;
/// So many tokens lie in a place; the tokens of pieces with more lie with the long pieces.
const INLINE: usize = 3;
/// Buckets: 8 KiB at first, since fresh memory is dear for those who encode little; 16 MiB at most.
const FIRST: usize = 1 << 7;
const MOST: usize = 1 << 18;
const BATCH: usize = 64;
/// So many pieces at most make a small batch.
const FEW: usize = 8;

/// A piece and its tokens. Nothing is the key of an empty place, nor of a piece that is not short.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(32))]
struct Place {
    key: u128,
    count: u32,
    ids: [u32; INLINE],
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Bucket([Place; 2]);

/// What one thread remembers.
#[derive(Debug)]
pub(in crate::tokenize) struct Memo {
    buckets: Vec<Bucket>,
    pub(super) used: usize,
    long: Long,
    /// The tokens of a piece while it is looked for.
    fresh: Vec<u32>,
    /// Pieces and those that had to be encoded.
    pub(in crate::tokenize) seen: [u64; 2],
}

impl Default for Memo {
    fn default() -> Memo {
        Memo {
            buckets: vec![Bucket::default(); FIRST],
            used: 0,
            long: Long::default(),
            fresh: Vec::new(),
            seen: [0; 2],
        }
    }
}

/// The bytes of a short piece, and its length in the top byte; of other pieces something else.
#[inline]
fn key(text: &[u8], start: usize, length: usize) -> u128 {
    const LOW: [u128; SHORT + 1] = {
        let mut masks = [0; SHORT + 1];
        let mut at = 0;
        while at <= SHORT {
            masks[at] = (1 << (8 * at)) - 1;
            at += 1;
        }
        masks
    };
    let raw = text[start..].first_chunk::<16>().map_or_else(
        || {
            let mut last = [0; 16];
            let rest = &text[start..];
            last[..rest.len()].copy_from_slice(rest);
            u128::from_le_bytes(last)
        },
        |chunk| u128::from_le_bytes(*chunk),
    );
    let tag = if length <= SHORT { length as u128 } else { 0xFF };
    raw & LOW[length.min(SHORT)] | tag << 120
}

#[inline]
fn hash(key: u128) -> usize {
    let (low, high) = (key as u64, (key >> 64) as u64);
    let mixed = (low ^ high.wrapping_mul(0xA24B_AED4_963E_E407)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ mixed >> 32) as usize
}

/// A place with these tokens, at most [`INLINE`].
fn place_of(key: u128, ids: &[u32]) -> Place {
    let mut place = Place { key, count: ids.len() as u32, ids: [0; INLINE] };
    place.ids[..ids.len()].copy_from_slice(ids);
    place
}

impl Memo {
    /// As [`Memo::look_up`]; and for each of the ascending `places` a number of tokens is appended to `at`. `ends` is used up.
    ///
    /// `tell` is given a place's number, the piece that it lies in, the tokens of that, and the place in it; where a piece
    /// ends, the text behind, no tokens, and 0. It gives how many of these tokens count, or [`NOWHERE`], which is appended as it
    /// is. False, with nothing of use in `out`, if it does not know.
    #[expect(clippy::too_many_arguments, reason = "the buffers of one thread, which are used apart")]
    pub(in crate::tokenize) fn look_up_marked(
        &mut self,
        text: &[u8],
        ends: &mut [u32],
        places: impl Iterator<Item = usize>,
        out: &mut Vec<u32>,
        at: &mut Vec<u32>,
        mut encode: impl FnMut(&[u8], &mut Vec<u32>),
        tell: impl Fn(usize, &[u8], &[u32], usize) -> Option<u32>,
    ) -> bool {
        let (mut from, mut done) = (0, 0);
        let mut look_up = |ends: &mut [u32], from: usize, out: &mut Vec<u32>| {
            if from > 0 {
                for end in ends.iter_mut() {
                    *end -= from as u32;
                }
            }
            self.look_up(&text[from..], ends, out, &mut encode);
        };
        // The last piece that a place lies in, and where its tokens begin.
        let (mut piece, mut first) = (0..0, 0);
        for (number, place) in places.enumerate() {
            if place > from {
                let next = done + ends[done..].partition_point(|end| (*end as usize) < place);
                let Some(end) = ends.get(next).map(|end| *end as usize) else { return false };
                let whole = if end == place { next + 1 } else { next };
                let start = if whole > done { ends[whole - 1] as usize } else { from };
                look_up(&mut ends[done..whole], from, out);
                (from, done) = (start, whole);
                if end != place {
                    (piece, first) = (start..end, out.len());
                    look_up(&mut ends[next..=next], start, out);
                    (from, done) = (end, next + 1);
                }
            }
            let (text, ids) = if place == from { (&text[from..], out.len()) } else { (&text[piece.clone()], first) };
            let inside = if place == from { 0 } else { place - piece.start };
            let Some(before) = tell(number, text, &out[ids..], inside) else { return false };
            at.push(before.saturating_add(ids as u32));
        }
        look_up(&mut ends[done..], from, out);
        true
    }

    /// Appends the tokens of the pieces of `text` that end at `ends`; `encode` gives those of a piece not remembered.
    pub(in crate::tokenize) fn look_up(
        &mut self,
        text: &[u8],
        ends: &[u32],
        out: &mut Vec<u32>,
        mut encode: impl FnMut(&[u8], &mut Vec<u32>),
    ) {
        // Buffers are cleared first, which is much for few pieces.
        if ends.len() > FEW {
            self.look_up_by::<BATCH>(text, ends, out, &mut encode);
        } else {
            self.look_up_by::<FEW>(text, ends, out, &mut encode);
        }
    }

    #[inline]
    fn look_up_by<const SIZE: usize>(
        &mut self,
        text: &[u8],
        ends: &[u32],
        out: &mut Vec<u32>,
        encode: &mut impl FnMut(&[u8], &mut Vec<u32>),
    ) {
        let mut keys = [0; SIZE];
        let mut homes = [0u32; SIZE];
        let mut start = 0;
        self.seen[0] += ends.len() as u64;
        let mut fresh = std::mem::take(&mut self.fresh);
        for batch in ends.chunks(SIZE) {
            let mut from = start;
            let mask = self.buckets.len() - 1;
            for ((end, key_of), home_of) in batch.iter().zip(&mut keys).zip(&mut homes) {
                let key = key(text, from, *end as usize - from);
                let home = hash(key) & mask;
                prefetch(&self.buckets[home]);
                *home_of = home as u32;
                *key_of = key;
                from = *end as usize;
            }
            let mut at = out.len();
            out.resize(at + SIZE * INLINE, 0);
            for ((end, key), home) in batch.iter().zip(&keys).zip(&homes) {
                let end = *end as usize;
                let Bucket(places) = &self.buckets[*home as usize];
                // A load from one of two addresses, where a branch would be guessed wrong every other time.
                let place = places[usize::from(places[1].key == *key)];
                if place.key == *key {
                    // All three are written, `count` of them stay.
                    if let Some(room) = out[at..].first_chunk_mut::<INLINE>() {
                        *room = place.ids;
                    }
                    at += place.count as usize;
                } else {
                    fresh.clear();
                    self.miss(&text[start..end], *key, &mut fresh, encode);
                    // Those behind need room, too.
                    if fresh.len() > INLINE {
                        out.resize(out.len() + fresh.len() - INLINE, 0);
                    }
                    out[at..at + fresh.len()].copy_from_slice(&fresh);
                    at += fresh.len();
                }
                start = end;
            }
            out.truncate(at);
        }
        self.fresh = fresh;
    }

    /// A piece that is long, has many tokens, was met for the first time in this batch, or is new: writes its tokens to `out`, which
    /// is empty.
    #[cold]
    fn miss(&mut self, piece: &[u8], key: u128, out: &mut Vec<u32>, encode: &mut impl FnMut(&[u8], &mut Vec<u32>)) {
        let Bucket(places) = &self.buckets[hash(key) & (self.buckets.len() - 1)];
        if let Some(place) = places.iter().find(|place| place.key == key) {
            out.extend_from_slice(&place.ids[..place.count as usize]);
            return;
        }
        let hash = Long::hash(piece);
        if self.long.look_up(piece, hash, out) {
            return;
        }
        self.seen[1] += 1;
        encode(piece, out);
        if piece.len() > SHORT || out.len() > INLINE {
            self.long.remember(piece, hash, out);
            return;
        }
        // At one for each bucket of two, few have found no room; more buckets would be fresh memory for nothing.
        if self.used > self.buckets.len() && self.buckets.len() < MOST {
            self.grow();
        }
        if !self.put(place_of(key, out)) {
            self.long.remember(piece, hash, out);
        }
    }

    /// Puts a piece into its bucket, if there is room: what came first is met most often, so it stays.
    fn put(&mut self, place: Place) -> bool {
        let mask = self.buckets.len() - 1;
        let Bucket(places) = &mut self.buckets[hash(place.key) & mask];
        let Some(free) = places.iter_mut().find(|place| place.count == 0) else { return false };
        *free = place;
        self.used += 1;
        true
    }

    fn grow(&mut self) {
        let larger = vec![Bucket::default(); (self.buckets.len() * 4).min(MOST)];
        let old = std::mem::replace(&mut self.buckets, larger);
        self.used = 0;
        for place in old.iter().flat_map(|bucket| bucket.0).filter(|place| place.count != 0) {
            // A bucket becomes two or four, so there is room.
            self.put(place);
        }
        // What found no room before finds it now.
        let long = std::mem::take(&mut self.long);
        for (piece, ids) in long.all().filter(|(piece, ids)| piece.len() <= SHORT && ids.len() <= INLINE) {
            let key = key(piece, 0, piece.len());
            let Bucket(places) = &self.buckets[hash(key) & (self.buckets.len() - 1)];
            if places.iter().all(|place| place.key != key) {
                self.put(place_of(key, ids));
            }
        }
        self.long = long;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for BPE that no two pieces share: the bytes themselves, in threes.
    fn encode(piece: &[u8], out: &mut Vec<u32>) {
        out.extend(piece.chunks(3).map(|bytes| bytes.iter().fold(1, |id, byte| id << 8 | u32::from(*byte))));
    }

    fn check(memo: &mut Memo, pieces: &[Vec<u8>]) -> u64 {
        let text = pieces.concat();
        let mut ends = Vec::new();
        for piece in pieces {
            ends.push(ends.last().unwrap_or(&0) + piece.len() as u32);
        }
        let (mut out, mut expected) = (vec![7], vec![7]);
        let missed = memo.seen[1];
        memo.look_up(&text, &ends, &mut out, encode);
        for piece in pieces {
            encode(piece, &mut expected);
        }
        assert_eq!(out, expected);
        memo.seen[1] - missed
    }

    #[test]
    fn pieces_of_all_lengths_are_remembered() {
        let pieces: Vec<Vec<u8>> = (1..300).map(|length| vec![b'x'; length]).collect();
        let mut memo = Memo::default();
        assert_eq!(check(&mut memo, &[pieces.clone(), pieces.clone()].concat()), 299 + 43);
        // Those of more than 256 bytes are not.
        assert_eq!(check(&mut memo, &pieces), 43);
        assert_eq!(check(&mut memo, &[]), 0);
    }

    #[test]
    fn a_piece_is_not_taken_for_one_that_begins_like_it() {
        let mut memo = Memo::default();
        check(
            &mut memo,
            &[b"ab".to_vec(), b"a".to_vec(), b"ab\0".to_vec(), b"abc".to_vec(), b"\0".to_vec(), b"\0\0".to_vec()],
        );
    }

    #[test]
    fn what_is_forgotten_is_encoded_again() {
        let mut memo = Memo::default();
        for round in 0..3u32 {
            let pieces: Vec<Vec<u8>> = (0..1_500_000u32)
                .map(|number| (number + round * 1_000_000).to_le_bytes()[..3].to_vec())
                .chain(
                    (0..100_000u32)
                        .map(|number| format!("a piece with more tokens {}", number + round * 50_000).into()),
                )
                .collect();
            check(&mut memo, &pieces);
        }
        assert!(memo.buckets.len() <= MOST && memo.long.bytes() < 1 << 26);
    }
}
