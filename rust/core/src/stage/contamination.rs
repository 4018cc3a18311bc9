//! Benchmarks, the rows of the data that hold texts of them, and the rows that nearly do.
//!
//! The index of the benchmarks is in memory while the first pass goes over the rows. What stays for the later ones are 28
//! bytes for each row that holds a run of words of a benchmark, and where in its file each text stands.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Builder, Int64Builder, StringBuilder};
use serde::Serialize;
use serde_json::{Value, json};

use super::fates::Fates;
use super::{Progress, Ticker};
use crate::dedup::contamination::{Builder, Full, Hit, Index, Options, stretch};
use crate::error::{Error, Result};
use crate::manifest::{FileEntry, fingerprint};
use crate::read::{Input, InputFile, find_files, for_each_text};
use crate::schema::{self, RowsView};
use crate::shard::ParquetWriter;

/// What stays in memory for a row.
pub(super) const BYTES_PER_ROW: u64 = size_of::<Finding>() as u64;
/// Rows listed of those that stay and hold the most.
const CLOSEST: usize = 100;
/// Characters shown of a stretch of text.
const SHOWN: usize = 300;

/// What the user names: a file of a benchmark, or a folder of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Benchmark {
    /// Where it lies.
    pub path: PathBuf,
    /// The fields that hold its texts; none for all that have a usual name.
    pub fields: Vec<String>,
}

/// The files of all benchmarks.
pub(super) struct Benchmarks<'a> {
    files: Vec<(InputFile, Option<&'a [String]>)>,
}

impl<'a> Benchmarks<'a> {
    /// The files that are named.
    pub(super) fn find(benchmarks: &'a [Benchmark]) -> Result<Self> {
        let mut files = Vec::new();
        for Benchmark { path, fields } in benchmarks {
            let fields = (!fields.is_empty()).then_some(fields.as_slice());
            let found = find_files(&[Input { path: path.clone(), name: None, note: None }])?;
            files.extend(found.into_iter().map(|file| (file, fields)));
        }
        Ok(Benchmarks { files })
    }

    /// Sizes and hashes, for the stage's manifest.
    pub(super) fn entries(&self, ticker: &mut Ticker<'_>) -> Result<Vec<FileEntry>> {
        let hashing = |done| Progress { stage: "dedup", done, total: 0, rows: 0 };
        let entry = |file: &InputFile| fingerprint(file.path(), &file.name, &mut |done| ticker.tick(hashing(done)));
        self.files.iter().map(|(file, _)| file).map(entry).collect()
    }

    /// Reads the texts; none if there are no files. The index may take half of the memory.
    pub(super) fn load(
        &self,
        options: Options,
        memory_limit: u64,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<(Index, Findings)>> {
        if self.files.is_empty() {
            return Ok(None);
        }
        let (builder, mut findings) = self.read(options, memory_limit, tick)?;
        let index = builder.finish();
        for (number, place) in (0..).zip(&findings.places) {
            if !index.looks_for(number) {
                findings.files[place.file as usize].too_common += 1;
            }
            findings.counted.push(index.counted(number));
        }
        Ok(Some((index, findings)))
    }

    /// Reads the texts and where they stand.
    fn read(
        &self,
        options: Options,
        memory_limit: u64,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<(Builder, Findings)> {
        let mut builder = Builder::new(options);
        let mut findings = Findings { options, ..Findings::default() };
        let mut numbers: HashMap<String, u32> = HashMap::new();
        for (at, (file, fields)) in self.files.iter().enumerate() {
            let mut counts = FileCounts { name: file.name.clone(), ..FileCounts::default() };
            for_each_text(file, *fields, &mut |text| {
                tick()?;
                counts.texts += 1;
                let too_much = |key: &str, message: &str, found: &str, way_out: &str| Error::Config {
                    key: key.into(),
                    message: format!("{message} at `{}`:{}{found}", file.name, text.row),
                    hint: format!(
                        "{way_out}name the fields that hold the questions alone in the configuration: `dedup: {{decontaminate: [{{path: FILE, fields: [NAME]}}]}}`"
                    ),
                };
                let added = builder.add(text.text).map_err(|Full| {
                    let message = "the texts of the benchmarks are more than four gigabytes";
                    too_much("dedup.decontaminate", message, "", "name fewer files, or ")
                })?;
                let Some(number) = added else {
                    counts.too_short += 1;
                    return Ok(());
                };
                if number as usize == findings.places.len() {
                    let next = numbers.len() as u32;
                    let field = *numbers.entry(text.field.to_string()).or_insert(next);
                    if field == next {
                        findings.fields.push(text.field.to_string());
                    }
                    findings.places.push(Place { file: at as u32, field, row: text.row });
                }
                if builder.bytes() as u64 > memory_limit / 2 {
                    let message = "the texts of the benchmarks take more than half of `dedup.memory_limit`";
                    let found = format!(", found: {memory_limit}");
                    return Err(too_much("dedup.memory_limit", message, &found, "give it more, or "));
                }
                Ok(())
            })?;
            findings.files.push(counts);
        }
        Ok((builder, findings))
    }
}

/// Reads all benchmarks to see that it can be done, and keeps nothing.
pub(super) fn try_out(
    benchmarks: &[Benchmark],
    options: Options,
    memory_limit: u64,
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    Benchmarks::find(benchmarks)?.read(options, memory_limit, tick).map(drop)
}

/// What became of a file's texts.
#[derive(Default)]
struct FileCounts {
    name: Arc<str>,
    texts: u64,
    too_short: u64,
    too_common: u64,
}

/// Where a text of a benchmark stands.
struct Place {
    file: u32,
    field: u32,
    row: u64,
}

/// That a row holds something of a text.
#[derive(Clone, Copy)]
pub(super) struct Finding {
    pub(super) row: u32,
    text: u32,
    matched: u32,
    /// Number of the message, through all lists of the row.
    message: u32,
    /// The words of the message of which the longest stretch is made.
    from: u32,
    to: u32,
    /// Whether the row goes.
    pub(super) is_enough: bool,
}

/// What the rows of a batch hold of the benchmarks, in order; rows are numbered from the batch's first.
pub(super) fn check(index: &Index, rows: &RowsView<'_>) -> Vec<Finding> {
    let mut checker = index.checker();
    let mut findings = Vec::new();
    for at in 0..rows.len() {
        let mut best = None;
        let messages = rows.lists().iter().flat_map(|list| list.get(at));
        for (message, (_, content)) in (0..).zip(messages) {
            if let Some(hit) = checker.check(content)
                && best.is_none_or(|(best, _)| hit.is_more_than(&best))
            {
                best = Some((hit, message));
            }
        }
        findings.extend(best.map(|(Hit { text, matched, is_enough, from, to, .. }, message)| Finding {
            row: at as u32,
            text,
            matched,
            message,
            from,
            to,
            is_enough,
        }));
    }
    findings
}

/// All rows that hold something, and what is needed to say so.
#[derive(Default)]
pub(super) struct Findings {
    options: Options,
    files: Vec<FileCounts>,
    fields: Vec<String>,
    places: Vec<Place>,
    counted: Vec<u32>,
    found: Vec<Finding>,
}

impl Findings {
    /// Adds what a batch holds whose first row has this number.
    pub(super) fn add(&mut self, first: u32, findings: Vec<Finding>) {
        self.found.extend(findings.into_iter().map(|finding| Finding { row: first + finding.row, ..finding }));
    }

    /// The rows that are contaminated, with the numbers of their findings.
    pub(super) fn contaminated(&self) -> impl Iterator<Item = (u32, u32)> {
        let numbered = (0..).zip(&self.found);
        numbered.filter(|(_, finding)| finding.is_enough).map(|(number, finding)| (finding.row, number))
    }

    fn coverage(&self, finding: &Finding) -> f64 {
        f64::from(finding.matched) / f64::from(self.counted[finding.text as usize])
    }

    /// The evidence, of the row of which it is.
    pub(super) fn detail(&self, number: u32, rows: &RowsView<'_>, index: usize) -> String {
        let finding = &self.found[number as usize];
        let place = &self.places[finding.text as usize];
        format!(
            "{:.4} of the {}-grams of `{}:{}`, field `{}`, are in message {}: `{}`",
            self.coverage(finding),
            self.options.ngram,
            self.files[place.file as usize].name,
            place.row,
            self.fields[place.field as usize],
            finding.message,
            matched(finding, rows, index)
        )
    }

    /// What is counted, for the manifest.
    pub(super) fn report(&self, fates: &Fates) -> Value {
        let mut rows = vec![0u64; self.files.len()];
        for (row, number) in self.contaminated() {
            debug_assert!(!fates.stays(row));
            rows[self.places[self.found[number as usize].text as usize].file as usize] += 1;
        }
        let files = self.files.iter().zip(rows).map(|(file, rows)| {
            json!({
                "name": &*file.name,
                "texts": file.texts,
                "too_short": file.too_short,
                "too_common": file.too_common,
                "contaminated_rows": rows,
            })
        });
        let closest = self.closest(fates).first().map(|&number| {
            let coverage = self.coverage(&self.found[number as usize]);
            (coverage * 1e6).round() / 1e6
        });
        json!({"benchmarks": files.collect::<Vec<_>>(), "closest_kept": closest})
    }

    /// Of the rows that stay those that hold the most, the first ones of equal coverage.
    fn closest(&self, fates: &Fates) -> Vec<u32> {
        let stays = |finding: &Finding| fates.stays(finding.row);
        let mut order: Vec<u32> =
            (0..).zip(&self.found).filter(|(_, finding)| stays(finding)).map(|(number, _)| number).collect();
        order.sort_by(|&a, &b| {
            let [a, b] = [a, b].map(|number| self.coverage(&self.found[number as usize]));
            b.total_cmp(&a)
        });
        order.truncate(CLOSEST);
        order
    }
}

/// The stretch of a row's text, on one line and not longer than a table bears.
fn matched(finding: &Finding, rows: &RowsView<'_>, index: usize) -> String {
    let mut messages = rows.lists().iter().flat_map(|list| list.get(index));
    let content = messages.nth(finding.message as usize).map_or("", |(_, content)| content);
    let text = stretch(content, finding.from, finding.to);
    let mut shown = String::new();
    for word in text.split_whitespace() {
        if !shown.is_empty() {
            shown.push(' ');
        }
        shown.push_str(word);
        if let Some((end, _)) = shown.char_indices().nth(SHOWN) {
            shown.truncate(end);
            shown.push('…');
            break;
        }
    }
    shown
}

/// Collects `closest.parquet`: its rows come by in the order of the data.
pub(super) struct Closest<'a> {
    findings: &'a Findings,
    /// Numbers of findings, by rank.
    order: Vec<u32>,
    /// Ranks of the rows, by the rows' numbers.
    ranks: HashMap<u32, usize>,
    /// Id and stretch, by rank.
    texts: Vec<(String, String)>,
}

impl<'a> Closest<'a> {
    pub(super) fn new(findings: &'a Findings, fates: &Fates) -> Self {
        let order = findings.closest(fates);
        let ranks = order.iter().map(|&number| findings.found[number as usize].row).zip(0..).collect();
        let texts = vec![(String::new(), String::new()); order.len()];
        Closest { findings, order, ranks, texts }
    }

    /// Takes what is needed of a row.
    pub(super) fn see(&mut self, row: u32, rows: &RowsView<'_>, index: usize) {
        if let Some(&rank) = self.ranks.get(&row) {
            let finding = &self.findings.found[self.order[rank] as usize];
            self.texts[rank] = (rows.id(index).to_string(), matched(finding, rows, index));
        }
    }

    /// Writes the file.
    pub(super) fn finish(self, folder: &Path) -> Result<FileEntry> {
        let (mut id, mut benchmark, mut field, mut text) =
            (StringBuilder::new(), StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
        let (mut coverage, mut row) = (Float64Builder::new(), Int64Builder::new());
        for (&number, (name, shown)) in self.order.iter().zip(&self.texts) {
            let finding = &self.findings.found[number as usize];
            let place = &self.findings.places[finding.text as usize];
            id.append_value(name);
            coverage.append_value(self.findings.coverage(finding));
            benchmark.append_value(&self.findings.files[place.file as usize].name);
            row.append_value(place.row.cast_signed());
            field.append_value(&self.findings.fields[place.field as usize]);
            text.append_value(shown);
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(id.finish()),
            Arc::new(coverage.finish()),
            Arc::new(benchmark.finish()),
            Arc::new(row.finish()),
            Arc::new(field.finish()),
            Arc::new(text.finish()),
        ];
        let mut file = ParquetWriter::create(&folder.join("closest.parquet"), schema::closest())?;
        file.write(&schema::batch(schema::closest(), columns))?;
        file.finish()
    }
}
