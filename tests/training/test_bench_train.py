"""`benches/train.py`: our columns compute what an independent program computes, and the figures add up."""

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHES, TRAINING = ROOT / "benches", ROOT / "training"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # torch and transformers warn on their own
]

SHAPE = (32, 64, 2, 4, 2, 199)  # hidden, intermediate, layers, heads, key/value heads, vocabulary


@pytest.fixture(scope="module")
def bench():
    """A function: a module of the bench."""
    pytest.importorskip("torch", reason="needs the extra `train`")
    places = [str(BENCHES), str(TRAINING), str(TRAINING / "recipes" / "tiny")]
    sys.path[:0] = places
    before = set(sys.modules)
    yield importlib.import_module
    for place in places:
        sys.path.remove(place)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(ROOT)):
            del sys.modules[name]


@pytest.fixture
def options(tmp_path):
    lengths = tmp_path / "lengths.json"
    lengths.write_text(json.dumps({"lengths": [[5, 3, 9], [1, 1, 4], [20, 7, 2]]}))
    return argparse.Namespace(
        what="dpo",
        shape=SHAPE,
        device="cpu",
        dtype="float32",
        seed=0,
        attn="auto",
        lengths=lengths,
        max_length=64,
    )


@pytest.mark.parametrize("share", [True, False])
def test_answers_have_the_log_probabilities_of_padded_rows(bench, options, share):
    import torch

    ours, attention = bench("steps.ours"), bench("attention")
    make_model, pairs = bench("steps.model").make_model, bench("steps.rows").pairs
    choice = attention.choose("auto", torch.device("cpu"), torch.float32)
    rows = pairs(options, 7)
    with torch.no_grad():
        found = ours.answer_logps(
            make_model(options, attention.register(choice)), ours.preferences(rows, share=share)
        )
    model = make_model(options, "sdpa").eval()
    padded = [
        bench("preferences").answer_logps(model, rows, name)
        for name in ("chosen_ids", "rejected_ids")
    ]
    torch.testing.assert_close(found, torch.cat(padded), atol=1e-4, rtol=0)


def test_the_loss_of_packed_chats_is_that_of_single_documents(bench, options):
    import torch

    ours, attention, rows = bench("steps.ours"), bench("attention"), bench("steps.rows")
    options.what = "sft"
    options.lengths.write_text(json.dumps({"lengths": [7, 30, 12, 2]}))
    make_model = bench("steps.model").make_model
    choice = attention.choose("auto", torch.device("cpu"), torch.float32)
    documents = rows.documents(options, 9)
    model = make_model(options, attention.register(choice))
    with torch.no_grad():
        packed = ours.chats(rows.packed(documents, 64))
        found = ours.sft_loss(model, packed, None)
        alone = make_model(options, "sdpa")
        total, many = 0.0, 0
        for row in documents:
            ids, labels = (torch.tensor([row[name]]) for name in ("input_ids", "labels"))
            here = int((labels[:, 1:] != -100).sum())
            if here:
                total += alone(input_ids=ids, labels=labels).loss.item() * here
                many += here
    assert found.item() == pytest.approx(total / many, abs=1e-5)
    assert len(packed["predict"]) == many


def test_packing_keeps_every_document(bench, options):
    rows = bench("steps.rows")
    options.what = "sft"
    options.lengths.write_text(json.dumps({"lengths": [7, 30, 12, 64]}))
    documents = rows.documents(options, 40)
    packed = rows.packed(documents, 64)
    assert all(len(row["input_ids"]) == sum(row["seq_lengths"]) <= 64 for row in packed)
    apart = []
    for row in packed:
        start = 0
        for length in row["seq_lengths"]:
            apart.append(row["input_ids"][start : start + length])
            start += length
    assert sorted(apart) == sorted(row["input_ids"] for row in documents)
    assert all(token >= 10 for ids in apart for token in ids)


def test_operations_are_those_of_the_textbook(bench, options):
    """Two per weight and token, and four per width, layer and key that a query sees."""
    flops = bench("steps.model").flops
    hidden, intermediate, layers, heads, shared, vocabulary = SHAPE
    weights = layers * (2 * hidden**2 + 2 * hidden**2 * shared // heads + 3 * hidden * intermediate)
    weights += hidden * vocabulary
    seen = 10 * 11 / 2
    assert flops(options, [(10, 10)]) == 2 * weights * 10 + 4 * layers * hidden * seen
    # one query that sees all ten keys, as the last of the ten does
    assert flops(options, [(1, 10)]) == 2 * weights + 4 * layers * hidden * 10


@pytest.mark.parametrize("kind", ["chats", "pairs"])
def test_the_committed_lengths_are_numbers_alone(kind):
    found = json.loads((BENCHES / "lengths" / f"{kind}.json").read_text())
    assert set(found) == {"kind", "source", "command", "lengths"}
    flat = found["lengths"] if kind == "chats" else [n for row in found["lengths"] for n in row]
    assert len(found["lengths"]) == 1024
    assert all(isinstance(number, int) and 0 < number <= 2048 for number in flat)


def test_the_program_prints_a_line_for_each_column(tmp_path):
    lengths = tmp_path / "lengths.json"
    lengths.write_text(json.dumps({"lengths": [[5, 3, 9], [12, 7, 2]]}))
    command = [
        sys.executable,
        str(BENCHES / "train.py"),
        "dpo",
        "--columns",
        "ours-padding-free,ours",
    ]
    command += ["--lengths", str(lengths), "--warmup", "1", "--steps", "2", "--pairs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    environment, *columns, ratios = map(json.loads, done.stdout.splitlines())
    assert environment["versions"]["torch"]
    assert [line["column"] for line in columns] == ["ours-padding-free", "ours"]
    assert columns[0]["useful_tokens"] == columns[1]["useful_tokens"]  # the same rows
    assert ratios["ratios"].keys() == {"ours-padding-free"}


def test_a_column_that_is_not_there_is_refused():
    command = [sys.executable, str(BENCHES / "train.py"), "sft", "--columns", "theirs"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no such column of sft: theirs" in done.stderr
