//! The part of the memo for pieces that are long or have many tokens: a table of places in one buffer of pieces and one of
//! tokens. It is emptied when it is full, so that its memory has a bound.

use xxhash_rust::xxh3::xxh3_64;

/// Longer pieces are hardly ever met again.
const LONGEST: usize = 256;
/// So many pieces at most, and so many bytes and tokens of them.
const MOST: usize = 1 << 17;
const MOST_BYTES: usize = 1 << 23;

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    piece: u32,
    length: u16,
    count: u16,
    ids: u32,
}

/// Pieces and their tokens.
#[derive(Debug, Default)]
pub(super) struct Long {
    /// Open table of numbers of entries, from 1 on; at most half full.
    table: Vec<u32>,
    entries: Vec<Entry>,
    pieces: Vec<u8>,
    ids: Vec<u32>,
}

impl Long {
    /// What [`Long::look_up`] and [`Long::remember`] ask for.
    pub(super) fn hash(piece: &[u8]) -> u64 {
        if piece.len() > LONGEST { 0 } else { xxh3_64(piece) }
    }

    /// Appends the tokens of `piece`, if they are known.
    pub(super) fn look_up(&self, piece: &[u8], hash: u64, out: &mut Vec<u32>) -> bool {
        if piece.len() > LONGEST || self.table.is_empty() {
            return false;
        }
        let mut place = hash as usize & (self.table.len() - 1);
        while let Some(number) = (self.table[place] as usize).checked_sub(1) {
            let entry = self.entries[number];
            let from = entry.piece as usize;
            if entry.hash == hash && self.pieces[from..from + usize::from(entry.length)] == *piece {
                let from = entry.ids as usize;
                out.extend_from_slice(&self.ids[from..from + usize::from(entry.count)]);
                return true;
            }
            place = (place + 1) & (self.table.len() - 1);
        }
        false
    }

    /// Keeps the tokens of a piece that is not known.
    pub(super) fn remember(&mut self, piece: &[u8], hash: u64, ids: &[u32]) {
        if piece.len() > LONGEST {
            return;
        }
        if self.entries.len() == MOST || self.pieces.len() + piece.len() > MOST_BYTES {
            self.clear();
        }
        self.entries.push(Entry {
            hash,
            piece: self.pieces.len() as u32,
            length: piece.len() as u16,
            count: ids.len() as u16,
            ids: self.ids.len() as u32,
        });
        self.pieces.extend_from_slice(piece);
        self.ids.extend_from_slice(ids);
        if self.entries.len() * 2 > self.table.len() {
            self.table = vec![0; (self.table.len() * 4).clamp(1 << 10, MOST * 2)];
            (0..self.entries.len()).for_each(|number| self.put(number));
        } else {
            self.put(self.entries.len() - 1);
        }
    }

    /// All pieces and their tokens.
    pub(super) fn all(&self) -> impl Iterator<Item = (&[u8], &[u32])> {
        self.entries.iter().map(|entry| {
            let (piece, ids) = (entry.piece as usize, entry.ids as usize);
            (&self.pieces[piece..piece + usize::from(entry.length)], &self.ids[ids..ids + usize::from(entry.count)])
        })
    }

    /// Forgets everything.
    fn clear(&mut self) {
        self.table.fill(0);
        self.entries.clear();
        self.pieces.clear();
        self.ids.clear();
    }

    fn put(&mut self, number: usize) {
        let mut place = self.entries[number].hash as usize & (self.table.len() - 1);
        while self.table[place] != 0 {
            place = (place + 1) & (self.table.len() - 1);
        }
        self.table[place] = number as u32 + 1;
    }

    /// How much memory it takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        4 * (self.table.capacity() + self.ids.capacity())
            + size_of::<Entry>() * self.entries.capacity()
            + self.pieces.capacity()
    }
}
