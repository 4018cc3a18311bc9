//! Input files into rows: path ► codec ► format ► shape.
//!
//! A file is read in [`Chunk`]s, which can be parsed on any thread; chunk borders depend on the file alone, so the same
//! input gives the same batches whatever the number of threads. A new format needs a variant of `Format` and a module that
//! gives chunks, a new shape of row a variant of [`Shape`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;

use crate::error::{Error, Result};
use crate::record::{Kind, Row};

mod batch;
mod carry;
mod codec;
mod column;
mod diagnose;
mod guard;
mod ipc;
mod ipc_lengths;
mod json_array;
mod json_row;
mod jsonl;
mod parquet;
mod shape;
mod texts;
mod transcript;
pub mod utf8;

use carry::Layout;
pub use column::{Spoken, Values, pieces};
pub use shape::Shape;
pub use texts::{FieldText, for_each_text};

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
#[derive(Clone, Debug)]
enum Format {
    JsonLines,
    Json,
    Parquet,
    Arrow,
    /// No file at all: batches that are there already.
    Memory(Arc<[RecordBatch]>),
}

/// One input file.
#[derive(Clone, Debug)]
pub struct InputFile {
    path: PathBuf,
    /// As the user named it; used in ids, errors and manifests.
    pub name: Arc<str>,
    /// How its rows were made, if they are not what stands in the file of that name.
    pub note: Option<String>,
    format: Format,
    codec: codec::Codec,
    layout: Layout,
    /// The columns that are decoded, if they are not those of the shapes.
    fields: Option<Arc<texts::Fields>>,
}

/// Endings that are read, as messages name them.
const ENDINGS: &str = "`.jsonl`, `.ndjson`, `.json`, `.parquet` or `.arrow`, plain or with `.gz` or `.zst` behind it";

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

    /// Rows in memory, treated as those of an Arrow file of that name.
    ///
    /// # Errors
    /// A column holds strings that are not UTF-8.
    pub fn of_rows(name: &str, rows: Vec<RecordBatch>) -> Result<InputFile> {
        utf8::check_table(name, &rows)?;
        let (format, codec) = (Format::Memory(rows.into()), codec::Codec::Plain);
        Ok(InputFile {
            path: PathBuf::new(),
            name: Arc::from(name),
            note: None,
            format,
            codec,
            layout: Shape::Messages.into(),
            fields: None,
        })
    }

    fn recognise(path: &Path) -> Option<InputFile> {
        let file_name = path.file_name()?.to_string_lossy().to_lowercase();
        let (stem, codec) = codec::Codec::of(&file_name);
        let format = match stem.rsplit_once('.')?.1 {
            "jsonl" | "ndjson" => Format::JsonLines,
            "json" => Format::Json,
            "parquet" => Format::Parquet,
            "arrow" | "arrows" | "feather" | "ipc" => Format::Arrow,
            _ => return None,
        };
        let name = Arc::from(path.to_string_lossy());
        Some(InputFile {
            path: path.to_path_buf(),
            name,
            note: None,
            format,
            codec,
            layout: Shape::Messages.into(),
            fields: None,
        })
    }

    /// The file with its columns understood as those of `shape`; without one, as the usual ones of `kind`.
    #[must_use]
    pub fn of_shape(self, shape: Option<Shape>, kind: Kind) -> InputFile {
        let layout = Layout { shape: shape.unwrap_or(Shape::usual(kind)), ..self.layout };
        InputFile { layout, ..self }
    }

    /// Whether a column of a table is decoded.
    fn wants(&self, column: &str) -> bool {
        self.fields.as_ref().map_or_else(|| batch::is_wanted(column, &self.layout.carry), |fields| fields.wants(column))
    }

    /// The path to open.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What the user named: a file or a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Where it lies.
    pub path: PathBuf,
    /// What it is called in ids, errors and manifests, if it was not the user who put it there: `stdin`, a web address.
    pub name: Option<String>,
    /// How its rows were made, if they are not what stands in the file of that name.
    pub note: Option<String>,
}

/// The files that `inputs` name, in that order; a folder stands for the readable files below it, sorted by path.
pub fn find_files(inputs: &[Input]) -> Result<Vec<InputFile>> {
    let mut files = Vec::new();
    for Input { path: input, name, note } in inputs {
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
            let file = InputFile::new(input)?;
            files.push(match name {
                Some(name) => InputFile { name: Arc::from(name.as_str()), note: note.clone(), ..file },
                None => file,
            });
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
pub struct Chunk {
    layout: Layout,
    rows: Rows,
}

/// Rows as the formats give them.
enum Rows {
    /// Whole lines of JSON.
    Lines(jsonl::Lines),
    /// Whole elements of a JSON array.
    Items(json_array::Items),
    /// Rows of a Parquet or Arrow file.
    Batch(batch::Batch),
}

/// The stretches of one file in their order.
type Stretches = Box<dyn Iterator<Item = Result<Rows>> + Send>;

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
    /// Parses the rows and hands them over in their order.
    ///
    /// # Errors
    /// Whatever `each` gives; it is also asked about rows that cannot be read.
    pub fn for_each_row(&self, each: &mut dyn FnMut(std::result::Result<Row, BadRow>) -> Result<()>) -> Result<()> {
        match &self.rows {
            Rows::Lines(lines) => lines.for_each_row(&self.layout, each),
            Rows::Items(items) => items.for_each_row(&self.layout, each),
            Rows::Batch(batch) => batch.for_each_row(&self.layout, each),
        }
    }

    /// Size in the decompressed file, for progress.
    pub fn bytes(&self) -> u64 {
        match &self.rows {
            Rows::Lines(lines) => lines.bytes(),
            Rows::Items(items) => items.bytes(),
            Rows::Batch(batch) => batch.bytes(),
        }
    }
}

impl Rows {
    fn first_shape(&self, kind: Option<Kind>) -> Option<Shape> {
        match self {
            Rows::Lines(lines) => lines.first_shape(kind),
            Rows::Items(items) => items.first_shape(kind),
            Rows::Batch(batch) => batch.first_shape(kind),
        }
    }
}

/// The chunks of all files, one file after the other.
pub struct Chunks {
    files: std::vec::IntoIter<InputFile>,
    open: Option<(Layout, Stretches)>,
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
            if let Some((layout, rows)) = &mut self.open {
                match rows.next() {
                    Some(rows) => return Some(rows.map(|rows| Chunk { layout: layout.clone(), rows })),
                    None => self.open = None,
                }
            }
            let file = self.files.next()?;
            match open(&file, &self.position) {
                Ok(rows) => self.open = Some((file.layout, rows)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn open(file: &InputFile, position: &Position) -> Result<Stretches> {
    match &file.format {
        Format::JsonLines => jsonl::open(file, position),
        Format::Json => json_array::open(file, position),
        Format::Parquet => parquet::open(file, position),
        Format::Arrow => ipc::open(file, position),
        Format::Memory(rows) => Ok(ipc::of_memory(file, rows)),
    }
}

/// Finds out what the files hold: a file's shape is that of its first row which can be recognised, and all files must be
/// of one kind. `kind` and `shape`, if given, are taken at their word.
pub fn recognise(files: Vec<InputFile>, kind: Option<Kind>, shape: Option<Shape>) -> Result<(Kind, Vec<InputFile>)> {
    if let Some(shape) = shape {
        if kind.is_some_and(|kind| kind != shape.kind()) {
            return Err(Error::Config {
                key: "read.shape".into(),
                message: format!("`read.shape` does not go with `read.kind`, found: `{}`", shape.as_str()),
                hint: format!("the shape makes rows of the kind `{}`", shape.kind().as_str()),
            });
        }
        let files = files.into_iter().map(|file| file.of_shape(Some(shape), shape.kind())).collect();
        return Ok((shape.kind(), files));
    }
    let found = find_shapes(&files, kind, None)?;
    let Some(decided) = kind.or_else(|| found.iter().flatten().next().map(|shape| shape.kind())) else {
        return Err(Error::Format {
            path: files.first().map_or_else(String::new, |file| file.name.to_string()),
            message: "no row has the columns of a chat or of a preference".into(),
            hint: format!("{}; name the kind with `--kind` to see what is wrong with the first row", shape::KNOWN),
        });
    };
    let is_other = |shape: &Option<Shape>| shape.is_some_and(|shape| shape.kind() != decided);
    if let Some(other) = found.iter().position(is_other) {
        let first = found.iter().position(Option::is_some).unwrap_or_default();
        let rows = |kind| if kind == Kind::Chat { "chats" } else { "preferences" };
        let its = if decided == Kind::Chat { Kind::Preference } else { Kind::Chat };
        return Err(Error::Format {
            path: files[other].name.to_string(),
            message: format!("its rows are {}, those of `{}` are {}", rows(its), files[first].name, rows(decided)),
            hint: "prepare each kind on its own, into a folder of its own".into(),
        });
    }
    let files = files.into_iter().zip(found).map(|(file, shape)| file.of_shape(shape, decided)).collect();
    Ok((decided, files))
}

/// The shape of each file: `shape`, if given, else that of its first row that can be recognised as one of `kind`.
pub fn find_shapes(files: &[InputFile], kind: Option<Kind>, shape: Option<Shape>) -> Result<Vec<Option<Shape>>> {
    files.iter().map(|file| if shape.is_some() { Ok(shape) } else { first_shape(file, kind) }).collect()
}

fn first_shape(file: &InputFile, kind: Option<Kind>) -> Result<Option<Shape>> {
    for rows in open(file, &Position::default())? {
        if let Some(shape) = rows?.first_shape(kind) {
            return Ok(Some(shape));
        }
    }
    Ok(None)
}
