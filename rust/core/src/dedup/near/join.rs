//! Near-duplicates within a block, by exact comparison and in bounded memory.
//!
//! Rows come in the order in which they would rather stay. What is held in memory at a time is at most `budget` bytes: an
//! index, and documents that have been read already; where a block needs more, its rows are gone through again, with the
//! next ones in the index. The result does not depend on the budget.

use super::block::Blocks;
use super::document::Document;
use super::index::{Counts, Index, Next};
use crate::error::Result;

/// A block of up to so many rows is compared pair by pair: that takes no longer than to rank all shingles.
const FEW: usize = 32;

/// Shingles of a row that the counters are made for; wrong guesses cost time alone.
const TYPICAL_SHINGLES: usize = 256;

/// A row and one that is similar to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// The row that comes later in the order.
    pub row: u32,
    /// The one that comes earlier.
    pub other: u32,
    /// Their exact Jaccard index.
    pub similarity: f64,
}

/// One block: what is similar, and how its rows are read.
pub struct Join<'a, L> {
    /// From which Jaccard index on rows are near-duplicates.
    pub threshold: f64,
    /// Bytes that may be held in memory.
    pub budget: usize,
    /// The block's rows in the order in which they would rather stay.
    pub rows: &'a [u32],
    /// Reads a row.
    pub load: L,
}

/// No place: a block has fewer rows.
const NONE: u32 = u32::MAX;

/// By place, the first opposite that was found, and how similar it is.
struct Firsts {
    others: Vec<u32>,
    similarities: Vec<f64>,
}

impl Firsts {
    fn lacks(&self, place: u32) -> bool {
        self.others[place as usize] == NONE
    }

    /// Enters an opposite of a place that lacks one.
    fn set(&mut self, place: u32, other: u32, similarity: f64) {
        if self.lacks(place) {
            self.others[place as usize] = other;
            self.similarities[place as usize] = similarity;
        }
    }
}

/// Documents that were read to be counted, by place, for as long as nobody has taken them.
type Held = Vec<Option<Document>>;

impl<L: FnMut(u32) -> Result<Document>> Join<'_, L> {
    /// Each row that is similar to one that stays, with the first such; a row stays if it is similar to none that stays
    /// before it.
    pub fn direct(&mut self, emit: &mut impl FnMut(Match)) -> Result<()> {
        let (counts, mut held) = self.counts()?;
        let mut rest: Vec<u32> = (0..self.rows.len() as u32).collect();
        let mut candidates = Vec::new();
        while !rest.is_empty() {
            let mut index = Index::new(self.threshold, counts.as_ref());
            let mut later = Vec::new();
            for place in rest {
                let (row, document) = (self.rows[place as usize], self.document(place, &mut held)?);
                candidates.clear();
                index.visit(&document, |_, number| {
                    candidates.push(number);
                    Next::On
                });
                candidates.sort_unstable();
                let found = candidates.iter().find_map(|&number| {
                    let similarity = index.document(number).similar(&document, self.threshold)?;
                    Some((index.row(number), similarity))
                });
                match found {
                    Some((other, similarity)) => emit(Match { row, other, similarity }),
                    None if later.is_empty() && index.has_room(self.budget / 2) => {
                        index.push(row, document, |_, _| false);
                    }
                    None => later.push(place),
                }
            }
            rest = later;
        }
        Ok(())
    }

    /// Each row that is connected by similar ones to an earlier row, with the first such; their own index may be smaller
    /// than the threshold.
    pub fn component(&mut self, emit: &mut impl FnMut(Match)) -> Result<()> {
        let clusters = self.connect()?;
        // By cluster, so that each representative is read once.
        let mut order: Vec<(u32, u32)> = clusters.into_iter().zip(0..).filter(|(first, at)| first != at).collect();
        order.sort_unstable();
        for cluster in order.chunk_by(|a, b| a.0 == b.0) {
            let other = self.rows[cluster[0].0 as usize];
            let representative = (self.load)(other)?;
            for &(_, at) in cluster {
                let row = self.rows[at as usize];
                let similarity = (self.load)(row)?.similarity(&representative);
                emit(Match { row, other, similarity });
            }
        }
        Ok(())
    }

    /// For each row the place of the first one that it is connected to.
    pub fn connect(&mut self) -> Result<Vec<u32>> {
        let (counts, mut held) = self.counts()?;
        let mut clusters = Blocks::new(self.rows.len());
        let mut rest: Vec<u32> = (0..self.rows.len() as u32).collect();
        while !rest.is_empty() {
            let mut index = Index::new(self.threshold, counts.as_ref());
            let mut later = Vec::new();
            for place in rest {
                let document = self.document(place, &mut held)?;
                let mut twin = false;
                // This index numbers places, not rows.
                index.visit(&document, |index, number| {
                    let other = index.row(number);
                    if clusters.first(other) != clusters.first(place) {
                        let Some(similarity) = index.document(number).similar(&document, self.threshold) else {
                            return Next::On;
                        };
                        clusters.join(other, place);
                        twin = similarity >= 1.0;
                    }
                    if twin { Next::Stop } else { Next::PastCluster }
                });
                // What is similar to a row is as similar to its twin, so one of them stands for both.
                if !twin && later.is_empty() && index.has_room(self.budget / 2) {
                    index.push(place, document, |a, b| clusters.first(a) == clusters.first(b));
                } else if !twin {
                    later.push(place);
                }
            }
            rest = later;
        }
        Ok((0..self.rows.len() as u32).map(|place| clusters.first(place)).collect())
    }

    /// All pairs of similar rows.
    pub fn pairs(&mut self, emit: &mut impl FnMut(Match)) -> Result<()> {
        let (counts, mut held) = self.counts()?;
        let mut rest: Vec<u32> = (0..self.rows.len() as u32).collect();
        while !rest.is_empty() {
            let mut index = Index::new(self.threshold, counts.as_ref());
            let mut later = Vec::new();
            for place in rest {
                let (row, document) = (self.rows[place as usize], self.document(place, &mut held)?);
                index.visit(&document, |index, number| {
                    if let Some(similarity) = index.document(number).similar(&document, self.threshold) {
                        emit(Match { row, other: index.row(number), similarity });
                    }
                    Next::On
                });
                if later.is_empty() && index.has_room(self.budget / 2) {
                    index.push(row, document, |_, _| false);
                } else {
                    later.push(place);
                }
            }
            rest = later;
        }
        Ok(())
    }

    /// Each row that is similar to others with its parts in `order`, with the one of them that has the least number. The
    /// order must be its own inverse, as the swap of two parts is.
    ///
    /// Twelve bytes a row are held besides the budget, however many pairs there are.
    pub fn first_opposites(&mut self, order: &[usize], emit: &mut impl FnMut(Match)) -> Result<()> {
        let (counts, mut held) = self.counts()?;
        let mut rest: Vec<u32> = (0..self.rows.len() as u32).collect();
        // Rows come by number here, and each meets those before it in that order, too. So the opposite that is found first
        // is the first one, and two rows that have theirs need not be compared.
        rest.sort_unstable_by_key(|&place| self.rows[place as usize]);
        let mut firsts = Firsts { others: vec![NONE; rest.len()], similarities: vec![0.0; rest.len()] };
        let mut candidates = Vec::new();
        while !rest.is_empty() {
            let mut index = Index::new(self.threshold, counts.as_ref());
            let mut later = Vec::new();
            for place in rest {
                let document = self.document(place, &mut held)?;
                let probe = document.reordered(order);
                candidates.clear();
                // This index numbers places, not rows.
                index.visit(&probe, |index, number| {
                    if firsts.lacks(place) || firsts.lacks(index.row(number)) {
                        candidates.push(number);
                    }
                    Next::On
                });
                candidates.sort_unstable();
                for &number in &candidates {
                    let other = index.row(number);
                    if (firsts.lacks(place) || firsts.lacks(other))
                        && let Some(similarity) = index.document(number).similar(&probe, self.threshold)
                    {
                        firsts.set(place, other, similarity);
                        firsts.set(other, place, similarity);
                    }
                }
                if later.is_empty() && index.has_room(self.budget / 2) {
                    index.push(place, document, |_, _| false);
                } else {
                    later.push(place);
                }
            }
            rest = later;
        }
        // What is emitted takes memory, too.
        drop((counts, held, candidates));
        for ((&row, other), similarity) in self.rows.iter().zip(firsts.others).zip(firsts.similarities) {
            if other != NONE {
                emit(Match { row, other: self.rows[other as usize], similarity });
            }
        }
        Ok(())
    }

    fn document(&mut self, place: u32, held: &mut Held) -> Result<Document> {
        match held.get_mut(place as usize).and_then(Option::take) {
            Some(document) => Ok(document),
            None => (self.load)(self.rows[place as usize]),
        }
    }

    /// How often the shingles occur, and the first documents that were read for that.
    fn counts(&mut self) -> Result<(Option<Counts>, Held)> {
        if self.rows.len() <= FEW {
            return Ok((None, Held::new()));
        }
        let mut counts = Counts::new(self.rows.len().saturating_mul(TYPICAL_SHINGLES), self.budget / 8);
        let (mut held, mut bytes) = (Held::new(), 0);
        for &row in self.rows {
            let document = (self.load)(row)?;
            counts.add(&document);
            bytes += document.bytes();
            if bytes < self.budget / 2 {
                held.push(Some(document));
            }
        }
        Ok((Some(counts), held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::near::document::normalize;
    use proptest::prelude::*;

    fn document(text: &str) -> Document {
        let mut words = Vec::new();
        normalize(&text.split('|').collect::<Vec<_>>(), &mut words);
        Document::new(words)
    }

    fn join<'a>(
        texts: &'a [String],
        rows: &'a [u32],
        budget: usize,
    ) -> Join<'a, impl FnMut(u32) -> Result<Document> + 'a> {
        Join { threshold: 0.7, budget, rows, load: |row: u32| Ok(document(&texts[row as usize])) }
    }

    fn sorted(work: impl FnOnce(&mut dyn FnMut(Match)) -> Result<()>) -> Vec<(u32, u32, u64)> {
        let mut found = Vec::new();
        work(&mut |Match { row, other, similarity }| found.push((row, other, similarity.to_bits()))).unwrap();
        found.sort_unstable();
        found
    }

    /// The definitions, without any shortcut.
    fn plain(texts: &[String], rows: &[u32]) -> [Vec<(u32, u32, u64)>; 3] {
        let documents: Vec<Document> = texts.iter().map(|text| document(text)).collect();
        let similarity = |a: u32, b: u32| documents[a as usize].similarity(&documents[b as usize]);
        let (mut direct, mut component, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
        let mut clusters = Blocks::new(texts.len());
        let mut kept: Vec<u32> = Vec::new();
        for (at, &row) in rows.iter().enumerate() {
            match kept.iter().find(|&&other| similarity(row, other) >= 0.7) {
                Some(&other) => direct.push((row, other, similarity(row, other).to_bits())),
                None => kept.push(row),
            }
            for (earlier, &other) in rows[..at].iter().enumerate() {
                if similarity(row, other) >= 0.7 {
                    pairs.push((row, other, similarity(row, other).to_bits()));
                    clusters.join(earlier as u32, at as u32);
                }
            }
        }
        for (at, &row) in rows.iter().enumerate() {
            let first = rows[clusters.first(at as u32) as usize];
            if first != row {
                component.push((row, first, similarity(row, first).to_bits()));
            }
        }
        let mut all = [direct, component, pairs];
        for found in &mut all {
            found.sort_unstable();
        }
        all
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_the_definitions_say_whatever_the_memory(
            mut texts in prop::collection::vec("([ab] ){6,14}", 1..30),
            copies in prop::collection::vec(0..30usize, 0..20),
            budget in prop::sample::select(vec![0, 3000, 1 << 20]),
            backwards in any::<bool>(),
        ) {
            for copy in copies {
                texts.push(texts[copy % texts.len()].clone());
            }
            let mut rows: Vec<u32> = (0..texts.len() as u32).collect();
            if backwards {
                rows.reverse();
            }
            let [direct, component, pairs] = plain(&texts, &rows);
            prop_assert_eq!(sorted(|mut emit| join(&texts, &rows, budget).direct(&mut emit)), direct);
            prop_assert_eq!(sorted(|mut emit| join(&texts, &rows, budget).component(&mut emit)), component);
            prop_assert_eq!(sorted(|mut emit| join(&texts, &rows, budget).pairs(&mut emit)), pairs);
        }
    }

    #[test]
    fn opposites_have_their_parts_in_another_order() {
        let texts = ["p q r s t|yes it is|no it is not", "x|y|z", "p q r s t|no it is not|yes it is"].map(String::from);
        let found = sorted(|mut emit| join(&texts, &[0, 1, 2], 1 << 20).first_opposites(&[0, 2, 1], &mut emit));
        assert_eq!(found, [(0, 2, 1.0f64.to_bits()), (2, 0, 1.0f64.to_bits())]);
        let same = sorted(|mut emit| join(&texts, &[0, 1, 2], 1 << 20).first_opposites(&[0, 1, 2], &mut emit));
        assert!(same.is_empty());
    }

    proptest! {
        #[test]
        fn the_first_opposites_are_those_of_all_pairs_whatever_the_memory_and_the_order(
            texts in prop::collection::vec("[ab]( [ab]){2,8}\\|([ab] ){5,7}\\|([ab] ){5,7}", 1..60),
            budget in prop::sample::select(vec![0, 3000, 1 << 20]),
            threshold in prop::sample::select(vec![0.2, 0.5, 1.0]),
            seed in any::<u32>(),
        ) {
            let documents: Vec<Document> = texts.iter().map(|text| document(text)).collect();
            let mut rows: Vec<u32> = (0..texts.len() as u32).collect();
            rows.sort_by_key(|&row| (row + 1).wrapping_mul(seed | 1));
            let mut expected = Vec::new();
            for row in 0..texts.len() {
                let swapped = documents[row].reordered(&[0, 2, 1]);
                let first = (0..texts.len()).find(|&other| other != row && documents[other].similarity(&swapped) >= threshold);
                expected.extend(first.map(|other| {
                    (row as u32, other as u32, documents[other].similarity(&swapped).to_bits())
                }));
            }
            let load = |row: u32| Ok(documents[row as usize].clone());
            let mut join = Join { threshold, budget, rows: &rows, load };
            prop_assert_eq!(sorted(|mut emit| join.first_opposites(&[0, 2, 1], &mut emit)), expected);
        }
    }

    #[test]
    fn two_camps_of_opposites_make_one_match_a_row() {
        let words = |name: &str, count: usize| (0..count).map(|at| format!("{name}{at} ")).collect::<Vec<_>>().concat();
        let (prompt, a, b) = (words("p", 60), words("a", 60), words("b", 60));
        // Those of one camp differ in the prompt, those of the other one in the answer; all across are opposites.
        let texts: Vec<String> = (0..400)
            .map(|row| match row % 2 {
                0 => format!("{prompt}{}|{a}|{b}", words(&format!("x{row}x"), 9)),
                _ => format!("{prompt}|{b}{}|{a}", words(&format!("y{row}y"), 9)),
            })
            .collect();
        let documents: Vec<Document> = texts.iter().map(|text| document(text)).collect();
        for rows in [(0..400).collect::<Vec<u32>>(), (0..400).rev().collect()] {
            for budget in [1 << 16, 1 << 28] {
                let load = |row: u32| Ok(documents[row as usize].clone());
                let mut join = Join { threshold: 0.7, budget, rows: &rows, load };
                let found = sorted(|mut emit| join.first_opposites(&[0, 2, 1], &mut emit));
                let pairs: Vec<(u32, u32)> = found.iter().map(|&(row, other, _)| (row, other)).collect();
                assert_eq!(pairs, (0..400).map(|row| (row, 1 - row % 2)).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_family_of_edited_copies_costs_no_square() {
        let words: Vec<String> = (0..60).map(|word| format!("w{word}")).collect();
        let texts: Vec<String> = (0..3000)
            .map(|row| {
                let mut words = words.clone();
                words[row % 60] = format!("edit{row}");
                words.join(" ")
            })
            .collect();
        let rows: Vec<u32> = (0..3000).collect();
        for policy in [0, 1] {
            let mut loads = 0u32;
            let load = |row: u32| {
                loads += 1;
                Ok(document(&texts[row as usize]))
            };
            let mut join = Join { threshold: 0.8, budget: 1 << 30, rows: &rows, load };
            let found = sorted(|mut emit| match policy {
                0 => join.direct(&mut emit),
                _ => join.component(&mut emit),
            });
            assert!(found.len() > 2900, "{}", found.len());
            assert!(loads <= 9001, "{loads}");
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_ends_it() {
        let rows: Vec<u32> = (0..20).collect();
        let load = |_: u32| Err(crate::error::Error::Interrupted);
        let mut join = Join { threshold: 0.8, budget: 1, rows: &rows, load };
        assert!(join.direct(&mut |_| ()).is_err());
        assert!(join.component(&mut |_| ()).is_err());
    }
}
