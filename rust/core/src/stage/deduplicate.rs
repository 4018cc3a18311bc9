//! Duplicates in one column of a table in memory, by the rules of the stage [`dedup`](super::dedup): of texts, or of chats.
//!
//! The column is gone through twice, piece by piece, so that nothing of it is copied but the words of the rows that must be
//! compared. The numbers of the bands take 16 bytes each, 320 bytes a row by default; `memory_limit` does not count here.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, new_empty_array};
use arrow::datatypes::{Field, Schema};

use super::dedup::DedupOptions;
use super::dedup_output::{EXACT_DUPLICATE, NEAR_DUPLICATE};
use super::in_memory::Table;
use super::near::{Compare, NearOptions};
use super::{Observer, Progress, Ticker, ordered};
use crate::dedup::exact::{self, ConstantAnswer, Fate, Keys};
use crate::dedup::near::block::Blocks;
use crate::dedup::near::document::{Document, normalize};
use crate::dedup::near::join::{Join, Match};
use crate::dedup::near::sketch::Sketcher;
use crate::dedup::near::{Keep, Policy, by_score};
use crate::error::{Error, Result};
use crate::read::{Spoken, Values, pieces, utf8};
use crate::record::{Kind, Role};

/// Bytes that the comparison of one block may take, when all texts are in memory anyway.
const BUDGET: usize = 1 << 28;
/// A thread takes up so many blocks at a time.
const BLOCKS_AT_A_TIME: usize = 64;

/// What [`deduplicate`] gives.
#[derive(Clone, Debug)]
pub struct Deduplicated {
    /// One row for each row that goes, in order: `row`, `kept_row`, `reason` and `similarity`.
    pub dropped: Table,
    /// For each row whether it stays.
    pub stays: BooleanArray,
}

/// The rows of a column that say what another row says, or nearly so. `scores` are those of the rows, for
/// [`Keep::BestScore`].
///
/// # Errors
/// The column holds neither texts nor chats, strings that are not UTF-8, or a chat that lacks a role or a content; or there
/// are too many rows. `file` is what the table is called in these errors.
pub fn deduplicate(
    file: &str,
    (field, column): (&Field, &[ArrayRef]),
    scores: &[Option<f64>],
    options: &DedupOptions,
    workers: usize,
    observer: Observer<'_>,
) -> Result<Deduplicated> {
    let rows: usize = column.iter().map(Array::len).sum();
    if u32::try_from(rows).is_err() {
        return Err(Error::Format {
            path: file.into(),
            message: format!("it has more than {} rows: {rows}", u32::MAX),
            hint: "give it in parts".into(),
        });
    }
    let mut ticker = Ticker::new(observer);
    let (file, name) = (&Arc::<str>::from(file), field.name());
    column.iter().try_for_each(|array| utf8::check(file, Some(name), array))?;
    Values::new(&new_empty_array(field.data_type()), name, file, 0).check()?; // also where there are no rows
    let job = Job { file, name, column, near: &options.near, workers, rows };
    let known = job.know(&mut ticker)?;
    let once = exact::Options {
        exact: options.exact.exact,
        constant_answer: ConstantAnswer { enabled: false, ..ConstantAnswer::default() },
    };
    let mut found: Vec<Option<Found>> = known.keys.decide(&once).into_iter().map(Found::exact).collect();
    if options.near.enabled {
        for Match { row, other, similarity } in job.near(known.bands, &known.lengths, scores, &found, &mut ticker)? {
            found[row as usize] = Some(Found { kept: other, similarity: Some(similarity) });
        }
        // A copy of a row that goes names the one that stays.
        for row in 0..rows {
            if let Some(Found { kept, similarity: None }) = found[row]
                && let Some(stays) = found[kept as usize]
            {
                found[row] = Some(Found { kept: stays.kept, similarity: None });
            }
        }
    }
    Ok(tables(&found))
}

/// Why a row goes.
#[derive(Clone, Copy)]
struct Found {
    kept: u32,
    /// None of exact duplicates.
    similarity: Option<f64>,
}

impl Found {
    fn exact(fate: Fate) -> Option<Found> {
        if let Fate::Duplicate { of } = fate { Some(Found { kept: of, similarity: None }) } else { None }
    }
}

fn tables(found: &[Option<Found>]) -> Deduplicated {
    let dropped = || (0i64..).zip(found).filter_map(|(row, found)| Some((row, (*found)?)));
    let reason = |found: Found| if found.similarity.is_some() { NEAR_DUPLICATE } else { EXACT_DUPLICATE };
    let columns: [(&str, ArrayRef); 4] = [
        ("row", Arc::new(dropped().map(|(row, _)| row).collect::<Int64Array>())),
        ("kept_row", Arc::new(dropped().map(|(_, found)| i64::from(found.kept)).collect::<Int64Array>())),
        ("reason", Arc::new(dropped().map(|(_, found)| Some(reason(found))).collect::<StringArray>())),
        ("similarity", Arc::new(dropped().map(|(_, found)| found.similarity).collect::<Float64Array>())),
    ];
    let field = |(name, column): &(&str, ArrayRef)| Field::new(*name, column.data_type().clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    Deduplicated {
        dropped: Table::of(crate::schema::batch(schema, columns)),
        stays: found.iter().map(|found| Some(found.is_none())).collect(),
    }
}

/// What the rows are known by.
#[derive(Default)]
struct Known {
    /// Nulls are set aside.
    keys: Keys,
    /// The numbers of the bands, with the rows.
    bands: Vec<(u64, u32)>,
    /// Bytes of the compared text, for `keep: longest`.
    lengths: Vec<usize>,
}

/// What all passes share.
struct Job<'a> {
    file: &'a Arc<str>,
    name: &'a str,
    column: &'a [ArrayRef],
    near: &'a NearOptions,
    workers: usize,
    rows: usize,
}

impl Job<'_> {
    /// Goes through the column: `work` gets each piece with the number of its first row, on any thread; `write` what it made,
    /// in order.
    fn pass<O: Send>(
        &self,
        work: impl Fn(usize, &Values<'_>, usize) -> Result<O> + Sync,
        write: impl FnMut(O) -> Result<()> + Send,
        ticker: &mut Ticker<'_>,
    ) -> Result<()> {
        let values = |first, piece: &ArrayRef| Values::new(piece, self.name, self.file, first);
        ordered::for_each(
            self.workers,
            pieces(self.column).map(Ok),
            |(first, piece)| work(first, &values(first, &piece), piece.len()),
            write,
            || ticker.tick(Progress { stage: "dedup", done: 0, total: 0, rows: self.rows as u64 }),
        )
    }

    /// The first pass.
    fn know(&self, ticker: &mut Ticker<'_>) -> Result<Known> {
        let mut known = Known::default();
        let bands = self.near.bands()?;
        self.pass(
            |first, values, rows| {
                let (mut sketcher, mut numbers) = (Sketcher::new(bands), Vec::new());
                let (mut keys, mut pairs, mut lengths) = (Vec::with_capacity(rows), Vec::new(), Vec::new());
                for index in 0..rows {
                    let said = values.get(index)?;
                    keys.push(said.as_ref().map(key));
                    if !self.near.enabled {
                        continue;
                    }
                    let text = said.map(|said| self.compared(said));
                    lengths.push(text.as_ref().map_or(0, |text| text.as_ref().len()));
                    if let Some(text) = text {
                        sketcher.keys(&[text.as_ref()], &mut numbers);
                        pairs.extend(numbers.iter().map(|&number| (number, (first + index) as u32)));
                    }
                }
                Ok((keys, pairs, lengths))
            },
            |(keys, pairs, lengths)| {
                for key in keys {
                    known.keys.push(key.unwrap_or_default(), 0, [None, None]);
                    if key.is_none() {
                        known.keys.set_last_aside();
                    }
                }
                known.bands.extend(pairs);
                known.lengths.extend(lengths);
                Ok(())
            },
            ticker,
        )?;
        Ok(known)
    }

    /// The text of a row that makes near-duplicates.
    fn compared<'v>(&self, said: Spoken<'v>) -> std::borrow::Cow<'v, str> {
        let messages = match said {
            Spoken::Text(text) => return text.into(),
            Spoken::Chat(messages) => messages,
        };
        let counts = |role: Role| match self.near.compare {
            Compare::Conversation => role != Role::System,
            Compare::Assistant => role == Role::Assistant,
            Compare::Prompt => role == Role::User,
        };
        let turns = messages.iter().filter(|message| counts(message.role)).map(|message| message.content.as_str());
        turns.collect::<Vec<_>>().join("\n").into()
    }

    /// Which of the rows that are left are near-duplicates of one that stays.
    fn near(
        &self,
        mut bands: Vec<(u64, u32)>,
        lengths: &[usize],
        scores: &[Option<f64>],
        found: &[Option<Found>],
        ticker: &mut Ticker<'_>,
    ) -> Result<Vec<Match>> {
        bands.retain(|&(_, row)| found[row as usize].is_none());
        bands.sort_unstable();
        let mut blocks = Blocks::new(self.rows);
        for same in bands.chunk_by(|a, b| a.0 == b.0) {
            same[1..].iter().for_each(|&(_, row)| blocks.join(same[0].1, row));
        }
        drop(bands);
        let (members, ends) = blocks.members();
        drop(blocks);
        let words = self.words(&members, ticker)?;

        // A block may take long, so the wish to stop is looked for at every row.
        let stop = AtomicBool::new(false);
        let compare = |number: usize| {
            let mut found = Vec::new();
            let mut start = if number == 0 { 0 } else { ends[number - 1] };
            for &end in &ends[number..ends.len().min(number + BLOCKS_AT_A_TIME)] {
                let mut block = members[start..end].to_vec();
                start = end;
                match self.near.keep {
                    Keep::First => {}
                    Keep::Longest => block.sort_by_key(|&row| Reverse(lengths[row as usize])),
                    Keep::BestScore => block.sort_by(|&a, &b| by_score(scores, a, b)),
                }
                let load = |row: u32| {
                    if stop.load(Ordering::Relaxed) {
                        return Err(Error::Interrupted);
                    }
                    Ok(Document::new(words[row as usize].clone()))
                };
                let mut join = Join { threshold: self.near.threshold, budget: BUDGET, rows: &block, load };
                match self.near.policy {
                    Policy::Direct => join.direct(&mut |found_one| found.push(found_one))?,
                    Policy::Component => join.component(&mut |found_one| found.push(found_one))?,
                }
            }
            Ok(found)
        };
        let mut matches = Vec::new();
        ordered::for_each(
            self.workers,
            (0..ends.len()).step_by(BLOCKS_AT_A_TIME).map(Ok),
            compare,
            |found| {
                matches.extend(found);
                Ok(())
            },
            || {
                let progress = Progress { stage: "dedup", done: 0, total: 0, rows: self.rows as u64 };
                ticker.tick(progress).inspect_err(|_| stop.store(true, Ordering::Relaxed))
            },
        )?;
        Ok(matches)
    }

    /// The second pass: the words of the rows that must be compared, and nothing of the others.
    fn words(&self, members: &[u32], ticker: &mut Ticker<'_>) -> Result<Vec<Vec<u8>>> {
        let mut is_member = vec![false; self.rows];
        for &row in members {
            is_member[row as usize] = true;
        }
        let mut words = Vec::with_capacity(self.rows);
        self.pass(
            |first, values, rows| {
                let words = (0..rows).map(|index| {
                    let mut words = Vec::new();
                    if is_member[first + index]
                        && let Some(said) = values.get(index)?
                    {
                        normalize(&[self.compared(said).as_ref()], &mut words);
                        words.shrink_to_fit();
                    }
                    Ok(words)
                });
                words.collect::<Result<Vec<_>>>()
            },
            |piece| {
                words.extend(piece);
                Ok(())
            },
            ticker,
        )?;
        Ok(words)
    }
}

/// The key by which exact duplicates are told; a text is what a user says.
fn key(said: &Spoken<'_>) -> u128 {
    let turns = match said {
        Spoken::Text(text) => vec![(Role::User.as_str(), *text)],
        Spoken::Chat(messages) => messages.iter().map(|turn| (turn.role.as_str(), turn.content.as_str())).collect(),
    };
    exact::keys_of(Kind::Chat, &[turns], u32::MAX).0
}
