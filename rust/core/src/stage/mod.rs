//! The three stages: files in, files out, and a manifest written last. The only place with threads, clocks and progress.
//!
//! | stage | reads | writes | scope |
//! | --- | --- | --- | --- |
//! | [`clean`] | the user's files | `DIR/clean` | row by row, streaming |
//! | [`dedup`] | `DIR/clean` | `DIR/dedup` | all rows, by keys of a few dozen bytes |
//! | [`pack`] | `DIR/dedup` | `DIR/packed` | all rows, by their lengths |
//!
//! A stage writes into a temporary folder beside its target and renames it at the end. A stage whose manifest fits its
//! inputs and options is skipped; one that must run again takes the later stages' folders with it, since they no longer say
//! what the data is.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::manifest::{FileEntry, MANIFEST, Manifest};

mod bits;
pub mod clean;
pub mod contamination;
pub mod dedup;
mod dedup_output;
pub mod deduplicate;
pub mod encode;
mod encoded;
mod exact_rows;
mod fate;
mod fates;
mod fit;
pub mod in_memory;
pub mod inspect;
pub mod near;
mod ordered;
pub mod pack;
mod packed;
pub mod recall;
mod spill;

/// The stages' folders below DIR, in the order of the work.
pub const FOLDERS: [&str; 3] = ["clean", "dedup", "packed"];

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The stage's name.
    pub stage: &'static str,
    /// Bytes of input that have been taken up.
    pub done: u64,
    /// Bytes of input.
    pub total: u64,
    /// Rows handled so far.
    pub rows: u64,
}

/// Told how far a stage is, about ten times a second; an error ends the stage with that error.
pub type Observer<'a> = &'a mut dyn FnMut(Progress) -> Result<()>;

/// What a stage did.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The stage's name.
    pub stage: &'static str,
    /// Where its files are.
    pub folder: PathBuf,
    /// Whether there was nothing to do.
    pub skipped: bool,
    /// How long it took.
    pub seconds: f64,
    /// Bytes of message contents that it handled; 0 if skipped.
    pub text_bytes: u64,
}

/// Keeps a second run out of a folder for as long as it lives.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Makes the folder if it is missing and locks it. The system releases the lock when the process ends, however it ends.
    pub fn acquire(folder: &Path) -> Result<DirectoryLock> {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let path = folder.join(".lock");
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(DirectoryLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path: folder.to_path_buf() }),
            Err(TryLockError::Error(source)) => Err(Error::io("lock", &path)(source)),
        }
    }
}

/// Passes on an observer's calls at most ten times a second, however often it is asked.
struct Ticker<'a> {
    observer: Observer<'a>,
    last: Option<Instant>,
}

impl<'a> Ticker<'a> {
    fn new(observer: Observer<'a>) -> Self {
        Ticker { observer, last: None }
    }

    fn tick(&mut self, progress: Progress) -> Result<()> {
        const PAUSE: Duration = Duration::from_millis(90);
        if self.last.is_some_and(|last| last.elapsed() < PAUSE) {
            return Ok(());
        }
        self.last = Some(Instant::now());
        (self.observer)(progress)
    }
}

/// Runs a stage unless its folder is already what it would write.
///
/// `work` writes its files into the folder that it is given, enters them and its counts in the manifest, and gives the
/// bytes of text that it handled.
fn run(
    dir: &Path,
    stage: &'static str,
    folder: &str,
    mut manifest: Manifest,
    work: impl FnOnce(&Path, &mut Manifest) -> Result<u64>,
) -> Result<Outcome> {
    let started = Instant::now();
    let target = dir.join(folder);
    let current = Manifest::read(&target).is_some_and(|written| written.is_current(&manifest, &target));
    let mut text_bytes = 0;
    if !current {
        let temporary = Temporary::create(dir.join(format!(".{folder}.tmp")))?;
        text_bytes = work(&temporary.path, &mut manifest)?;
        let path = temporary.path.join(MANIFEST);
        std::fs::write(&path, manifest.to_bytes()).map_err(Error::io("write", &path))?;
        for stale in FOLDERS.iter().skip_while(|name| **name != folder) {
            remove(&dir.join(stale))?;
        }
        std::fs::rename(&temporary.path, &target).map_err(Error::io("create", &target))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Outcome { stage, folder: target, skipped: current, seconds, text_bytes })
}

/// A folder that goes unless it was renamed.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn create(path: PathBuf) -> Result<Self> {
        // A killed run leaves its own behind.
        remove(&path)?;
        std::fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        Ok(Temporary { path })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a failure nothing better can be done, after the rename it is gone already; the next run tries again.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn remove(folder: &Path) -> Result<()> {
    // The manifest goes first: what is left of a folder that cannot be removed as a whole does not exist.
    for result in [std::fs::remove_file(folder.join(MANIFEST)), std::fs::remove_dir_all(folder)] {
        match result {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", folder)(source));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The files of a part of a stage, with names as the manifest has them.
fn below(folder: &str, files: Vec<FileEntry>) -> impl Iterator<Item = FileEntry> {
    files.into_iter().map(move |file| FileEntry { name: format!("{folder}/{}", file.name), ..file })
}

/// Whether a stage's file holds rows for the next stage.
fn holds_rows(file: &FileEntry) -> bool {
    file.name.starts_with("part-")
}

/// A stage's manifest as the next stage's input, and the paths of its rows.
fn previous(dir: &Path, folder: &str) -> Result<(Manifest, Vec<FileEntry>, Vec<PathBuf>)> {
    let folder_path = dir.join(folder);
    let manifest = Manifest::require(&folder_path)?;
    let path = folder_path.join(MANIFEST);
    let input = crate::manifest::fingerprint(&path, &format!("{folder}/{MANIFEST}"), &mut |_| Ok(()))?;
    let rows = manifest.files.iter().filter(|file| holds_rows(file));
    let paths = rows.map(|file| folder_path.join(&file.name)).collect();
    Ok((manifest, vec![input], paths))
}

/// Holds the rows of an earlier stage against the checksums of its manifest: a flipped bit would become text.
fn verify(dir: &Path, folder: &str, manifest: &Manifest, tick: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    for entry in manifest.files.iter().filter(|file| holds_rows(file)) {
        let path = dir.join(folder).join(&entry.name);
        if crate::manifest::fingerprint(&path, &entry.name, &mut |_| tick())?
            != (FileEntry { rows: None, ..entry.clone() })
        {
            return Err(Error::Manifest {
                path,
                message: format!("it is damaged: its bytes are not those of `{folder}/{MANIFEST}`"),
                hint: "run the command again with `--overwrite`; if it comes again, look at the disk".into(),
            });
        }
    }
    Ok(())
}

/// Drops by reason, in the order in which reasons are sorted.
#[derive(Default)]
struct Counts {
    rows_in: u64,
    rows_out: u64,
    dropped: std::collections::BTreeMap<&'static str, u64>,
}

impl Counts {
    fn drop(&mut self, reason: &'static str) {
        *self.dropped.entry(reason).or_default() += 1;
    }

    fn to_value(&self) -> serde_json::Value {
        serde_json::json!({"rows_in": self.rows_in, "rows_out": self.rows_out, "dropped": self.dropped})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Kind;
    use serde_json::Value;

    fn manifest(options: i32) -> Manifest {
        Manifest::new("dedup", Kind::Chat, Value::from(options), vec![])
    }

    #[test]
    fn a_finished_stage_is_skipped_and_a_failed_one_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let failed = run(dir.path(), "dedup", "dedup", manifest(1), |folder, _| {
            std::fs::write(folder.join("part"), b"x").unwrap();
            Err(Error::Interrupted)
        });
        assert!(matches!(failed, Err(Error::Interrupted)));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let first = run(dir.path(), "dedup", "dedup", manifest(1), |_, _| Ok(5)).unwrap();
        assert_eq!((first.skipped, first.text_bytes), (false, 5));
        let again = run(dir.path(), "dedup", "dedup", manifest(1), |_, _| panic!("must be skipped")).unwrap();
        assert!(again.skipped);
    }

    #[test]
    fn a_stage_that_runs_again_takes_the_later_ones_with_it() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["clean", "packed"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
            std::fs::write(dir.path().join(folder).join(MANIFEST), manifest(1).to_bytes()).unwrap();
        }
        run(dir.path(), "dedup", "dedup", manifest(2), |_, _| Ok(0)).unwrap();
        assert!(dir.path().join("clean").join(MANIFEST).exists());
        assert!(!dir.path().join("packed").exists());
    }

    #[test]
    fn a_locked_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::acquire(dir.path()).unwrap();
        assert!(matches!(DirectoryLock::acquire(dir.path()), Err(Error::Locked { .. })));
        drop(lock);
        DirectoryLock::acquire(dir.path()).unwrap();
    }
}
