"""`show`: packed rows as text, with what carries the loss and where documents begin."""

import json
import os
import re
import subprocess
import sys

import pytest

from zephyr_data import ConfigError, open_packed
from zephyr_data.show import load_decoder, render_row, rows_of

pytestmark = pytest.mark.usefixtures("transformers")


@pytest.fixture(scope="module")
def packed(sample):
    return open_packed(sample.out)


def documents(text):
    """Header and body of each document of a plain row."""
    parts = re.split(r"^── (.*)\n", text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def test_a_row_is_its_documents_with_the_learned_text_in_brackets(
    packed, live_tokenizer, read_rows
):
    chats = {row["id"]: row["messages"] for row in read_rows(packed.folder.parent / "dedup")}
    shown = 0
    for row in range(rows_of(packed, "train")):
        (head, empty), *found = documents(
            render_row(packed, "train", row, live_tokenizer, colour=False).plain
        )
        assert head.startswith(
            f"train row {row} of {rows_of(packed, 'train')}: {len(found)} documents, "
        )
        assert empty == ""
        for header, body in found:
            number, name = re.match(r"document (\d+), `(.*?)`: ", header).groups()
            assert int(number) <= len(found)
            if header.endswith("truncated") or any(
                "</s>" in turn["content"] for turn in chats[name]
            ):
                continue
            expected = "".join(
                f"<|{turn['role']}|>\n"
                + (
                    f"⟦{turn['content']}</s>⟧"
                    if turn["role"] == "assistant"
                    else f"{turn['content']}</s>"
                )
                + "\n"
                for turn in chats[name]
            )
            assert body == expected
            shown += 1
    assert shown > 150


def test_colour_takes_the_place_of_brackets(packed, live_tokenizer):
    text = render_row(packed, "train", 0, live_tokenizer, colour=True)
    plain = render_row(packed, "train", 0, live_tokenizer, colour=False).plain
    assert text.plain == re.sub("[⟦⟧]", "", plain)
    green = "".join(
        text.plain[span.start : span.end] for span in text.spans if span.style == "green"
    )
    assert green == "".join(re.findall("⟦(.*?)⟧", plain, re.DOTALL))


def test_a_pair_is_its_prompt_and_both_answers(pairs, live_tokenizer, read_rows):
    packed = open_packed(pairs.out)
    rows = {row["id"]: row for row in read_rows(pairs.out / "dedup")}
    (head, _), (prompt, text), (chosen, good), (rejected, bad) = documents(
        render_row(packed, "train", 0, live_tokenizer, colour=False).plain
    )
    row = rows[re.search("`(.*)`", head)[1]]
    assert prompt.startswith("prompt: ")
    assert text.endswith(f"{row['prompt'][-1]['content']}</s>\n<|assistant|>\n")
    assert chosen.startswith("chosen: ")
    assert good == f"⟦{row['chosen'][-1]['content']}</s>\n⟧\n"
    assert rejected.startswith("rejected: ")
    assert bad == f"⟦{row['rejected'][-1]['content']}</s>\n⟧"


@pytest.mark.parametrize("row", [-1, 10**6])
def test_no_such_row(packed, live_tokenizer, row):
    last = rows_of(packed, "train") - 1
    with pytest.raises(
        ConfigError, match=f"no such row in `train`: `{row}`\nhint: rows count from 0 to {last}$"
    ):
        render_row(packed, "train", row, live_tokenizer, colour=False)


def test_another_tokenizer_is_refused(packed, examples, tmp_path):
    path = tmp_path / "other"
    path.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / name).write_bytes((examples / "tokenizer" / name).read_bytes())
    (path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    with pytest.raises(
        ConfigError, match=f"not packed with this tokenizer and chat template: `{path}`\nhint: name"
    ):
        load_decoder(packed, str(path))


def test_a_tokenizer_that_has_moved(prepare, examples, tmp_path, write_rows, chat):
    import shutil

    moved = shutil.copytree(examples / "tokenizer", tmp_path / "before")
    rows = write_rows(tmp_path / "chats.jsonl", [chat("Hi", "Hello!")])
    out = tmp_path / "out"
    prepare(rows, out, tokenizer=moved)
    moved.rename(tmp_path / "after")
    with pytest.raises(
        ConfigError, match="no such folder.*\nhint: the rows name it as it was given to `prepare`"
    ):
        load_decoder(open_packed(out), None)
    assert load_decoder(open_packed(out), str(tmp_path / "after")).decode([4]) == "<|user|>"


def test_the_command(command, sample):
    done = command("show", sample.out, "--row", 1, "--rows", 2)
    assert (done.returncode, done.stderr) == (0, "")
    assert "train row 1 of " in done.stdout
    assert "train row 2 of " in done.stdout
    assert "train row 3 of " not in done.stdout
    assert "⟦" in done.stdout
    assert "\x1b" not in done.stdout
    assert command("show", sample.out, "--split", "test").stdout.startswith("── test row 0 of ")


def test_the_command_refuses_what_is_not_there(command, sample, tmp_path):
    refused = {
        ("show", str(sample.out), "--split", "dev"): (2, "error: unknown split: `dev`\n"),
        ("show", str(sample.out), "--row", "99999"): (
            2,
            "error: there is no such row in `train`: `99999`\n",
        ),
        ("show", str(tmp_path)): (
            1,
            f"error: cannot use `{tmp_path}`: it has no `manifest.json`\n",
        ),
    }
    for arguments, (code, words) in refused.items():
        done = command(*arguments)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith(words)
        assert "\nhint: " in done.stderr


def test_what_the_environment_says_of_the_extension_is_not_blamed_on_the_tokenizer(sample):
    done = subprocess.run(
        [sys.executable, "-m", "zephyr_data", "show", sample.out],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"ZEPHYR_DATA_SIMD": "sse9"},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "found: `sse9`\nhint: here it may be `" in done.stderr
    assert "--tokenizer" not in done.stderr


def test_a_reader_that_stops_early_is_no_error(sample):
    count = json.loads((sample.out / "packed" / "manifest.json").read_text())["counts"]["train"][
        "rows"
    ]
    show = f"{sys.executable} -m zephyr_data show {sample.out} --rows {count}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {show} | head -n 1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("── train row 0")
    assert done.stderr == ""
