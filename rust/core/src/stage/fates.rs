//! The fates of all rows: which rows stay in memory, why the others go on the disk but for some pages.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::bits::{Bits, Numbered};
use super::fate::{FATE_BYTES, Fate};
use super::near::scratch::{Scratch, damaged};
use crate::error::{Error, Result};

/// Rows of a page.
const ROWS: usize = 256;
/// Bytes of a page without its checksum.
const PAGE: usize = ROWS * FATE_BYTES;

/// What happens to each row. A bit a row and a number of pages are in memory, and a bit and a number a page.
pub(super) struct Fates {
    rows: u32,
    stays: Bits,
    pages: Pages,
}

impl Fates {
    /// That all of `rows` rows stay; pages take about `bytes` bytes.
    pub(super) fn new(scratch: &Scratch, rows: usize, bytes: usize) -> Result<Fates> {
        let mut stays = Bits::new(rows);
        (0..rows as u32).for_each(|row| stays.set(row, true));
        Ok(Fates { rows: rows as u32, stays, pages: Pages::new(scratch, rows, bytes)? })
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.rows as usize
    }

    /// Whether a row stays.
    pub(super) fn stays(&self, row: u32) -> bool {
        self.stays.get(row)
    }

    /// The rows that go, in order.
    pub(super) fn gone(&self) -> impl Iterator<Item = u32> + use<> {
        let stays = self.stays.clone();
        (0..self.rows).filter(move |&row| !stays.get(row))
    }

    pub(super) fn get(&mut self, row: u32) -> Result<Fate> {
        if self.stays(row) { Ok(Fate::Keep) } else { Ok(Fate::from_bytes(self.pages.entry(row, false)?)) }
    }

    pub(super) fn set(&mut self, row: u32, fate: Fate) -> Result<()> {
        self.stays.set(row, fate == Fate::Keep);
        self.pages.entry(row, true)?.copy_from_slice(&fate.to_bytes());
        Ok(())
    }

    /// Which rows stay, for those who need not know why others do not.
    pub(super) fn staying(&self) -> Bits {
        self.stays.clone()
    }

    /// Brings the fates of rows in line that go for the sake of a row that goes, too: where that one has somebody who stays
    /// for it, it stands for both; where it goes for itself, both go for the same reason. Near-duplicates of a row that is
    /// contradicted keep their fate, which names that row.
    ///
    /// Gives the rows that stay for near-duplicates.
    pub(super) fn settle(&mut self) -> Result<Numbered> {
        for row in self.gone() {
            if let Fate::Near { kept, .. } = self.get(row)?
                && !self.stays(kept)
            {
                match self.get(kept)? {
                    Fate::Contradiction { .. } => {}
                    fate => self.set(row, fate)?,
                }
            }
        }
        let mut representatives = Bits::new(self.len());
        for row in self.gone() {
            match self.get(row)? {
                Fate::Near { kept, .. } if self.stays(kept) => representatives.set(kept, true),
                Fate::Exact { of, .. } if !self.stays(of) => match self.get(of)? {
                    Fate::Keep | Fate::Exact { .. } => {}
                    Fate::Near { kept, .. } if self.stays(kept) => self.set(row, Fate::Exact { of, kept })?,
                    alone => self.set(row, alone)?,
                },
                _ => {}
            }
        }
        Ok(representatives.numbered())
    }
}

/// Pages of a file of which some are in memory: page n in slot n modulo the number of slots.
struct Pages {
    path: PathBuf,
    file: File,
    slots: Vec<Option<Slot>>,
    /// The pages that are in the file; others have never been changed.
    written: Bits,
}

struct Slot {
    page: u32,
    changed: bool,
    bytes: Box<[u8]>,
}

impl Pages {
    fn new(scratch: &Scratch, rows: usize, bytes: usize) -> Result<Pages> {
        let (path, file) = scratch.create("fates")?.finish()?;
        let pages = rows.div_ceil(ROWS);
        let slots = (bytes / (PAGE + 64)).clamp(1, pages.max(1));
        Ok(Pages { path, file, slots: (0..slots).map(|_| None).collect(), written: Bits::new(pages) })
    }

    /// The bytes of a row, to be changed or not.
    fn entry(&mut self, row: u32, change: bool) -> Result<&mut [u8]> {
        let (page, at) = (row / ROWS as u32, row as usize % ROWS * FATE_BYTES);
        let number = page as usize % self.slots.len();
        if self.slots[number].as_ref().is_none_or(|slot| slot.page != page) {
            let bytes = match self.slots[number].take() {
                Some(old) => {
                    if old.changed {
                        self.write(&old)?;
                    }
                    old.bytes
                }
                None => vec![0; PAGE].into(),
            };
            self.slots[number] = Some(self.read(page, bytes)?);
        }
        match &mut self.slots[number] {
            Some(slot) => {
                slot.changed |= change;
                Ok(&mut slot.bytes[at..at + FATE_BYTES])
            }
            None => unreachable!("filled above"),
        }
    }

    fn write(&mut self, slot: &Slot) -> Result<()> {
        let at = u64::from(slot.page) * (PAGE + 8) as u64;
        let sum = xxh3_64_with_seed(&slot.bytes, slot.page.into()).to_le_bytes();
        let written =
            self.file.write_all_at(&slot.bytes, at).and_then(|()| self.file.write_all_at(&sum, at + PAGE as u64));
        written.map_err(Error::io("write", &self.path))?;
        self.written.set(slot.page, true);
        Ok(())
    }

    fn read(&self, page: u32, mut bytes: Box<[u8]>) -> Result<Slot> {
        if self.written.get(page) {
            let (at, mut sum) = (u64::from(page) * (PAGE + 8) as u64, [0; 8]);
            let read = self
                .file
                .read_exact_at(&mut bytes, at)
                .and_then(|()| self.file.read_exact_at(&mut sum, at + PAGE as u64));
            match read {
                Err(source) if source.kind() == std::io::ErrorKind::UnexpectedEof => return Err(damaged(&self.path)),
                other => other.map_err(Error::io("read", &self.path))?,
            }
            if xxh3_64_with_seed(&bytes, page.into()).to_le_bytes() != sum {
                return Err(damaged(&self.path));
            }
        } else {
            bytes.fill(0);
        }
        Ok(Slot { page, changed: false, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::super::near::scratch::in_scratch;
    use super::*;

    fn near(kept: u32) -> Fate {
        Fate::Near { kept, similarity: 0.9 }
    }

    #[test]
    fn who_goes_for_a_row_that_goes_follows_it() {
        let opposite = Fate::Contradiction { other: 3, similarity: 0.9 };
        let exact = |of| Fate::Exact { of, kept: of };
        let given = [Fate::Keep, near(0), exact(1), opposite, near(3), exact(3), exact(0), exact(4)];
        in_scratch(|scratch| {
            let mut fates = Fates::new(scratch, 8, 0)?;
            (0..).zip(given).try_for_each(|(row, fate)| fates.set(row, fate))?;
            let representatives = fates.settle()?;
            assert_eq!((representatives.count(), representatives.number(0)), (1, Some(0)));
            let settled = (0..8).map(|row| fates.get(row)).collect::<Result<Vec<_>>>()?;
            let chained = Fate::Exact { of: 1, kept: 0 };
            assert_eq!(settled, [Fate::Keep, near(0), chained, opposite, near(3), opposite, exact(0), near(3)]);
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn fates_are_the_same_with_few_pages_and_damage_is_named() {
        in_scratch(|scratch| {
            let rows = 20 * ROWS as u32 + 3;
            let mut fates = Fates::new(scratch, rows as usize, 3 * (PAGE + 64))?;
            // In an order that leaves no page in memory for long.
            let order: Vec<u32> =
                (0..rows).map(|at| (u64::from(at) * 2_654_435_761 % u64::from(rows)) as u32).collect();
            for &row in order.iter().filter(|&&row| row % 3 == 0) {
                fates.set(row, near(row / 2))?;
            }
            fates.set(6, Fate::Keep)?;
            for &row in order.iter().rev() {
                let expected = if row % 3 == 0 && row != 6 { near(row / 2) } else { Fate::Keep };
                assert_eq!((fates.get(row)?, fates.stays(row)), (expected, expected == Fate::Keep));
            }
            assert_eq!(fates.gone().count(), order.iter().filter(|&&row| row % 3 == 0 && row != 6).count());
            let at = 10 * (PAGE + 8) as u64 + 5;
            fates.get(0)?;
            fates.get(3 * ROWS as u32)?;
            fates.get(2 * ROWS as u32 + 1)?; // and page 10 is out of memory
            fates.pages.slots.iter_mut().for_each(|slot| *slot = None);
            let mut byte = [0];
            fates.pages.file.read_exact_at(&mut byte, at).unwrap();
            fates.pages.file.write_all_at(&[byte[0] ^ 1], at).unwrap();
            let message = fates.get(10 * ROWS as u32 + 2).unwrap_err().to_string();
            assert!(message.contains("fates`: its checksum does not fit"), "{message}");
            Ok(())
        })
        .unwrap();
    }
}
