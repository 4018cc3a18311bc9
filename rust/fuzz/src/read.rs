//! Fuzz target: the readers of every format, codec and shape, on any bytes: no panic, and no more memory than a bound.
//!
//!     make fuzz FUZZ_TARGET=read FUZZ_SECONDS=600
//!
//! The first byte picks format and codec, the second kind, shape and how it is read; the others are the file, or are patched
//! into a valid Parquet or Arrow file, for few mutations would get past the checks of their ends. Where a codec is picked, the
//! bytes are compressed first, or taken for compressed bytes. A failing input is written to `rust/fuzz/artifacts/`; give its
//! path to the program to see the panic.
#![no_main]

#[path = "../../core/src/error.rs"]
#[expect(dead_code, reason = "part of the core's errors")]
mod error;
#[path = "../../core/src/read/mod.rs"]
#[expect(dead_code, unused_imports, reason = "part of the core's readers")]
mod read;
#[path = "../../core/src/record.rs"]
#[expect(dead_code, reason = "part of the core's records")]
mod record;
#[path = "../../core/src/schema/mod.rs"]
#[expect(dead_code, unused_imports, reason = "part of the core's columns")]
mod schema;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, StructBuilder,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type};
use arrow::ipc::writer::{FileWriter, StreamWriter};
use libfuzzer_sys::fuzz_target;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use read::{Chunks, InputFile, Position, Shape, for_each_text, recognise};
use record::Kind;

/// More than any of these small files may ask for; what a page of Parquet may claim, and is not written to, is half of it.
/// What is written to is held in by `-rss_limit_mb`.
const BOUND: usize = 1 << 32;

/// Counts what is held, and gives no more than the bound.
struct Bounded;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all memory is the system allocator's; a null is how an allocator says that there is none.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size() > BOUND {
            HELD.fetch_sub(layout.size(), Ordering::Relaxed);
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract of `alloc`, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size() > BOUND {
            HELD.fetch_sub(layout.size(), Ordering::Relaxed);
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `pointer` came from the system allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

const FORMATS: [&str; 5] = ["jsonl", "json", "parquet", "arrow", "ipc"];
const KINDS: [Option<Kind>; 3] = [None, Some(Kind::Chat), Some(Kind::Preference)];

struct Fixture {
    /// Valid files that are patched, by their format's number.
    files: Vec<(usize, Vec<u8>)>,
    /// Where the input lies; its ending is added.
    stem: PathBuf,
}

/// A table with the columns of every shape.
fn table() -> RecordBatch {
    let fields =
        Fields::from(vec![Field::new("role", DataType::Utf8, true), Field::new("content", DataType::Utf8, true)]);
    let columns = || -> Vec<Box<dyn arrow::array::ArrayBuilder>> {
        vec![Box::new(StringBuilder::new()), Box::new(StringBuilder::new())]
    };
    let mut turns = ListBuilder::new(StructBuilder::new(fields.clone(), columns()));
    for _ in 0..3 {
        for (role, content) in [("user", "Hello"), ("assistant", "Good day to you")] {
            let turn = turns.values();
            turn.field_builder::<StringBuilder>(0).expect("it is a string").append_value(role);
            turn.field_builder::<StringBuilder>(1).expect("it is a string").append_value(content);
            turn.append(true);
        }
        turns.append(true);
    }
    let texts = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![Some(text), Some(""), None])) };
    let extra: DictionaryArray<Int32Type> = [Some("x"), None, Some("y")].into_iter().collect();
    RecordBatch::try_from_iter_with_nullable([
        ("id", texts("one"), true),
        ("messages", Arc::new(turns.finish()) as ArrayRef, true),
        ("prompt", texts("Why?"), true),
        ("chosen", texts("Because."), true),
        ("rejected", texts("No."), true),
        ("text", texts("\n\nHuman: Hi\n\nAssistant: Hello"), true),
        ("score_chosen", Arc::new(Float64Array::from(vec![Some(1.0), None, Some(f64::NAN)])) as ArrayRef, true),
        ("extra", Arc::new(extra) as ArrayRef, true),
    ])
    .expect("the columns are of one length")
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    // libFuzzer's own hook aborts at every panic, but those that a reader makes an error of the file are none.
    set_hook(Box::new(|_| {}));
    let (batch, mut files) = (table(), Vec::new());
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::LZ4_RAW] {
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).expect("it has a schema");
        writer.write(&batch).expect("memory can be written to");
        files.push((2, writer.into_inner().expect("memory can be written to")));
    }
    let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).expect("it has a schema");
    writer.write(&batch).expect("memory can be written to");
    files.push((3, writer.into_inner().expect("memory can be written to")));
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).expect("it has a schema");
    writer.write(&batch).expect("memory can be written to");
    files.push((4, writer.into_inner().expect("memory can be written to")));
    let folder = std::env::temp_dir();
    Fixture { files, stem: folder.join(format!("zephyr-data-fuzz-{}", std::process::id())) }
});

/// The bytes of a valid file with some of them changed: of each patch two bytes say where, the third what is put there.
fn patched(valid: &[u8], patches: &[u8]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for patch in patches.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([patch[0], patch[1]])) % bytes.len();
        bytes[at] = patch[2];
    }
    bytes
}

fn compressed(ending: &str, bytes: Vec<u8>) -> Vec<u8> {
    match ending {
        ".gz" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&bytes).and_then(|()| encoder.finish()).expect("memory can be written to")
        }
        ".zst" => zstd::encode_all(bytes.as_slice(), 1).expect("memory can be written to"),
        _ => bytes,
    }
}

/// Reads the file as `clean` does, with columns carried along if `carry` has names; errors are what bad files are there for.
fn read_rows(file: InputFile, kind: Option<Kind>, shape: Option<Shape>, carry: &[String]) -> error::Result<()> {
    let (_, files) = recognise(vec![file], kind, shape)?;
    let files = files.into_iter().map(|file| file.carrying(carry)).collect::<error::Result<_>>()?;
    for chunk in Chunks::new(files, Position::default()) {
        chunk?.for_each_row(&mut |row| {
            if let Err(bad) = row {
                assert!(!bad.error.to_string().is_empty());
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Reads the file as `read_rows` or, like a benchmark, as texts: of the usual fields or of those that are named.
fn read_all(path: &Path, mode: usize, kind: Option<Kind>, shape: Option<Shape>) -> error::Result<()> {
    let file = InputFile::new(path)?;
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    match mode {
        0 => read_rows(file, kind, shape, &[]),
        1 => read_rows(file, kind, shape, &names(&["extra"])),
        2 => for_each_text(&file, None, &mut |_| Ok(())),
        _ => for_each_text(&file, Some(&names(&["extra", "id"])), &mut |_| Ok(())),
    }
}

fuzz_target!(|data: &[u8]| {
    let [first, second, rest @ ..] = data else { return };
    let fixture = &*FIXTURE;
    let (first, second) = (usize::from(*first), usize::from(*second));
    let codec = ["", ".gz", ".zst"][first / 16 % 3];
    let (format, bytes) = match fixture.files.get(first % 16) {
        Some((format, valid)) => (FORMATS[*format], patched(valid, rest)),
        None => (FORMATS[first % 16 % FORMATS.len()], rest.to_vec()),
    };
    let bytes = if first < 192 { compressed(codec, bytes) } else { bytes };
    let path = fixture.stem.with_extension(format!("{format}{codec}"));
    fs::write(&path, bytes).expect("the folder for temporary files can be written to");
    let shape = Shape::ALL.get(second / 3 % 8).copied();
    let (mode, kind) = (second / 24 % 4, KINDS[second % 3]);
    let read = catch_unwind(AssertUnwindSafe(|| read_all(&path, mode, kind, shape)));
    fs::remove_file(&path).expect("it was written a moment ago");
    if let Err(panic) = read {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        eprintln!("a reader panicked: {}", text.unwrap_or("unknown"));
        std::process::abort();
    }
});
