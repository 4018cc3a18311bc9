//! What of a row is compared, and the numbers by which rows meet.

use super::runs::Pair;
use super::{Compare, Keep, NearOptions};
use crate::dedup::near::document::{Document, normalize};
use crate::dedup::near::sketch::Sketcher;
use crate::dedup::near::{Bands, number_or_least};
use crate::error::Result;
use crate::record::{Kind, Role};
use crate::schema::{MessagesView, RowsView};

/// The parts of a row that are compared, one string each: turns with a line feed between them.
pub(in crate::stage) fn parts(rows: &RowsView<'_>, index: usize, kind: Kind, compare: Compare) -> Vec<String> {
    // What the system says is often the same in all rows, and longer than the rest.
    let all = |list: &MessagesView<'_>| {
        join(list.get(index).filter(|(role, _)| *role != Role::System.as_str()).map(|(_, content)| content))
    };
    let of = |list: &MessagesView<'_>, role: Role| {
        join(list.get(index).filter(|(name, _)| *name == role.as_str()).map(|(_, content)| content))
    };
    let lists = rows.lists();
    match (kind, compare) {
        (Kind::Chat, Compare::Conversation) | (Kind::Preference, Compare::Prompt) => vec![all(&lists[0])],
        (Kind::Chat, Compare::Assistant) => vec![of(&lists[0], Role::Assistant)],
        (Kind::Chat, Compare::Prompt) => vec![of(&lists[0], Role::User)],
        // Part by part: else a long prompt would hide that the answers differ, or that they are swapped.
        (Kind::Preference, Compare::Conversation) => lists.iter().map(all).collect(),
        (Kind::Preference, Compare::Assistant) => lists[1..].iter().map(all).collect(),
    }
}

fn join<'a>(turns: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for (number, turn) in turns.enumerate() {
        if number > 0 {
            text.push('\n');
        }
        text.push_str(turn);
    }
    text
}

fn as_parts(parts: &[String]) -> Vec<&str> {
    parts.iter().map(String::as_str).collect()
}

/// The words of row `index`, part by part.
pub(super) fn words(rows: &RowsView<'_>, index: usize, kind: Kind, compare: Compare) -> Vec<u8> {
    let mut words = Vec::new();
    normalize(&as_parts(&parts(rows, index, kind, compare)), &mut words);
    words
}

/// The first user turn of row `index`, which decides on its side of the split.
pub(in crate::stage) fn prompt<'a>(rows: &RowsView<'a>, index: usize) -> &'a str {
    let mut turns = rows.lists().iter().flat_map(|list| list.get(index));
    turns.find(|(role, _)| *role == Role::User.as_str()).map_or("", |(_, content)| content)
}

/// What a batch's rows are known by; rows are numbered from the batch's first.
#[derive(Default)]
pub(in crate::stage) struct BatchSketch {
    pub(super) pairs: Vec<Pair>,
    pub(super) no_signal: Vec<(u32, f64)>,
    /// Of each row, unless the first are to stay: the less, the rather it would stay.
    pub(super) wishes: Vec<u64>,
}

/// Sketches the rows of a batch.
pub(in crate::stage) fn sketch(rows: &RowsView<'_>, kind: Kind, options: &NearOptions) -> Result<BatchSketch> {
    let (mut sketcher, mut keys) = (Sketcher::new(options.bands()?), Vec::new());
    let mut batch = BatchSketch::default();
    for index in 0..rows.len() {
        let row = index as u32;
        let parts = parts(rows, index, kind, options.compare);
        let mut texts = as_parts(&parts);
        sketcher.keys(&texts, &mut keys);
        batch.pairs.extend(keys.iter().map(|&key| (key, row)));
        if options.finds_contradictions(kind) {
            // Where its opposites are: they have the same parts, the answers swapped.
            texts.swap(1, 2);
            sketcher.keys(&texts, &mut keys);
            batch.pairs.extend(keys.iter().map(|&key| (key, row)));
        }
        if kind == Kind::Preference
            && let Some(similarity) = likeness_of_answers(rows, index, options.threshold)
        {
            batch.no_signal.push((row, similarity));
        }
        match options.keep {
            Keep::First => {}
            Keep::Longest => batch.wishes.push(!parts.iter().map(|part| part.len() as u64).sum::<u64>()),
            Keep::BestScore => batch.wishes.push(!rank(rows.score_chosen(index))),
        }
    }
    Ok(batch)
}

/// A score in the order of [`f64::total_cmp`]; what is no number comes below all that are.
fn rank(score: Option<f64>) -> u64 {
    let score = number_or_least(score);
    let bits = score.to_bits();
    if score.is_sign_negative() { !bits } else { bits | 1 << 63 }
}

/// The Jaccard index of the two answers of a preference, if it reaches the threshold.
fn likeness_of_answers(rows: &RowsView<'_>, index: usize, threshold: f64) -> Option<f64> {
    let document = Document::new(words(rows, index, Kind::Preference, Compare::Assistant));
    let similarity = document.jaccard(0, &document, 1);
    (similarity >= threshold).then_some(similarity)
}

/// A row whose words are needed: its number in the batch, its id, the words.
pub(super) type Needed = (u32, String, Vec<u8>);

/// What the second pass takes from a batch.
#[derive(Default)]
pub(in crate::stage) struct BatchTexts {
    pub(super) rows: Vec<Needed>,
    pub(super) prompts: Vec<(u32, Vec<u8>)>,
    pub(super) prompt_pairs: Vec<Pair>,
    /// First rows of their prompts that the hash puts into the test set.
    pub(super) tests: Vec<u32>,
}

/// The words of the rows for which `is_member` is true, and the sketches and words of the prompts of those for which
/// `is_first` is.
pub(super) fn texts(
    rows: &RowsView<'_>,
    kind: Kind,
    compare: Compare,
    bands: Bands,
    is_member: impl Fn(u32) -> bool,
    is_first: impl Fn(u32) -> bool,
    is_test: impl Fn(&str) -> bool,
) -> BatchTexts {
    let (mut sketcher, mut keys) = (Sketcher::new(bands), Vec::new());
    let mut batch = BatchTexts::default();
    for index in 0..rows.len() {
        let row = index as u32;
        if is_member(row) {
            batch.rows.push((row, rows.id(index).to_string(), words(rows, index, kind, compare)));
        }
        if is_first(row) {
            let prompt = prompt(rows, index);
            if is_test(prompt) {
                batch.tests.push(row);
            }
            sketcher.keys(&[prompt], &mut keys);
            if !keys.is_empty() {
                batch.prompt_pairs.extend(keys.iter().map(|&key| (key, row)));
                let mut words = Vec::new();
                normalize(&[prompt], &mut words);
                batch.prompts.push((row, words));
            }
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_ranked_as_they_compare() {
        let scores = [f64::NEG_INFINITY, -7.5, -0.0, 0.0, 1e-300, 2.0, 8.5, f64::INFINITY];
        assert!(scores.is_sorted_by(|a, b| rank(Some(*a)) < rank(Some(*b))));
        for nothing in [None, Some(f64::NAN), Some(-f64::NAN)] {
            assert_eq!(rank(nothing), rank(Some(f64::NEG_INFINITY)));
        }
    }
}
