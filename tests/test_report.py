"""`report.html`: its numbers are those of the manifests, and a browser shows it."""

import html
import json
import re
import shutil
import struct
import subprocess
import zlib

import pytest

from zephyr_data import open_packed
from zephyr_data.manifest import read_manifest


@pytest.fixture(scope="module")
def with_report(prepare, examples, tmp_path_factory):
    """The runs of both samples, chats and pairs."""
    folder = tmp_path_factory.mktemp("report")
    return {
        "chat": prepare(
            examples / "chats.jsonl", folder / "chats", max_length=512, test_fraction=0.1
        ),
        "preference": prepare(examples / "preferences.jsonl", folder / "pairs", test_fraction=0.1),
    }


def page_of(result):
    return (result.out / "report.html").read_text(encoding="utf-8")


def numbers(text):
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1]
    )


def text_of(page):
    """What a reader sees, with white space made even."""
    body = re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


@pytest.mark.parametrize("kind", ["chat", "preference"])
def test_the_numbers_are_those_of_the_manifests(with_report, kind, read_rows):
    result = with_report[kind]
    found = numbers(page_of(result))
    assert found["kind"] == kind
    folders = {"clean": "clean", "dedup": "dedup", "pack": "packed"}
    dropped = {}
    for stage in found["stages"]:
        counts = read_manifest(result.out / folders[stage["stage"]]).counts
        assert (stage["rows_in"], stage["rows_out"]) == (counts["rows_in"], counts["rows_out"])
        assert stage["dropped"] == sum(counts["dropped"].values())
        assert stage["seconds"] > 0
        dropped |= {(stage["stage"], reason): count for reason, count in counts["dropped"].items()}
    assert {(drop["stage"], drop["reason"]): drop["count"] for drop in found["dropped"]} == dropped
    packed = read_manifest(result.out / "packed").counts
    for split in ("train", "test"):
        for name in ("rows", "tokens", "supervised_tokens", "truncated"):
            assert found["splits"][split][name] == packed[split][name]
    assert sum(found["repairs"].values()) == found["letters_repaired"] > 0
    rejects = {
        row["id"]: row
        for folder in ("clean", "dedup")
        for row in read_rows(result.out / folder / "rejects")
    }
    for drop in found["dropped"]:
        assert len(drop["examples"]) == min(drop["count"], 3)
        for example in drop["examples"]:
            row = rejects[example["id"]]
            assert (row["reason"], row["detail"]) == (drop["reason"], example["detail"])


def test_the_histograms_count_every_document_and_row(with_report):
    chats, pairs = with_report["chat"], with_report["preference"]
    found, packed = numbers(page_of(chats)), open_packed(chats.out)
    lengths = [
        n for split in ("train", "test") for n in packed.documents(split)["length"].to_pylist()
    ]
    rows = [
        len(r) for split in ("train", "test") for r in packed.table(split)["input_ids"].to_pylist()
    ]
    for name, values in (("lengths", lengths), ("fill", rows)):
        of = found[name]
        assert of["counts"] == [
            sum((value - 1) // of["width"] == place for value in values)
            for place in range(len(of["counts"]))
        ]
        assert of["total"] == len(values) == sum(of["counts"])
        assert of["mean"] == pytest.approx(sum(values) / len(values))
    found, packed = numbers(page_of(pairs)), open_packed(pairs.out)
    assert found["fill"] is None
    assert found["lengths"]["total"] == 2 * sum(
        packed.table(split).num_rows for split in ("train", "test")
    )


def test_roles_and_scripts_are_those_of_the_rows_that_stay(with_report, read_rows):
    result = with_report["chat"]
    found = numbers(page_of(result))
    turns = [turn for row in read_rows(result.out / "dedup") for turn in row["messages"]]
    assert found["turns_by_role"] == {
        role: sum(turn["role"] == role for turn in turns)
        for role in ("assistant", "system", "user")
    }
    assert found["characters_by_role"]["user"] == sum(
        len(turn["content"]) for turn in turns if turn["role"] == "user"
    )
    assert sum(found["rows_by_script"].values()) == found["rows"] == result.stages["dedup"].rows_out
    assert found["rows_by_script"]["Latin"] > found["rows_by_script"]["Cyrillic"] > 0


def test_the_page_shows_them_and_needs_nothing_else(with_report):
    page = page_of(with_report["chat"])
    found, seen = numbers(page), text_of(page)
    assert (
        f"{found['stages'][-1]['rows_out']:,} of {found['stages'][0]['rows_in']:,} chats are ready"
        in seen
    )
    assert f"{found['splits']['train']['tokens']:,} train tokens" in seen
    for drop in found["dropped"]:
        assert f"{drop['reason']} {drop['stage']} {drop['count']:,}" in seen
    assert not re.search(r"(src|href)=|@import|url\(", page)


def test_hostile_text_stays_text(prepare, tmp_path, write_rows, chat):
    bad = '</script><script>alert(1)</script><img src=x onerror=alert(2)> & "'
    rows = [chat("Hi", "Hello there."), chat(bad, " ", id=bad), chat("Hi you", bad + "!", id="b")]
    page = page_of(
        prepare(write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "out", test_fraction=0)
    )
    assert "<script>alert" not in page
    assert "<img" not in page
    assert numbers(page)["dropped"][0]["examples"][0]["id"] == bad


def test_it_can_be_left_out_and_outlives_a_run_that_does_nothing(
    prepare, tmp_path, write_rows, chat
):
    path = write_rows(tmp_path / "rows.jsonl", [chat("Hi", "Hello there.")])
    out = tmp_path / "out"
    result = prepare(path, out, report=False)
    assert not (out / "report.html").exists()
    prepare(path, out)  # every stage is skipped, but there is no page yet
    assert {stage["seconds"] for stage in numbers(page_of(result))["stages"]} == {None}
    assert "skipped" in text_of(page_of(result))
    (out / "report.html").write_text("mine")
    prepare(path, out)
    assert page_of(result) == "mine"
    prepare(path, out, max_length=64)
    assert page_of(result) != "mine"
    prepare(path, out, overwrite=True, report=False)
    assert not (out / "report.html").exists()


@pytest.fixture(scope="module")
def browser():
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium on the PATH")


def run_browser(browser, folder, *arguments):
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder}/profile",
    ]
    return subprocess.run(
        [*command, *arguments], capture_output=True, timeout=120, check=True
    ).stdout


def colours(path):
    """The colours of a PNG's pixels, as a set."""
    data = path.read_bytes()
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    channels = {2: 3, 6: 4}[colour]
    assert depth == 8
    at, packed = 8, b""
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        if data[at + 4 : at + 8] == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += length + 12
    raw, stride = zlib.decompress(packed), width * channels + 1
    # Filtered rows are good enough to tell an empty page from one with something on it.
    return {raw[row * stride : (row + 1) * stride] for row in range(height)}


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1100])
def test_a_browser_shows_the_page(with_report, browser, tmp_path, width):
    result = with_report["chat"]
    address = (result.out / "report.html").resolve().as_uri()
    seen = text_of(run_browser(browser, tmp_path, "--dump-dom", address).decode())
    tokens = read_manifest(result.out / "packed").counts["train"]["tokens"]
    assert f"{tokens:,} train tokens" in seen
    picture, empty = tmp_path / "page.png", tmp_path / "empty.png"
    blank = tmp_path / "blank.html"
    blank.write_text("<!doctype html>")
    for target, path in ((address, picture), (blank.as_uri(), empty)):
        run_browser(
            browser, tmp_path, f"--window-size={width},1600", f"--screenshot={path}", target
        )
    assert len(colours(empty)) < 5
    assert len(colours(picture)) > 200
    # Nothing is wider than the screen: the page does not scroll to the side.
    probe = tmp_path / "probe.html"
    probe.write_text(
        page_of(result).replace(
            "</body>",
            "<script>document.title = document.documentElement.scrollWidth <= innerWidth ? 'fits' : 'wide'</script></body>",
        ),
        encoding="utf-8",
    )
    dom = run_browser(
        browser, tmp_path, f"--window-size={width},1600", "--dump-dom", probe.as_uri()
    )
    assert b"<title>fits</title>" in dom
