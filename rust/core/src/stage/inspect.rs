//! What files hold, before anything is done with them: shapes, rows, roles, lengths, scripts, and the first bad row.

use std::collections::BTreeMap;

use serde::Serialize;
use unicode_script::{Script, UnicodeScript};

use super::clean::ReadOptions;
use super::{Observer, Progress, Ticker, ordered};
use crate::error::{Error, Result};
use crate::read::{Chunk, Chunks, Input, InputFile, Position, find_files, find_shapes};
use crate::record::{Kind, Row};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Inspection {
    /// File by file, in the order in which they are read.
    pub files: Vec<InspectedFile>,
    /// Rows that can be read.
    pub rows: u64,
    /// Rows that cannot.
    pub bad_rows: u64,
    /// File, line, field, problem and hint of the first row that cannot be read.
    pub first_bad_row: Option<String>,
    /// Turns by role.
    pub turns_by_role: BTreeMap<&'static str, u64>,
    /// Characters by role.
    pub characters_by_role: BTreeMap<&'static str, u64>,
    /// Rows by the script of most of their letters; `none` where there is no letter.
    pub rows_by_script: BTreeMap<&'static str, u64>,
    /// Turns of a row.
    pub turns: Spread,
    /// Characters of a row.
    pub characters: Spread,
}

/// What one file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InspectedFile {
    /// As the user named it.
    pub name: String,
    /// Its shape; `None` if no row has the columns of one.
    pub shape: Option<&'static str>,
    /// `chat` or `preference`; `None` likewise.
    pub kind: Option<&'static str>,
    /// Rows that can be read.
    pub rows: u64,
    /// Rows that cannot.
    pub bad_rows: u64,
    /// How its rows were made, if they are not what stands in the file.
    pub note: Option<String>,
}

/// How values are spread; all zero where there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub min: u64,
    /// A tenth is not larger.
    pub p10: u64,
    /// Half is not larger.
    pub median: u64,
    /// Nine tenths are not larger.
    pub p90: u64,
    /// 99 of 100 are not larger.
    pub p99: u64,
    /// The largest.
    pub max: u64,
    /// The arithmetic mean.
    pub mean: f64,
}

impl Spread {
    fn of(mut values: Vec<u64>) -> Spread {
        values.sort_unstable();
        let Some(last) = values.len().checked_sub(1) else { return Spread::default() };
        // The nearest rank: a value that occurs.
        let at = |percent: usize| values[((values.len() * percent).div_ceil(100)).saturating_sub(1).min(last)];
        let mean = values.iter().sum::<u64>() as f64 / values.len() as f64;
        Spread { min: values[0], p10: at(10), median: at(50), p90: at(90), p99: at(99), max: values[last], mean }
    }
}

/// Reads `inputs` and says what they hold. Nothing is written; a row that cannot be read is counted.
pub fn inspect(inputs: &[Input], read: &ReadOptions, workers: usize, observer: Observer<'_>) -> Result<Inspection> {
    let mut ticker = Ticker::new(observer);
    let files = find_files(inputs)?;
    let shapes = find_shapes(&files, read.kind, read.shape)?;
    let mut total = 0;
    for file in &files {
        total += std::fs::metadata(file.path()).map_err(Error::io("read", file.path()))?.len();
    }
    let (position, mut found) = (Position::default(), Inspection::default());
    let (mut turns, mut characters) = (Vec::new(), Vec::new());
    for (file, shape) in files.into_iter().zip(shapes) {
        let mut part = Part::default();
        let (name, note) = (file.name.to_string(), file.note.clone());
        let file = file.of_shape(shape, read.kind.unwrap_or(Kind::Chat)).carrying(&read.carry)?;
        part.count(file, &position, workers, &mut |rows| {
            let done = position.get().min(total);
            ticker.tick(Progress { stage: "inspect", done, total, rows: found.rows + rows })
        })?;
        found.files.push(InspectedFile {
            name,
            shape: shape.map(crate::read::Shape::as_str),
            kind: shape.map(|shape| shape.kind().as_str()),
            rows: part.turns.len() as u64,
            bad_rows: part.bad_rows,
            note,
        });
        found.rows += part.turns.len() as u64;
        found.bad_rows += part.bad_rows;
        found.first_bad_row = found.first_bad_row.or(part.first_bad_row);
        add(&mut found.turns_by_role, &part.turns_by_role);
        add(&mut found.characters_by_role, &part.characters_by_role);
        add(&mut found.rows_by_script, &part.rows_by_script);
        turns.append(&mut part.turns);
        characters.append(&mut part.characters);
    }
    found.turns = Spread::of(turns);
    found.characters = Spread::of(characters);
    Ok(found)
}

fn add(into: &mut BTreeMap<&'static str, u64>, from: &BTreeMap<&'static str, u64>) {
    for (name, count) in from {
        *into.entry(name).or_default() += count;
    }
}

/// What a chunk holds, or several after one another.
#[derive(Default)]
struct Part {
    bad_rows: u64,
    first_bad_row: Option<String>,
    turns_by_role: BTreeMap<&'static str, u64>,
    characters_by_role: BTreeMap<&'static str, u64>,
    rows_by_script: BTreeMap<&'static str, u64>,
    turns: Vec<u64>,
    characters: Vec<u64>,
}

impl Part {
    fn count(
        &mut self,
        file: InputFile,
        position: &Position,
        workers: usize,
        tick: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let rows = std::sync::atomic::AtomicU64::new(0);
        ordered::for_each(
            workers,
            Chunks::new(vec![file], position.clone()),
            |chunk| Part::of(&chunk),
            |mut part| {
                self.bad_rows += part.bad_rows;
                self.first_bad_row = self.first_bad_row.take().or(part.first_bad_row);
                add(&mut self.turns_by_role, &part.turns_by_role);
                add(&mut self.characters_by_role, &part.characters_by_role);
                add(&mut self.rows_by_script, &part.rows_by_script);
                self.turns.append(&mut part.turns);
                self.characters.append(&mut part.characters);
                rows.store(self.turns.len() as u64, std::sync::atomic::Ordering::Relaxed);
                Ok(())
            },
            || tick(rows.load(std::sync::atomic::Ordering::Relaxed)),
        )
    }

    fn of(chunk: &Chunk) -> Result<Part> {
        let mut part = Part::default();
        chunk.for_each_row(&mut |row| {
            match row {
                Ok(row) => part.add_row(&row),
                Err(bad) => {
                    part.bad_rows += 1;
                    part.first_bad_row.get_or_insert_with(|| bad.error.to_string());
                }
            }
            Ok(())
        })?;
        Ok(part)
    }

    fn add_row(&mut self, row: &Row) {
        let mut letters = Letters::default();
        let (mut turns, mut characters) = (0, 0);
        for message in row.record.messages() {
            let length = letters.count(&message.content);
            let role = message.role.as_str();
            *self.turns_by_role.entry(role).or_default() += 1;
            *self.characters_by_role.entry(role).or_default() += length;
            turns += 1;
            characters += length;
        }
        self.turns.push(turns);
        self.characters.push(characters);
        *self.rows_by_script.entry(letters.most()).or_default() += 1;
    }
}

/// Letters by script.
#[derive(Default)]
struct Letters {
    latin: u64,
    others: BTreeMap<&'static str, u64>,
}

impl Letters {
    /// Counts the letters of a text; gives its characters.
    fn count(&mut self, text: &str) -> u64 {
        let mut characters = 0;
        // Nearly all letters are ASCII, and bytes of one kind are counted many at a time; a chunk's number fits into a byte.
        for chunk in text.as_bytes().chunks(128) {
            self.latin += u64::from(chunk.iter().map(|byte| u8::from(byte.is_ascii_alphabetic())).sum::<u8>());
            characters += u64::from(chunk.iter().map(|byte| u8::from(byte & 0xC0 != 0x80)).sum::<u8>());
        }
        if characters == text.len() as u64 {
            return characters;
        }
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte >= 0xC0);
        for character in starts.filter_map(|(at, _)| text.get(at..)?.chars().next()) {
            if character.is_alphabetic() {
                match character.script() {
                    Script::Latin => self.latin += 1,
                    Script::Common | Script::Inherited => {}
                    script => *self.others.entry(script.full_name()).or_default() += 1,
                }
            }
        }
        characters
    }

    /// The script of most letters; of equal counts the first by name.
    fn most(&self) -> &'static str {
        let latin = (self.latin > 0).then_some(("Latin", self.latin));
        let others = self.others.iter().map(|(name, count)| (*name, *count));
        let all = latin.into_iter().chain(others);
        all.min_by_key(|(name, count)| (std::cmp::Reverse(*count), *name)).map_or("none", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(text: &str) -> Inspection {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, text).unwrap();
        let inputs = [Input { path, name: Some("a".into()), note: None }];
        inspect(&inputs, &ReadOptions::default(), 2, &mut |_| Ok(())).unwrap()
    }

    #[test]
    fn what_a_file_holds() {
        let found = inspected(
            "{\"instruction\": \"Привет!\", \"output\": \"Hi, ты.\"}\n{\"instruction\": 3}\n{\"instruction\": \"12\", \"output\": \"34\"}\n",
        );
        assert_eq!((found.rows, found.bad_rows), (2, 1));
        assert_eq!(found.files[0].shape, Some("alpaca"));
        assert_eq!(found.first_bad_row.unwrap().lines().next(), Some("no field `output` at a:2"));
        assert_eq!(found.rows_by_script, BTreeMap::from([("Cyrillic", 1), ("none", 1)]));
        assert_eq!(found.characters_by_role, BTreeMap::from([("assistant", 9), ("user", 9)]));
        assert_eq!((found.characters.min, found.characters.max, found.turns.median), (4, 14, 2));
        let none = inspected("{\"a\": 1}\n");
        assert_eq!((none.files[0].shape, none.rows, none.bad_rows), (None, 0, 1));
        assert_eq!(none.characters, Spread::default());
    }

    #[test]
    fn letters_are_counted_as_one_by_one() {
        let every = ('\0'..=char::MAX).step_by(7).chain("Aa zZ".chars().cycle().take(700)).collect::<String>();
        for text in ["", "a", "é", "日本 x", &"ab1 é".repeat(300), &every] {
            let mut letters = Letters::default();
            assert_eq!(letters.count(text), text.chars().count() as u64);
            let of = |script| text.chars().filter(|c| c.is_alphabetic() && c.script() == script).count() as u64;
            assert_eq!(letters.latin, of(Script::Latin));
            assert_eq!(letters.others.get("Han").copied().unwrap_or(0), of(Script::Han));
            assert_eq!(letters.others.get("Common"), None);
        }
    }

    #[test]
    fn ranks_are_values_that_occur() {
        let spread = Spread::of((1..=200).rev().collect());
        assert_eq!(
            (spread.min, spread.p10, spread.median, spread.p90, spread.p99, spread.max),
            (1, 20, 100, 180, 198, 200)
        );
        assert_eq!(Spread::of(vec![7]).p99, 7);
    }
}
