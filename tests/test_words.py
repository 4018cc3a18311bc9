"""The words by which near-duplicates are told are those of Python: `\\w+` of `str.lower`."""

import re
import runpy
import unicodedata
from pathlib import Path

import pytest

from zephyr_data import _core

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "rust/core/src/dedup/near/word_table.rs"
UNICODE = (14, 0, 0)


def python_words(text):
    return re.findall(r"\w+", text.lower())


def known():
    """All characters that Unicode knew when the table was made."""
    if tuple(map(int, unicodedata.unidata_version.split("."))) != UNICODE:
        pytest.skip(
            f"the table is that of Unicode {UNICODE}, Python's {unicodedata.unidata_version}"
        )
    return [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]


def test_the_table_is_that_of_the_program():
    known()
    ranges = runpy.run_path(str(ROOT / "scripts/word_table.py"))["word_ranges"]()
    found = re.findall(r"\(0x([0-9A-F]+), 0x([0-9A-F]+)\)", TABLE.read_text(encoding="utf-8"))
    assert [[int(low, 16), int(high, 16)] for low, high in found] == ranges


def test_every_character_alone_and_within_a_word():
    for number in range(0, 0x110000, 0x4000):
        chars = known()[number : number + 0x4000]
        for pattern in ("{} ", "a{}b "):
            text = "".join(pattern.format(char) for char in chars)
            assert _core.words(text) == python_words(text), hex(number)


def test_a_capital_sigma_by_what_stands_around_it():
    # What is cased and what a sigma looks past is the standard library's: of what Unicode 14 knew, two have changed since.
    changed = {"\u0295", "\U0001171e"}
    assigned = [
        char for char in known() if unicodedata.category(char) != "Cn" and char not in changed
    ]
    for number in range(0, len(assigned), 0x4000):
        chars = assigned[number : number + 0x4000]
        text = " ".join(f"ΑΣ{char} {char}Σ{char}Α ΑΣ{char}Α" for char in chars)
        assert _core.words(text) == python_words(text), hex(number)


def test_words_of_real_chats(shared):
    import zstandard

    with (shared / "chats_single_turn.jsonl.zst").open("rb") as file:
        text = zstandard.ZstdDecompressor().stream_reader(file).read(1 << 22)
    text = text.decode("utf-8", errors="ignore")
    assert _core.words(text) == python_words(text)
