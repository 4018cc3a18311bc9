//! The files of the dedup stage: rows that stay, rows that go with the reason, and the clusters.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Builder, RecordBatch, StringBuilder, UInt32Builder};

use super::bits::Bits;
use super::contamination::{Closest, Findings};
use super::dedup::{carrying_view, view};
use super::fate::Fate;
use super::fates::Fates;
use super::near::log::LogWriter;
use super::near::scratch::Scratch;
use super::near::{Compare, Found, NearOptions};
use super::{Counts, below};
use crate::dedup::near::Policy;
use crate::error::Result;
use crate::manifest::Manifest;
use crate::record::Kind;
use crate::schema::{self, Reject, RowsBuilder, RowsView};
use crate::shard::{Framing, ParquetWriter, PartWriter};

// The reasons of the stage.
const CONTAMINATED: &str = "contaminated";
pub(super) const EXACT_DUPLICATE: &str = "exact_duplicate";
const CONSTANT_ANSWER: &str = "constant_answer";
pub(super) const NEAR_DUPLICATE: &str = "near_duplicate";
const NEAR_DUPLICATE_PROMPT: &str = "near_duplicate_prompt";
const NO_SIGNAL: &str = "no_signal";
const CONTRADICTION: &str = "contradiction";

/// What the last pass writes.
pub(super) struct Output<'a> {
    kind: Kind,
    carry: Vec<String>,
    fates: &'a mut Fates,
    found: Option<&'a Found>,
    findings: Option<&'a Findings>,
    closest: Option<Closest<'a>>,
    near: NearOptions,
    /// Rows of which exact copies go, and their ids; they come before what they replace.
    has_copies: Bits,
    kept_ids: LogWriter,
    rows: PartWriter,
    rejects: PartWriter,
    clusters: Option<Clusters>,
    counts: Counts,
    sides: [u64; 2],
    pub(super) text_bytes: u64,
}

impl<'a> Output<'a> {
    pub(super) fn create(
        folder: &Path,
        (kind, carry): (Kind, &[String]),
        fates: &'a mut Fates,
        found: Option<&'a Found>,
        findings: Option<&'a Findings>,
        near: NearOptions,
        scratch: &Scratch,
    ) -> Result<Self> {
        let mut has_copies = Bits::new(fates.len());
        for row in fates.gone() {
            if let Fate::Exact { of, .. } = fates.get(row)? {
                has_copies.set(of, true);
            }
        }
        let clusters = found.map(|_| Clusters::create(folder)).transpose()?;
        Ok(Output {
            kind,
            carry: carry.to_vec(),
            closest: findings.map(|findings| Closest::new(findings, fates)),
            fates,
            found,
            findings,
            near,
            has_copies,
            kept_ids: LogWriter::create(scratch, "kept-ids")?,
            rows: PartWriter::create(folder, schema::carrying(&schema::split_rows(kind), carry), Framing::File)?,
            rejects: PartWriter::create(
                &folder.join("rejects"),
                schema::carrying(&schema::rejects(kind), carry),
                Framing::File,
            )?,
            clusters,
            counts: Counts::default(),
            sides: [0; 2],
            text_bytes: 0,
        })
    }

    pub(super) fn write(&mut self, first: u32, kept: &RecordBatch, batch: &RecordBatch) -> Result<()> {
        let rows = carrying_view(batch, self.kind, &self.carry)?;
        let mut rejects = RowsBuilder::new(self.kind).carrying(&self.carry);
        for index in 0..rows.len() {
            let number = first + index as u32;
            if self.has_copies.get(number) {
                self.kept_ids.push(number, rows.id(index).as_bytes())?;
            }
            if let Some(closest) = &mut self.closest {
                closest.see(number, &rows, index);
            }
            let fate = self.fates.get(number)?;
            if let Some(reject) = self.reject(fate, &rows, index)? {
                self.counts.drop(reject.reason);
                rejects.push_reject(&reject);
            }
            if let (Some(found), Some(clusters)) = (self.found, &mut self.clusters) {
                clusters.push(number, rows.id(index), fate, found)?;
            }
        }
        self.counts.rows_in += batch.num_rows() as u64;
        self.counts.rows_out += kept.num_rows() as u64;
        let sides = view(kept, self.kind)?;
        let test = (0..sides.len()).filter(|&index| sides.split(index) == Some("test")).count() as u64;
        self.sides[0] += kept.num_rows() as u64 - test;
        self.sides[1] += test;
        self.rows.write(kept)?;
        self.rejects.write(&rejects.finish_rejects())?;
        self.clusters.as_mut().map_or(Ok(()), Clusters::write)
    }

    /// The row as a reject, if it goes.
    fn reject(&mut self, fate: Fate, rows: &RowsView<'_>, index: usize) -> Result<Option<Reject>> {
        let (reason, detail, kept_id) = match fate {
            Fate::Keep => return Ok(None),
            Fate::Contaminated { finding } => {
                let detail = self.findings.map(|findings| findings.detail(finding, rows, index));
                (CONTAMINATED, detail.unwrap_or_default(), None)
            }
            Fate::Exact { of, kept } => {
                let same = "equal but for case, white space and punctuation marks";
                let of_id = String::from_utf8_lossy(&self.kept_ids.read(of)?).into_owned();
                if of == kept {
                    (EXACT_DUPLICATE, same.to_string(), Some(of_id))
                } else {
                    let detail = format!("{same} to `{of_id}`, a near-duplicate of the row that stays");
                    (EXACT_DUPLICATE, detail, Some(self.id(kept)?))
                }
            }
            Fate::Constant { prompts } => {
                (CONSTANT_ANSWER, format!("the same answer is given to {prompts} different prompts"), None)
            }
            Fate::NoSignal { similarity } => {
                (NO_SIGNAL, format!("similarity {similarity:.4} between `chosen` and `rejected`"), None)
            }
            Fate::Near { kept, similarity } if !self.fates.stays(kept) => {
                let opposite = match self.fates.get(kept)? {
                    Fate::Contradiction { other, .. } => {
                        format!(", to which `{}` prefers the opposite", self.id(other)?)
                    }
                    _ => String::new(), // nothing else takes a row that stays for others
                };
                (CONTRADICTION, format!("similarity {similarity:.4} to `{}`{opposite}", self.id(kept)?), None)
            }
            Fate::Near { kept, similarity } => {
                let compare = self.near.compare;
                let chained = self.near.policy == Policy::Component && similarity < self.near.threshold;
                let way = if chained { ", connected by other rows" } else { "" };
                let detail = format!("similarity {similarity:.4} over the {}{way}", compare.as_str());
                (near_reason(self.kind, compare), detail, Some(self.id(kept)?))
            }
            Fate::Contradiction { other, similarity } => {
                let detail = format!("`{}` prefers the opposite, similarity {similarity:.4}", self.id(other)?);
                (CONTRADICTION, detail, None)
            }
        };
        let mut reject = Reject::of(rows.row(index), reason, detail);
        reject.kept_id = kept_id;
        Ok(Some(reject))
    }

    fn id(&self, row: u32) -> Result<String> {
        self.found.map_or(Ok(String::new()), |found| found.id(row))
    }

    pub(super) fn finish(self, folder: &Path, manifest: &mut Manifest) -> Result<()> {
        manifest.files = self.rows.finish()?;
        manifest.files.extend(below("rejects", self.rejects.finish()?));
        if let Some(clusters) = self.clusters {
            manifest.files.push(clusters.file.finish()?);
        }
        if let Some(closest) = self.closest {
            manifest.files.push(closest.finish(folder)?);
        }
        manifest.counts = self.counts.to_value();
        manifest.counts["train"] = self.sides[0].into();
        manifest.counts["test"] = self.sides[1].into();
        manifest.counts["text_bytes"] = self.text_bytes.into();
        Ok(())
    }
}

/// Preferences with near-equal prompts have a reason of their own: their answers may differ.
fn near_reason(kind: Kind, compare: Compare) -> &'static str {
    match (kind, compare) {
        (Kind::Preference, Compare::Prompt) => NEAR_DUPLICATE_PROMPT,
        _ => NEAR_DUPLICATE,
    }
}

/// Collects the rows of `clusters.parquet`.
struct Clusters {
    file: ParquetWriter,
    id: StringBuilder,
    cluster: UInt32Builder,
    representative: StringBuilder,
    similarity: Float64Builder,
}

impl Clusters {
    fn create(folder: &Path) -> Result<Self> {
        Ok(Clusters {
            file: ParquetWriter::create(&folder.join("clusters.parquet"), schema::clusters())?,
            id: StringBuilder::new(),
            cluster: UInt32Builder::new(),
            representative: StringBuilder::new(),
            similarity: Float64Builder::new(),
        })
    }

    /// Adds a row if it is of a cluster.
    fn push(&mut self, row: u32, id: &str, fate: Fate, found: &Found) -> Result<()> {
        let (kept, similarity) = match fate {
            Fate::Near { kept, similarity } => (kept, similarity),
            Fate::Keep => (row, 1.0),
            _ => return Ok(()),
        };
        let Some(cluster) = found.representatives.number(kept) else { return Ok(()) };
        self.id.append_value(id);
        self.cluster.append_value(cluster);
        self.representative.append_value(if kept == row { id.to_string() } else { found.id(kept)? });
        self.similarity.append_value(similarity);
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.id.finish()),
            Arc::new(self.cluster.finish()),
            Arc::new(self.representative.finish()),
            Arc::new(self.similarity.finish()),
        ];
        self.file.write(&schema::batch(schema::clusters(), columns))
    }
}
