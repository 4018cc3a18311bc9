//! Input files into rows: path ► codec ► format ► shape.
//!
//! A file is read in [`Chunk`]s, which can be parsed on any thread; chunk borders depend on the file alone, so the same
//! input gives the same batches whatever the number of threads. A new format needs a variant of `Format` and of
//! [`Chunk`], a new shape of row a branch in `shape.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::record::{Kind, Row};

mod codec;
mod jsonl;
mod parquet;
mod shape;

/// What to do with a row that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadRow {
    /// End the run with the row's file, line and field.
    #[default]
    Stop,
    /// Keep the row in `rejects/` and go on.
    Reject,
}

/// How a file's rows are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    JsonLines,
    Parquet,
}

/// One input file.
#[derive(Clone, Debug)]
pub struct InputFile {
    path: PathBuf,
    /// As the user named it; used in ids, errors and manifests.
    pub name: Arc<str>,
    format: Format,
    codec: codec::Codec,
}

/// Endings that are read, as messages name them.
const ENDINGS: &str = "`.jsonl`, `.ndjson` or `.parquet`, plain or with `.gz` or `.zst` behind it";

impl InputFile {
    /// The file at `path`; its name's endings decide how it is read.
    pub fn new(path: &Path) -> Result<InputFile> {
        let name = path.to_string_lossy();
        Self::recognise(path).ok_or_else(|| Error::Format {
            path: name.into_owned(),
            message: "the name's ending is not one that is read".into(),
            hint: format!("rename or convert it to {ENDINGS}"),
        })
    }

    fn recognise(path: &Path) -> Option<InputFile> {
        let file_name = path.file_name()?.to_string_lossy().to_lowercase();
        let (stem, codec) = codec::Codec::of(&file_name);
        let format = match stem.rsplit_once('.')?.1 {
            "jsonl" | "ndjson" => Format::JsonLines,
            "parquet" => Format::Parquet,
            _ => return None,
        };
        Some(InputFile { path: path.to_path_buf(), name: Arc::from(path.to_string_lossy()), format, codec })
    }

    /// The path to open.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The files that `inputs` name, in that order; a folder stands for the readable files below it, sorted by path.
pub fn find_files(inputs: &[PathBuf]) -> Result<Vec<InputFile>> {
    let mut files = Vec::new();
    for input in inputs {
        let metadata = std::fs::metadata(input).map_err(Error::io("read", input))?;
        if metadata.is_dir() {
            let mut found = Vec::new();
            walk(input, &mut found)?;
            found.sort();
            let before = files.len();
            files.extend(found.iter().filter_map(|path| InputFile::recognise(path)));
            if files.len() == before {
                return Err(Error::Format {
                    path: input.to_string_lossy().into_owned(),
                    message: "the folder has no file that is read".into(),
                    hint: format!("its files must end in {ENDINGS}"),
                });
            }
        } else {
            files.push(InputFile::new(input)?);
        }
    }
    Ok(files)
}

/// All files below a folder; hidden ones are left out, as tools leave their own things there.
fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let path = entry.path();
        if std::fs::metadata(&path).map_err(Error::io("read", &path))?.is_dir() {
            walk(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

/// A stretch of a file, not yet parsed.
pub enum Chunk {
    /// Whole lines of JSON.
    Lines(jsonl::Lines),
    /// Rows of a Parquet file.
    Batch(parquet::Batch),
}

/// A row that cannot be read.
#[derive(Debug)]
pub struct BadRow {
    /// File, line, field, message and hint.
    pub error: Error,
    /// The file.
    pub file: Arc<str>,
    /// The line.
    pub line: u64,
    /// The row as it stands in the file (lossily, where it is not UTF-8).
    pub raw: String,
}

impl Chunk {
    /// Parses the rows and hands them over in their order; `kind` fixes which columns are meant.
    ///
    /// # Errors
    /// Whatever `each` gives; it is also asked about rows that cannot be read.
    pub fn for_each_row(
        &self,
        kind: Kind,
        each: &mut dyn FnMut(std::result::Result<Row, BadRow>) -> Result<()>,
    ) -> Result<()> {
        match self {
            Chunk::Lines(lines) => lines.for_each_row(kind, each),
            Chunk::Batch(batch) => batch.for_each_row(kind, each),
        }
    }

    /// Size in the decompressed file, for progress.
    pub fn bytes(&self) -> u64 {
        match self {
            Chunk::Lines(lines) => lines.bytes(),
            Chunk::Batch(batch) => batch.bytes(),
        }
    }

    fn first_kind(&self) -> Option<Kind> {
        match self {
            Chunk::Lines(lines) => lines.first_kind(),
            Chunk::Batch(batch) => batch.first_kind(),
        }
    }
}

/// The chunks of all files, one file after the other.
pub struct Chunks {
    files: std::vec::IntoIter<InputFile>,
    open: Option<Box<dyn Iterator<Item = Result<Chunk>> + Send>>,
    position: Position,
}

/// How many bytes of the files, as they lie on the disk, have been read; for progress.
#[derive(Clone, Debug, Default)]
pub struct Position(Arc<AtomicU64>);

impl Position {
    /// The bytes so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Chunks {
    /// Chunks of these files; `position` is moved on as they are read.
    pub fn new(files: Vec<InputFile>, position: Position) -> Self {
        Chunks { files: files.into_iter(), open: None, position }
    }
}

impl Iterator for Chunks {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Result<Chunk>> {
        loop {
            if let Some(open) = &mut self.open {
                match open.next() {
                    Some(chunk) => return Some(chunk),
                    None => self.open = None,
                }
            }
            let file = self.files.next()?;
            match open(&file, &self.position) {
                Ok(chunks) => self.open = Some(chunks),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn open(file: &InputFile, position: &Position) -> Result<Box<dyn Iterator<Item = Result<Chunk>> + Send>> {
    Ok(match file.format {
        Format::JsonLines => Box::new(jsonl::open(file, position)?),
        Format::Parquet => parquet::open(file, position)?,
    })
}

/// Which kind of record the files hold, from the first row that can be recognised.
pub fn detect_kind(files: &[InputFile]) -> Result<Kind> {
    for chunk in Chunks::new(files.to_vec(), Position::default()) {
        if let Some(kind) = chunk?.first_kind() {
            return Ok(kind);
        }
    }
    Err(Error::Format {
        path: files.first().map_or_else(String::new, |file| file.name.to_string()),
        message: "no row has the columns of a chat or of a preference".into(),
        hint: format!("{}; name the kind with `--kind` to see what is wrong with the first row", shape::KNOWN),
    })
}
