r"""Writes the table of word characters that near-duplicates are told by: what `\w` matches in Python.

    python scripts/word_table.py > rust/core/src/dedup/near/word_table.rs

Unicode grows with every release of Python; the table is that of the Python which ran this, and a character that was not
assigned then separates words. `tests/test_words.py` holds it against the Python that runs the tests.
"""

import re
import unicodedata

HEAD = """\
//! The characters that `\\w` matches in Python, as ranges with both ends: Unicode {version}.
//!
//! Written by `scripts/word_table.py`; do not edit.

#[rustfmt::skip]
pub(super) const WORD_RANGES: [(u32, u32); {count}] = [
"""


def word_ranges() -> list[list[int]]:
    """The ranges of code points that are word characters."""
    word = re.compile(r"\w")
    ranges: list[list[int]] = []
    for code in range(0x110000):
        if not word.match(chr(code)):
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return ranges


def main() -> None:
    """Prints the table."""
    ranges = word_ranges()
    print(HEAD.format(version=unicodedata.unidata_version, count=len(ranges)), end="")
    line = "   "
    for low, high in ranges:
        item = f" (0x{low:X}, 0x{high:X}),"
        if len(line) + len(item) > 118:
            print(line)
            line = "   "
        line += item
    print(line + "\n];")


if __name__ == "__main__":
    main()
