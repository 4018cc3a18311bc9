//! The folder for what does not fit in memory: there while a stage works, gone when it ends, however it ends.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A folder that is removed at the end.
pub(in crate::stage) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Removes what a killed run has left behind.
    pub(in crate::stage) fn clear(path: &Path) -> Result<()> {
        match std::fs::remove_dir_all(path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(source)),
            _ => Ok(()),
        }
    }

    /// Makes the folder, gives it to `work`, and removes it; that it cannot be removed is an error, too.
    pub(in crate::stage) fn with<T>(path: &Path, work: impl FnOnce(&Scratch) -> Result<T>) -> Result<T> {
        Scratch::clear(path)?;
        std::fs::create_dir_all(path).map_err(Error::io("create", path))?;
        let scratch = Scratch { path: path.to_path_buf() };
        let result = work(&scratch);
        match (result, Scratch::clear(path)) {
            (Ok(value), Ok(())) => Ok(value),
            (Ok(_), Err(error)) | (Err(error), Ok(())) => Err(error),
            (Err(error), Err(left)) => Err(Error::Left { error: Box::new(error), left: Box::new(left) }),
        }
    }

    /// Number of files in the folder.
    #[cfg(test)]
    pub(super) fn files(&self) -> usize {
        std::fs::read_dir(&self.path).unwrap().count()
    }

    /// A new file in the folder.
    pub(in crate::stage) fn create(&self, name: &str) -> Result<ScratchFile> {
        let path = self.path.join(name);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let file = BufWriter::with_capacity(1 << 16, file.map_err(Error::io("create", &path))?);
        Ok(ScratchFile { path, file })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // After `with` it is gone; this is for a panic, where nothing better can be done.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A file being written, whose errors name it.
pub(in crate::stage) struct ScratchFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl ScratchFile {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.path))
    }

    /// The file, with all that was written so far.
    pub(super) fn flushed(&mut self) -> Result<(&Path, &File)> {
        self.file.flush().map_err(Error::io("write", &self.path))?;
        Ok((&self.path, self.file.get_ref()))
    }

    /// Ends the writing; the file can be read.
    pub(in crate::stage) fn finish(self) -> Result<(PathBuf, File)> {
        let file = self.file.into_inner().map_err(|error| Error::io("write", &self.path)(error.into_error()))?;
        Ok((self.path, file))
    }
}

/// What was written is not what is read.
pub(in crate::stage) fn damaged(path: &Path) -> Error {
    Error::Manifest {
        path: path.to_path_buf(),
        message: "its checksum does not fit: what was written is not what is read".into(),
        hint: "run the same command again; if this happens again, check the disk".into(),
    }
}

#[cfg(test)]
pub(in crate::stage) fn in_scratch<T>(work: impl FnOnce(&Scratch) -> Result<T>) -> Result<T> {
    let folder = tempfile::tempdir().unwrap();
    Scratch::with(&folder.path().join("scratch"), work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_gone_after_success_failure_and_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scratch");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("left"), "by a killed run").unwrap();
        let seen = Scratch::with(&path, |scratch| {
            assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
            scratch.create("a")?.write(b"b")?;
            Ok(path.exists())
        });
        assert!(seen.unwrap() && !path.exists());
        let failed = Scratch::with(&path, |_| -> Result<()> { Err(Error::Interrupted) });
        assert!(matches!(failed, Err(Error::Interrupted)) && !path.exists());
        let panicked = std::panic::catch_unwind(|| Scratch::with(&path, |_| -> Result<()> { panic!("on purpose") }));
        assert!(panicked.is_err() && !path.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_removed_is_reported_beside_the_first_error() {
        let error = Error::Left {
            error: Box::new(Error::Interrupted),
            left: Box::new(Error::io("remove", "out/.dedup.spill")(std::io::Error::from_raw_os_error(30))),
        };
        let expected = "interrupted\nnote: cannot remove `out/.dedup.spill`: Read-only file system";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_said() {
        let failed = in_scratch(|scratch| {
            std::os::unix::fs::symlink("/dev/full", scratch.path.join("full")).unwrap();
            let mut file = scratch.create("full")?;
            file.write(&vec![0; 1 << 19])?;
            file.finish()
        });
        let message = failed.unwrap_err().to_string();
        assert!(message.starts_with("cannot write `"), "{message}");
        assert!(message.contains("`: No space left on device\nhint: free some space"), "{message}");
    }
}
