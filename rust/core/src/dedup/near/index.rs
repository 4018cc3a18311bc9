//! Which rows of a block can be similar enough, without comparing all pairs and without missing one.
//!
//! Two sets with a Jaccard index of at least t have at least ceil(t * n) shingles in common, n being the size of either. With
//! all shingles in one order, each set then has one of the common ones among its first n - ceil(t * n) + 1, its prefix. So
//! only rows that meet in their prefixes need be compared; and where they first meet bounds what they can have in common
//! (prefix and position filter of set similarity joins: Chaudhuri et al. 2006, Xiao et al. 2008). Rare shingles come first
//! in the order, so that a boilerplate that many rows share brings none of them together.
//!
//! Of m shingles of the smaller set at least ceil(2t / (1 + t) * m) are common, so its first common one is among the first
//! m - ceil(2t / (1 + t) * m) + 1: an early place. Late places, where a boilerplate begins if it begins in the prefix at
//! all, have lists of their own, and a late place is not looked for in them: rows that share nothing but a boilerplate do not
//! even go through each other's lists.

use super::document::Document;

/// Keeps products of thresholds and sizes from being rounded up by the last bit.
const SLACK: f64 = 1e-9;

const NONE: u32 = u32::MAX;

/// How often shingles occur, about: numbers that share a counter count together, which costs time and no result.
pub(super) struct Counts {
    table: Vec<u32>,
}

impl Counts {
    /// For about `shingles` shingles in at most `bytes` bytes.
    pub(super) fn new(shingles: usize, bytes: usize) -> Counts {
        let largest = (bytes / size_of::<u32>()).clamp(1 << 10, 1 << 22);
        let size = shingles.clamp(1 << 10, largest).next_power_of_two();
        Counts { table: vec![0; if size > largest { size / 2 } else { size }] }
    }

    pub(super) fn add(&mut self, document: &Document) {
        for number in document.numbers() {
            let at = self.at(number);
            self.table[at] = self.table[at].saturating_add(1);
        }
    }

    fn of(&self, number: u64) -> u32 {
        self.table[self.at(number)]
    }

    fn at(&self, number: u64) -> usize {
        number as usize & (self.table.len() - 1)
    }
}

/// What a search does after a document that it has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It goes on.
    On,
    /// It goes on, but this document says as much as any other of its cluster: lists of those alone need not be read.
    PastCluster,
    /// It ends.
    Stop,
}

/// A shingle in the prefix of a document.
#[derive(Clone, Copy)]
struct Entry {
    number: u64,
    document: u32,
    position: u32,
    next: u32,
}

/// The rows that others are compared with.
pub(super) struct Index<'a> {
    threshold: f64,
    /// `None`: there are so few documents that all are candidates.
    counts: Option<&'a Counts>,
    rows: Vec<u32>,
    documents: Vec<Document>,
    entries: Vec<Entry>,
    heads: Vec<u32>,
    /// Per list, whether it holds documents of more than one cluster.
    mixed: Vec<bool>,
    /// Per document, the last search that has met it.
    met: Vec<u32>,
    search: u32,
    prefix: Vec<(u32, u64)>,
    /// Places before this one are early: the smaller one of two similar sets meets the other one before it.
    early: usize,
    bytes: usize,
    /// Entries that searches went through.
    #[cfg(test)]
    walked: usize,
}

/// The number of a list for late places: another than that for early ones.
fn late(number: u64) -> u64 {
    number.rotate_left(17) ^ 0x9E37_79B9_7F4A_7C15
}

impl<'a> Index<'a> {
    pub(super) fn new(threshold: f64, counts: Option<&'a Counts>) -> Index<'a> {
        let lists = if counts.is_some() { 1 << 10 } else { 0 };
        Index {
            threshold,
            counts,
            rows: Vec::new(),
            documents: Vec::new(),
            entries: Vec::new(),
            heads: vec![NONE; lists],
            mixed: vec![false; lists],
            met: Vec::new(),
            search: 0,
            prefix: Vec::new(),
            early: 0,
            bytes: 0,
            #[cfg(test)]
            walked: 0,
        }
    }

    /// Whether another document may go in: always the first, else none would ever be compared.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let taken =
            self.bytes + self.entries.capacity() * size_of::<Entry>() + self.heads.capacity() * size_of::<u32>();
        self.documents.is_empty() || taken < bytes
    }

    /// The row of document `number`.
    pub(super) fn row(&self, number: u32) -> u32 {
        self.rows[number as usize]
    }

    /// Document `number`.
    pub(super) fn document(&self, number: u32) -> &Document {
        &self.documents[number as usize]
    }

    /// Adds a row; documents are numbered from 0. `same` says of two rows whether they are in one cluster by now.
    pub(super) fn push(&mut self, row: u32, document: Document, mut same: impl FnMut(u32, u32) -> bool) {
        let number = self.documents.len() as u32;
        self.bytes += document.bytes() + 2 * size_of::<u32>();
        self.rows.push(row);
        self.met.push(0);
        if self.counts.is_some() {
            self.rank(&document);
            for position in 0..self.prefix.len() {
                let shingle = self.prefix[position].1;
                let list = if position < self.early { shingle } else { late(shingle) };
                let entry = Entry { number: list, document: number, position: position as u32, next: NONE };
                self.entries.push(entry);
                self.link(self.entries.len() - 1, &mut same);
            }
            if self.entries.len() > self.heads.len() {
                let lists = 2 * self.entries.len().next_power_of_two();
                (self.heads, self.mixed) = (vec![NONE; lists], vec![false; lists]);
                (0..self.entries.len()).for_each(|at| self.link(at, &mut same));
            }
        }
        self.documents.push(document);
    }

    fn link(&mut self, at: usize, same: &mut impl FnMut(u32, u32) -> bool) {
        let list = self.entries[at].number as usize & (self.heads.len() - 1);
        let before = std::mem::replace(&mut self.heads[list], at as u32);
        self.entries[at].next = before;
        if before != NONE && !self.mixed[list] {
            let rows = [before as usize, at].map(|entry| self.row(self.entries[entry].document));
            self.mixed[list] = rows[0] != rows[1] && !same(rows[0], rows[1]);
        }
    }

    /// The document's prefix, rare shingles first, into `self.prefix`.
    fn rank(&mut self, document: &Document) {
        self.prefix.clear();
        let (Some(counts), size @ 1..) = (self.counts, document.len()) else { return };
        self.prefix.extend(document.numbers().map(|number| (counts.of(number), number)));
        #[expect(clippy::cast_sign_loss, reason = "at least 1")]
        let least = |share: f64| (share * size as f64 - SLACK).ceil().max(1.0) as usize;
        let least_common = least(self.threshold);
        let length = size - least_common + 1;
        // The smaller one of two similar sets has at least that share of its own in common with the other one.
        self.early = size - least(2.0 * self.threshold / (1.0 + self.threshold)) + 1;
        if length < size {
            self.prefix.select_nth_unstable(length - 1);
            self.prefix.truncate(length);
        }
        self.prefix.sort_unstable();
    }

    /// Whether sets of these sizes can be similar enough.
    fn fits(&self, size: usize, other: usize) -> bool {
        size.min(other) as f64 >= self.threshold * size.max(other) as f64 - SLACK
    }

    /// Calls `visit` with every document that may be similar enough to this one, each once, until it says to stop.
    pub(super) fn visit(&mut self, document: &Document, mut visit: impl FnMut(&Self, u32) -> Next) {
        let size = document.len();
        if self.counts.is_none() {
            for number in 0..self.documents.len() as u32 {
                if self.fits(size, self.document(number).len()) && visit(self, number) == Next::Stop {
                    return;
                }
            }
            return;
        }
        self.rank(document);
        self.search += 1;
        let early = self.early;
        for position in 0..self.prefix.len() {
            let number = self.prefix[position].1;
            // Two late places are no first meeting of sets that are similar enough.
            for number in std::iter::once(number).chain((position < early).then(|| late(number))) {
                let list = number as usize & (self.heads.len() - 1);
                let mut at = self.heads[list];
                while at != NONE {
                    let entry = self.entries[at as usize];
                    at = entry.next;
                    #[cfg(test)]
                    {
                        self.walked += 1;
                    }
                    let other = entry.document as usize;
                    if entry.number != number || self.met[other] == self.search {
                        continue;
                    }
                    let other_size = self.documents[other].len();
                    let needed = (self.threshold / (1.0 + self.threshold) * (size + other_size) as f64 - SLACK).ceil();
                    let most = (size - position).min(other_size - entry.position as usize);
                    if most as f64 >= needed && self.fits(size, other_size) {
                        self.met[other] = self.search;
                        match visit(self, entry.document) {
                            Next::On => {}
                            Next::PastCluster if self.mixed[list] => {}
                            Next::PastCluster => break,
                            Next::Stop => return,
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::near::document::normalize;
    use proptest::prelude::*;

    fn document(text: &str) -> Document {
        let mut words = Vec::new();
        normalize(&[text], &mut words);
        Document::new(words)
    }

    proptest! {
        #[test]
        fn no_similar_document_is_passed_over(
            texts in prop::collection::vec("([ab] ){5,16}", 2..40),
            threshold in prop::sample::select(vec![0.1, 0.5, 0.6, 0.75, 0.8, 0.9, 1.0]),
        ) {
            let documents: Vec<Document> = texts.iter().map(|text| document(text)).collect();
            let mut counts = Counts::new(64, 1 << 12);
            for document in &documents {
                counts.add(document);
            }
            let mut index = Index::new(threshold, Some(&counts));
            for (row, document) in documents.iter().enumerate() {
                let mut met = Vec::new();
                index.visit(document, |_, number| {
                    met.push(number);
                    Next::On
                });
                for (earlier, other) in (0..).zip(&documents[..row]) {
                    if other.similarity(document) >= threshold {
                        prop_assert!(met.contains(&earlier));
                    }
                }
                index.push(row as u32, document.clone(), |_, _| false);
            }
        }
    }

    /// So many rows of a boilerplate of `shared` words and `own` of their own: how often two meet, and how many entries of lists
    /// are gone through for that.
    fn searched(rows: usize, shared: usize, own: usize) -> (usize, usize) {
        let boilerplate = (0..shared).map(|word| format!("same{word}")).collect::<Vec<_>>().join(" ");
        let own = |row: usize| (0..own).map(|word| format!(" own{row}x{word}")).collect::<Vec<_>>().concat();
        let documents: Vec<Document> = (0..rows).map(|row| document(&(boilerplate.clone() + &own(row)))).collect();
        let mut counts = Counts::new(1 << 17, 1 << 20);
        for document in &documents {
            counts.add(document);
        }
        let (mut index, mut met) = (Index::new(0.8, Some(&counts)), 0);
        for (row, document) in documents.into_iter().enumerate() {
            index.visit(&document, |_, _| {
                met += 1;
                Next::On
            });
            index.push(row as u32, document, |_, _| false);
        }
        (met, index.walked)
    }

    #[test]
    fn a_shared_boilerplate_brings_nobody_together() {
        assert_eq!(searched(50, 70, 40).0, 0);
    }

    /// A boilerplate of eight ninths, which reaches into the prefix: most shingles but not enough of them are common.
    #[test]
    fn rows_that_share_a_boilerplate_do_not_go_through_each_other() {
        // A list for each own shingle of each row, and what falls into one list by chance; 40 shared ones would be 2 million.
        let (_, walked) = searched(300, 400, 52);
        assert!(walked < 20_000, "{walked}");
    }
}
