//! Arrow files of a stage: written in parts with a checksum each, read back batch by batch.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::writer::{FileWriter, StreamWriter};
use arrow::ipc::{Block, root_as_footer, root_as_message};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};
use crate::manifest::{FileEntry, hex};

/// A part is closed when it has grown beyond this; parts keep single files handy and let later stages share the work.
const PART_BYTES: u64 = 1 << 28;

/// A file that knows its size and hash.
struct HashedFile {
    path: PathBuf,
    file: BufWriter<File>,
    hash: Xxh3,
    bytes: u64,
}

impl HashedFile {
    fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(Error::io("create", path))?;
        Ok(HashedFile {
            path: path.to_path_buf(),
            file: BufWriter::with_capacity(1 << 18, file),
            hash: Xxh3::new(),
            bytes: 0,
        })
    }

    fn finish(mut self, rows: Option<u64>) -> Result<FileEntry> {
        self.file.flush().map_err(Error::io("write", &self.path))?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(FileEntry { name, rows, bytes: self.bytes, xxh3_128: hex(self.hash.digest128()), note: None })
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// An error of the Arrow writer: nearly always the file system's.
fn arrow_error(action: &'static str, path: &Path, error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, source) => Error::io(action, path)(source),
        other => Error::Manifest {
            path: path.to_path_buf(),
            message: format!("not an Arrow file that can be used: {other}"),
            hint: "remove the folder and run the command again".into(),
        },
    }
}

/// How the batches of a file are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Arrow IPC file format, `part-00000.arrow`, …: batches can be found without reading the file.
    File,
    /// Arrow IPC stream format, `data-00000.arrow`, …: what `datasets` memory-maps.
    Stream,
}

enum Open {
    File(Box<FileWriter<HashedFile>>),
    Stream(Box<StreamWriter<HashedFile>>),
}

impl Open {
    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), ArrowError> {
        match self {
            Open::File(writer) => writer.write(batch),
            Open::Stream(writer) => writer.write(batch),
        }
    }
}

/// Writes batches into numbered parts.
pub struct PartWriter {
    folder: PathBuf,
    schema: SchemaRef,
    framing: Framing,
    open: Option<(PathBuf, Open)>,
    rows: u64,
    grown: u64,
    done: Vec<FileEntry>,
}

impl PartWriter {
    /// Parts of `schema` in `folder`, which is made.
    pub fn create(folder: &Path, schema: SchemaRef, framing: Framing) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let folder = folder.to_path_buf();
        Ok(PartWriter { folder, schema, framing, open: None, rows: 0, grown: 0, done: Vec::new() })
    }

    /// Appends a batch; empty ones leave no trace.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let (path, writer) = self.writer()?;
        writer.write(batch).map_err(|error| arrow_error("write", path, error))?;
        self.rows += batch.num_rows() as u64;
        self.grown += batch.get_array_memory_size() as u64;
        if self.grown >= PART_BYTES {
            self.close()?;
        }
        Ok(())
    }

    fn writer(&mut self) -> Result<(&Path, &mut Open)> {
        if self.open.is_none() {
            let stem = if self.framing == Framing::File { "part" } else { "data" };
            let path = self.folder.join(format!("{stem}-{:05}.arrow", self.done.len()));
            let file = HashedFile::create(&path)?;
            let open = match self.framing {
                Framing::File => FileWriter::try_new(file, &self.schema).map(|writer| Open::File(Box::new(writer))),
                Framing::Stream => {
                    StreamWriter::try_new(file, &self.schema).map(|writer| Open::Stream(Box::new(writer)))
                }
            };
            self.open = Some((path.clone(), open.map_err(|error| arrow_error("write", &path, error))?));
        }
        match &mut self.open {
            Some((path, writer)) => Ok((path, writer)),
            None => unreachable!("opened above"),
        }
    }

    fn close(&mut self) -> Result<()> {
        let Some((path, writer)) = self.open.take() else { return Ok(()) };
        let file = match writer {
            Open::File(mut writer) => writer.finish().and_then(|()| writer.into_inner()),
            Open::Stream(mut writer) => writer.finish().and_then(|()| writer.into_inner()),
        };
        let file = file.map_err(|error| arrow_error("write", &path, error))?;
        self.done.push(file.finish(Some(self.rows))?);
        (self.rows, self.grown) = (0, 0);
        Ok(())
    }

    /// Closes the last part. With no rows at all one empty part is left, so that readers find the columns.
    pub fn finish(mut self) -> Result<Vec<FileEntry>> {
        if self.done.is_empty() && self.open.is_none() {
            let empty = RecordBatch::new_empty(self.schema.clone());
            let (path, writer) = self.writer()?;
            writer.write(&empty).map_err(|error| arrow_error("write", path, error))?;
        }
        self.close()?;
        Ok(self.done)
    }
}

/// Writes a Parquet file for people and other tools to read.
pub struct ParquetWriter {
    path: PathBuf,
    writer: ArrowWriter<HashedFile>,
    rows: u64,
}

impl ParquetWriter {
    /// A file of `schema`, compressed with zstd.
    pub fn create(path: &Path, schema: SchemaRef) -> Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            // What is not written yet is held in memory.
            .set_max_row_group_row_count(Some(1 << 16))
            .build();
        let file = HashedFile::create(path)?;
        let writer = ArrowWriter::try_new(file, schema, Some(properties));
        let writer = writer.map_err(|error| parquet_error(path, error))?;
        Ok(ParquetWriter { path: path.to_path_buf(), writer, rows: 0 })
    }

    /// Appends a batch.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch).map_err(|error| parquet_error(&self.path, error))
    }

    /// Writes the rest and closes the file.
    pub fn finish(self) -> Result<FileEntry> {
        let ParquetWriter { path, writer, rows } = self;
        writer.into_inner().map_err(|error| parquet_error(&path, error))?.finish(Some(rows))
    }
}

/// An error of the Parquet writer: nearly always the file system's.
fn parquet_error(path: &Path, error: ParquetError) -> Error {
    let source = match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => *source,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    };
    Error::io("write", path)(source)
}

/// Finds the batches of parts, one part after the other; each is read by whoever works on it, so that threads need not wait
/// for one reader.
pub struct PartReader {
    paths: std::vec::IntoIter<PathBuf>,
    open: Option<(Arc<Part>, usize)>,
}

impl PartReader {
    /// Batches of these files.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        PartReader { paths: paths.into_iter(), open: None }
    }
}

impl Iterator for PartReader {
    type Item = Result<PartBatch>;

    fn next(&mut self) -> Option<Result<PartBatch>> {
        loop {
            if let Some((part, number)) = &mut self.open {
                if let Some(&block) = part.blocks.get(*number) {
                    *number += 1;
                    return Some(part.batch(block));
                }
                self.open = None;
            }
            match Part::open(self.paths.next()?) {
                Ok(part) => self.open = Some((Arc::new(part), 0)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// An Arrow file with what its footer says.
struct Part {
    path: PathBuf,
    file: File,
    decoder: FileDecoder,
    blocks: Vec<Block>,
}

/// Bytes at the end of an Arrow file: the length of the footer, and what tells the format.
const FOOTER_END: u64 = 10;

impl Part {
    fn open(path: PathBuf) -> Result<Part> {
        let file = File::open(&path).map_err(Error::io("read", &path))?;
        let length = file.metadata().map_err(Error::io("read", &path))?.len();
        let parsed = Part::footer(&file, length).and_then(|footer| {
            let footer = root_as_footer(&footer).map_err(|error| ArrowError::ParseError(error.to_string()))?;
            let schema = footer.schema().ok_or_else(|| ArrowError::ParseError("no schema".into()))?;
            let mut decoder = FileDecoder::new(Arc::new(fb_to_schema(schema)), footer.version());
            for block in footer.dictionaries().iter().flatten() {
                decoder.read_dictionary(block, &read_block(&file, block)?)?;
            }
            Ok((decoder, footer.recordBatches().iter().flatten().copied().collect()))
        });
        let (decoder, blocks) = parsed.map_err(|error| arrow_error("read", &path, error))?;
        Ok(Part { path, file, decoder, blocks })
    }

    fn footer(file: &File, length: u64) -> std::result::Result<Vec<u8>, ArrowError> {
        let mut end = [0; FOOTER_END as usize];
        file.read_exact_at(&mut end, length.saturating_sub(FOOTER_END))?;
        let size = read_footer_length(end)?;
        let mut footer = vec![0; size];
        file.read_exact_at(&mut footer, length.saturating_sub(FOOTER_END + size as u64))?;
        Ok(footer)
    }

    /// The batch of a block, of which only the head is read.
    fn batch(self: &Arc<Part>, block: Block) -> Result<PartBatch> {
        let mut head = vec![0; length_of(block.metaDataLength().into())];
        let read = self.file.read_exact_at(&mut head, length_of(block.offset()) as u64).map_err(ArrowError::from);
        let rows = read.and_then(|()| {
            // Four bytes that no length has stand before the length in newer files.
            let start = if head.starts_with(&[0xff; 4]) { 8 } else { 4 };
            let message = root_as_message(head.get(start..).unwrap_or_default());
            let message = message.map_err(|error| ArrowError::ParseError(error.to_string()))?;
            Ok(message.header_as_record_batch().map_or(0, |batch| batch.length()))
        });
        let rows = rows.map_err(|error| arrow_error("read", &self.path, error))?;
        Ok(PartBatch { part: Arc::clone(self), block, rows: length_of(rows) })
    }
}

/// A length of the file format, which are signed there.
fn length_of(length: i64) -> usize {
    usize::try_from(length).unwrap_or(0)
}

fn read_block(file: &File, block: &Block) -> std::result::Result<Buffer, ArrowError> {
    let mut bytes =
        MutableBuffer::from_len_zeroed(length_of(block.metaDataLength().into()) + length_of(block.bodyLength()));
    file.read_exact_at(&mut bytes, length_of(block.offset()) as u64)?;
    Ok(bytes.into())
}

/// A batch that has been found but not read.
pub struct PartBatch {
    part: Arc<Part>,
    block: Block,
    /// Number of its rows.
    pub rows: usize,
}

impl PartBatch {
    /// Reads it.
    ///
    /// # Errors
    /// The file cannot be read, or is no Arrow file.
    pub fn read(&self) -> Result<RecordBatch> {
        let PartBatch { part, block, .. } = self;
        let batch = read_block(&part.file, block).and_then(|bytes| part.decoder.read_record_batch(block, &bytes));
        let nothing = || ArrowError::ParseError("an empty message in the place of a batch".into());
        batch.and_then(|batch| batch.ok_or_else(nothing)).map_err(|error| arrow_error("read", &part.path, error))
    }
}
