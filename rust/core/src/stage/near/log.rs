//! One record for some of the rows, on the disk: written in the order of the rows, read in any order by any thread.
//!
//! A second file says where each record lies, so nothing stays in memory. Every record and every place has a checksum.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::scratch::{Scratch, ScratchFile, damaged};
use crate::error::{Error, Result};

/// Bytes of a record's place: where it starts, its length, its checksum and that of the place; zeros where a row has none.
const PLACE: usize = 24;

/// Records being written.
pub(in crate::stage) struct LogWriter {
    records: ScratchFile,
    places: ScratchFile,
    /// The first row whose place is not written yet.
    next: u32,
    end: u64,
}

impl LogWriter {
    pub(in crate::stage) fn create(scratch: &Scratch, name: &str) -> Result<Self> {
        let (records, places) = (scratch.create(name)?, scratch.create(&format!("{name}-places"))?);
        Ok(LogWriter { records, places, next: 0, end: 0 })
    }

    /// Appends the record of a row that comes after all others so far.
    pub(in crate::stage) fn push(&mut self, row: u32, record: &[u8]) -> Result<()> {
        debug_assert!(row >= self.next);
        self.records.write(record)?;
        for _ in self.next..row {
            self.places.write(&[0; PLACE])?;
        }
        self.places.write(&place(row, self.end, record.len() as u32, xxh3_64(record)))?;
        self.next = row + 1;
        self.end += record.len() as u64;
        Ok(())
    }

    /// The record of a row, while others are still being written.
    pub(in crate::stage) fn read(&mut self, row: u32) -> Result<Vec<u8>> {
        let (records, places) = (self.records.flushed()?, self.places.flushed()?);
        read(records, places, row)
    }

    /// Ends the writing.
    pub(in crate::stage) fn finish(self) -> Result<Log> {
        Ok(Log { records: self.records.finish()?, places: self.places.finish()? })
    }
}

fn place(row: u32, start: u64, length: u32, sum: u64) -> [u8; PLACE] {
    let mut place = [0; PLACE];
    place[..8].copy_from_slice(&start.to_le_bytes());
    place[8..12].copy_from_slice(&length.to_le_bytes());
    place[12..20].copy_from_slice(&sum.to_le_bytes());
    let own = xxh3_64_with_seed(&place[..20], row.into()) as u32;
    place[20..].copy_from_slice(&own.to_le_bytes());
    place
}

/// Records that can be read.
pub(in crate::stage) struct Log {
    records: (PathBuf, File),
    places: (PathBuf, File),
}

impl Log {
    /// The record of a row.
    pub(in crate::stage) fn read(&self, row: u32) -> Result<Vec<u8>> {
        read((&self.records.0, &self.records.1), (&self.places.0, &self.places.1), row)
    }
}

fn read(records: (&Path, &File), places: (&Path, &File), row: u32) -> Result<Vec<u8>> {
    let mut bytes = [0; PLACE];
    read_at(places, &mut bytes, u64::from(row) * PLACE as u64)?;
    let start = bytes.first_chunk().map_or(0, |start| u64::from_le_bytes(*start));
    let length = bytes[8..].first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
    let sum = bytes[12..].first_chunk().map_or(0, |sum| u64::from_le_bytes(*sum));
    if bytes != place(row, start, length, sum) {
        return Err(damaged(places.0));
    }
    let mut record = vec![0; length as usize];
    read_at(records, &mut record, start)?;
    if xxh3_64(&record) != sum {
        return Err(damaged(records.0));
    }
    Ok(record)
}

fn read_at((path, file): (&Path, &File), bytes: &mut [u8], at: u64) -> Result<()> {
    match file.read_exact_at(bytes, at) {
        Err(source) if source.kind() == std::io::ErrorKind::UnexpectedEof => Err(damaged(path)),
        other => other.map_err(Error::io("read", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scratch::in_scratch;
    use super::*;

    fn record(row: u32) -> Vec<u8> {
        format!("record of {row} ").repeat(row as usize % 7).into_bytes()
    }

    #[test]
    fn records_come_back_in_any_order_and_damage_is_named() {
        in_scratch(|scratch| {
            let mut writer = LogWriter::create(scratch, "texts")?;
            for row in (0..100).step_by(3) {
                writer.push(row, &record(row))?;
                assert_eq!(writer.read(row / 6 * 3)?, record(row / 6 * 3));
            }
            let log = writer.finish()?;
            for row in (0..100).step_by(3).rev() {
                assert_eq!(log.read(row)?, record(row));
            }
            for absent in [1, 98, 100, 4000] {
                let message = log.read(absent).unwrap_err().to_string();
                assert!(message.contains("texts-places`: its checksum does not fit"), "{message}");
            }
            for (row, (path, _), at) in [(3, &log.places, 3 * PLACE + 1), (99, &log.records, 5)] {
                let file = File::options().read(true).write(true).open(path).unwrap();
                let at = if row == 99 { file.metadata().unwrap().len() - at as u64 } else { at as u64 };
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ 1], at).unwrap();
                let message = log.read(row).unwrap_err().to_string();
                let name = path.file_name().unwrap().to_string_lossy();
                assert!(message.contains(&format!("{name}`: its checksum does not fit")), "{message}");
                assert_eq!(log.read(6)?, record(6));
            }
            Ok(())
        })
        .unwrap();
    }
}
