//! The words of the rows that must be compared, on the disk, to be read in any order by any thread.
//!
//! In memory stay twelve bytes a row. Every record has a checksum.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use xxhash_rust::xxh3::xxh3_64;

use super::scratch::{Scratch, ScratchFile, damaged};
use crate::dedup::near::document::Document;
use crate::error::{Error, Result};

/// Records being written, in the order of their rows.
pub(super) struct TextsWriter {
    file: ScratchFile,
    rows: Vec<u32>,
    ends: Vec<u64>,
}

impl TextsWriter {
    pub(super) fn create(scratch: &Scratch, name: &str) -> Result<Self> {
        Ok(TextsWriter { file: scratch.create(name)?, rows: Vec::new(), ends: Vec::new() })
    }

    /// Appends a row: its id, and its words as [`crate::dedup::near::document::normalize`] gives them.
    pub(super) fn push(&mut self, row: u32, id: &str, words: &[u8]) -> Result<()> {
        let mut record = Vec::with_capacity(12 + id.len() + words.len());
        record.extend_from_slice(&[0; 8]);
        record.extend_from_slice(&(id.len() as u32).to_le_bytes());
        record.extend_from_slice(id.as_bytes());
        record.extend_from_slice(words);
        let sum = xxh3_64(&record[8..]);
        record[..8].copy_from_slice(&sum.to_le_bytes());
        self.file.write(&record)?;
        self.rows.push(row);
        self.ends.push(self.ends.last().unwrap_or(&0) + record.len() as u64);
        Ok(())
    }

    /// Ends the writing.
    pub(super) fn finish(self) -> Result<Texts> {
        let (path, file) = self.file.finish()?;
        Ok(Texts { path, file, rows: self.rows, ends: self.ends })
    }
}

/// Records that can be read.
pub(super) struct Texts {
    path: PathBuf,
    file: File,
    rows: Vec<u32>,
    ends: Vec<u64>,
}

impl Texts {
    /// The sets of a row.
    pub(super) fn document(&self, row: u32) -> Result<Document> {
        let mut record = self.record(row)?;
        record.drain(..12 + id_length(&record));
        Ok(Document::new(record))
    }

    /// The id of a row.
    pub(super) fn id(&self, row: u32) -> Result<String> {
        let record = self.record(row)?;
        Ok(String::from_utf8_lossy(&record[12..12 + id_length(&record)]).into_owned())
    }

    fn record(&self, row: u32) -> Result<Vec<u8>> {
        let place = self.rows.binary_search(&row).map_err(|_| damaged(&self.path))?;
        let start = if place == 0 { 0 } else { self.ends[place - 1] };
        let mut record = vec![0; (self.ends[place] - start) as usize];
        match self.file.read_exact_at(&mut record, start) {
            Err(source) if source.kind() == std::io::ErrorKind::UnexpectedEof => return Err(damaged(&self.path)),
            other => other.map_err(Error::io("read", &self.path))?,
        }
        if xxh3_64(&record[8..]).to_le_bytes() != record[..8] {
            return Err(damaged(&self.path));
        }
        Ok(record)
    }
}

fn id_length(record: &[u8]) -> usize {
    record[8..].first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::super::scratch::in_scratch;
    use super::*;

    #[test]
    fn records_come_back_in_any_order_and_damage_is_named() {
        in_scratch(|scratch| {
            let mut writer = TextsWriter::create(scratch, "texts")?;
            for row in (0..100).step_by(3) {
                writer.push(row, &format!("id-{row}"), "word ".repeat(row as usize).as_bytes())?;
            }
            let texts = writer.finish()?;
            for row in (0..100).step_by(3).rev() {
                assert_eq!(texts.id(row)?, format!("id-{row}"));
                assert!(texts.document(row)?.is_empty());
            }
            assert!(texts.id(1).is_err());
            let at = texts.ends[20] + 30;
            let mut byte = [0];
            texts.file.read_exact_at(&mut byte, at).unwrap();
            File::options().write(true).open(&texts.path).unwrap().write_all_at(&[byte[0] ^ 1], at).unwrap();
            assert!(texts.document(60).is_ok());
            let message = texts.document(63).unwrap_err().to_string();
            assert!(message.contains("texts`: its checksum does not fit"), "{message}");
            Ok(())
        })
        .unwrap();
    }
}
