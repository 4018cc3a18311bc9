//! Whether strings in memory are UTF-8, before anything trusts them.
//!
//! Arrow demands it, and readers of files see to it here. What another library hands over may be otherwise: pyarrow takes the
//! bytes of a Parquet file as they are.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, LargeBinaryArray, OffsetSizeTrait};
use arrow::array::{GenericBinaryArray, RecordBatch};
use arrow::datatypes::DataType;

use super::batch::lists;
use crate::error::{Error, Result};

/// The columns of a table.
///
/// # Errors
/// A column holds other bytes; `file` is what the table is called.
pub fn check_table(file: &str, batches: &[RecordBatch]) -> Result<()> {
    for batch in batches {
        for (column, field) in batch.columns().iter().zip(batch.schema_ref().fields()) {
            check(file, Some(field.name()), column)?;
        }
    }
    Ok(())
}

/// One column, or an array that has no name.
///
/// # Errors
/// It holds other bytes; `file` is what it, or the table around it, is called.
pub fn check(file: &str, column: Option<&str>, array: &ArrayRef) -> Result<()> {
    if is_utf8(array) {
        return Ok(());
    }
    let place = column.map_or_else(|| "it".to_string(), |name| format!("the column `{name}`"));
    Err(Error::Format {
        path: file.into(),
        message: format!("{place} holds strings that are not UTF-8"),
        hint: "decode them from their own encoding, or leave such rows out".into(),
    })
}

fn is_utf8(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Utf8 => is_plain(&BinaryArray::from(array.as_string::<i32>().clone())),
        DataType::LargeUtf8 => is_plain(&LargeBinaryArray::from(array.as_string::<i64>().clone())),
        DataType::Utf8View => {
            let views = array.as_string_view().clone().to_binary_view();
            views.iter().flatten().all(|bytes| std::str::from_utf8(bytes).is_ok())
        }
        DataType::Dictionary(..) => array.as_any_dictionary_opt().is_none_or(|encoded| is_utf8(encoded.values())),
        DataType::Struct(_) => array.as_struct().columns().iter().all(is_utf8),
        DataType::Map(..) => array.as_map().entries().columns().iter().all(is_utf8),
        _ => lists(array).is_none_or(|lists| is_utf8(lists.values())),
    }
}

/// All at once, which is fast, and then that no string begins within a character.
fn is_plain<O: OffsetSizeTrait>(array: &GenericBinaryArray<O>) -> bool {
    let offsets = array.value_offsets();
    let (first, last) = (offsets[0].as_usize(), offsets[array.len()].as_usize());
    let Some(text) = array.value_data().get(first..last).and_then(|bytes| std::str::from_utf8(bytes).ok()) else {
        // Bytes under a null may be anything.
        return array.iter().flatten().all(|bytes| std::str::from_utf8(bytes).is_ok());
    };
    offsets.iter().all(|offset| text.is_char_boundary(offset.as_usize() - first))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use arrow::array::{ListArray, StringArray, StringViewArray, StructArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{Field, Fields};

    #[test]
    fn strings_are_found_in_lists_and_structs() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("ä"), None, Some("日本")]));
        let views: ArrayRef = Arc::new(StringViewArray::from(vec!["a", "b", "a text that is no inline one: ä"]));
        let fields =
            Fields::from(vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Utf8View, true)]);
        let rows: ArrayRef = Arc::new(StructArray::new(fields.clone(), vec![texts, views], None));
        let item = Arc::new(Field::new("item", DataType::Struct(fields), true));
        let lists: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([1, 2]), rows, None));
        assert!(check("frame", Some("x"), &lists).is_ok());
        assert!(check("frame", None, &lists.slice(1, 1)).is_ok());
    }

    #[test]
    fn other_bytes_are_not_taken_for_text() {
        let plain = |values: Vec<Option<&[u8]>>| is_plain(&BinaryArray::from(values));
        assert!(plain(vec![Some("ä".as_bytes()), None, Some(b"a")]));
        assert!(!plain(vec![Some(b"a"), Some(b"\xff")]));
        // Two halves of a character are a text together, and none alone.
        assert!(!plain(vec![Some(&"ä".as_bytes()[..1]), Some(&"ä".as_bytes()[1..])]));
    }
}
