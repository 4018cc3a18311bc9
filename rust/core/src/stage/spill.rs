//! Encoded documents on the disk, until it is known which of them share a packed row.
//!
//! In memory stay twelve bytes a document: where it lies and how long it is.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::encode::Document;
use crate::error::{Error, Result};

/// What is known of a document besides its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// The row that it comes from.
    pub(super) id: String,
    /// Whether it was cut to the packed length.
    pub(super) truncated: bool,
    /// The values of the row's columns that are carried along.
    pub(super) carried: Vec<Option<String>>,
}

/// Bytes of the numbers that a document begins with.
const HEAD: usize = 20;

/// Documents being written, in order.
pub(super) struct Spill {
    path: PathBuf,
    file: BufWriter<File>,
    ends: Vec<u64>,
    lengths: Vec<u32>,
}

impl Spill {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
        let file = file.map_err(Error::io("create", path))?;
        Ok(Spill {
            path: path.to_path_buf(),
            file: BufWriter::with_capacity(1 << 18, file),
            ends: Vec::new(),
            lengths: Vec::new(),
        })
    }

    /// Appends a document: its id, then runs of equal mask, then its tokens, then what it carries: of each value one more
    /// than its length, 0 for none, and its bytes.
    pub(super) fn push(&mut self, document: &Document, origin: &Origin) -> Result<()> {
        let runs = document.mask.chunk_by(|a, b| a == b).map(|run| run.len() as u32);
        let runs: Vec<u32> = runs.collect();
        let first = document.mask.first().copied().unwrap_or(0);
        let head = [origin.id.len(), usize::from(origin.truncated), first.into(), runs.len(), document.ids.len()]
            .map(|n| n as u32);
        let mut bytes = Vec::with_capacity(HEAD + origin.id.len() + 4 * (runs.len() + document.ids.len()));
        bytes.extend(head.iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend(origin.id.as_bytes());
        bytes.extend(runs.iter().chain(&document.ids).flat_map(|number| number.to_le_bytes()));
        for value in &origin.carried {
            let value = value.as_deref();
            bytes.extend(value.map_or(0, |value| value.len() as u32 + 1).to_le_bytes());
            bytes.extend(value.unwrap_or_default().as_bytes());
        }
        self.file.write_all(&bytes).map_err(Error::io("write", &self.path))?;
        self.ends.push(self.ends.last().unwrap_or(&0) + bytes.len() as u64);
        self.lengths.push(document.ids.len() as u32);
        Ok(())
    }

    /// Ends the writing.
    pub(super) fn finish(self) -> Result<Spilled> {
        let file = self.file.into_inner().map_err(|error| Error::io("write", &self.path)(error.into_error()))?;
        Ok(Spilled { path: self.path, file, ends: self.ends, lengths: self.lengths })
    }
}

/// Documents that can be read in any order, by any thread.
pub(super) struct Spilled {
    path: PathBuf,
    file: File,
    ends: Vec<u64>,
    lengths: Vec<u32>,
}

impl Spilled {
    /// Tokens of each document.
    pub(super) fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    /// A document.
    pub(super) fn read(&self, number: u32, buffer: &mut Vec<u8>) -> Result<(Document, Origin)> {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        buffer.resize((self.ends[number] - start) as usize, 0);
        self.file.read_exact_at(buffer, start).map_err(Error::io("read", &self.path))?;
        let (head, rest) = buffer.split_at(HEAD);
        let head: Vec<u32> = numbers(head).collect();
        let (id, rest) = rest.split_at(head[0] as usize);
        let (runs, rest) = rest.split_at(4 * head[3] as usize);
        let (ids, mut rest) = rest.split_at(4 * head[4] as usize);
        let mut document = Document { ids: numbers(ids).collect(), mask: Vec::with_capacity(ids.len() / 4), lost: 0 };
        let mut value = head[2] as u8;
        for run in numbers(runs) {
            document.mask.resize(document.mask.len() + run as usize, value);
            value = 1 - value;
        }
        let mut carried = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk() {
            let length = u32::from_le_bytes(*length) as usize;
            let (value, after) = after.split_at(length.saturating_sub(1));
            carried.push((length > 0).then(|| String::from_utf8_lossy(value).into_owned()));
            rest = after;
        }
        let origin = Origin { id: String::from_utf8_lossy(id).into_owned(), truncated: head[1] == 1, carried };
        Ok((document, origin))
    }
}

impl Drop for Spilled {
    fn drop(&mut self) {
        // The stage's folder must hold only what its manifest names; should this fail, the rename takes it along unseen.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_come_back_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spill");
        let mut spill = Spill::create(&path).unwrap();
        let documents: Vec<(Document, Origin)> = (0..50u32)
            .map(|n| {
                let mask = (0..n).map(|i| u8::from(i % (n / 3 + 1) > 1)).collect();
                let carried = vec![Some("é".repeat(n as usize % 3)), None].split_off(n as usize % 2);
                let origin = Origin { id: format!("id-{n}"), truncated: n % 2 == 0, carried };
                (Document { ids: (0..n).map(|i| i * 31 + n).collect(), mask, lost: 0 }, origin)
            })
            .collect();
        for (document, origin) in &documents {
            spill.push(document, origin).unwrap();
        }
        let spilled = spill.finish().unwrap();
        let mut buffer = Vec::new();
        for number in (0..50).rev() {
            assert_eq!(spilled.read(number, &mut buffer).unwrap(), documents[number as usize]);
        }
        assert_eq!(spilled.lengths()[7], 7);
        drop(spilled);
        assert!(!path.exists());
    }
}
