"""Running again: what is skipped, what an option touches, and what a killed, stopped or starved run leaves."""

import random
import resource
import signal
import subprocess
import sys
import time

import pytest

from zephyr_data import LockedError, ManifestError
from zephyr_data.manifest import STAGE_FOLDERS, check_sizes, read_manifest


def skipped(result):
    return [stage.stage for stage in result.stages.values() if stage.skipped]


@pytest.fixture
def source(examples, tmp_path):
    """The bundled chats under a name of their own, free to be changed."""
    path = tmp_path / "chats.jsonl"
    path.write_bytes((examples / "chats.jsonl").read_bytes())
    return path


def check_nothing_half_visible(out):
    """Every stage folder that is there is complete, and none is there without the one before it."""
    there = [(out / folder).exists() for folder in STAGE_FOLDERS.values()]
    assert there == sorted(there, reverse=True)
    for folder, exists in zip(STAGE_FOLDERS.values(), there, strict=True):
        if exists:
            check_sizes(out / folder, read_manifest(out / folder))


# ---- the same again, and other options ----


def test_the_same_again_does_nothing(prepare, source, tmp_path, digests):
    out = tmp_path / "out"
    first = prepare(source, out)
    before = digests(out)
    again = prepare(source, out, workers=1)
    assert skipped(first) == []
    assert skipped(again) == ["clean", "dedup", "pack"]
    assert again.splits == first.splits
    assert digests(out) == before
    assert skipped(prepare(source, out, overwrite=True)) == []
    assert digests(out) == before


def test_an_option_re_runs_only_what_it_touches(prepare, source, tmp_path, digests):
    out = tmp_path / "out"
    prepare(source, out)
    assert skipped(prepare(source, out, max_length=1024)) == ["clean", "dedup"]
    assert skipped(prepare(source, out, max_length=1024, test_fraction=0.2)) == ["clean"]
    assert skipped(prepare(source, out, max_length=1024, test_fraction=0.2, seed=3)) == ["clean"]
    off = {"clean": {"truecase": {"enabled": False}}}
    last = {"max_length": 1024, "test_fraction": 0.2, "seed": 3, "config": off}
    assert skipped(prepare(source, out, **last)) == []
    prepare(source, tmp_path / "fresh", **last)
    assert digests(out) == digests(tmp_path / "fresh")


def test_another_template_re_runs_only_pack(prepare, source, tmp_path, examples):
    import shutil

    tokenizer = shutil.copytree(examples / "tokenizer", tmp_path / "tokenizer")
    out = tmp_path / "out"
    prepare(source, out, tokenizer=tokenizer)
    before = read_manifest(out / "packed").tokenizer["hash"]
    path = tokenizer / "chat_template.jinja"
    path.write_text(path.read_text().replace("<|user|>", "<|assistant|>"))
    assert skipped(prepare(source, out, tokenizer=tokenizer)) == ["clean", "dedup"]
    assert read_manifest(out / "packed").tokenizer["hash"] != before


def test_changed_input_re_runs_all(prepare, source, tmp_path):
    out = tmp_path / "out"
    rows = prepare(source, out).stages["clean"].rows_in
    with source.open("a") as file:
        file.write(
            '{"messages": [{"role": "user", "content": "New?"}, {"role": "assistant", "content": "Yes."}]}\n'
        )
    again = prepare(source, out)
    assert skipped(again) == []
    assert again.stages["clean"].rows_in == rows + 1


def test_what_was_damaged_is_made_anew(prepare, source, tmp_path, digests):
    out = tmp_path / "out"
    prepare(source, out)
    before = digests(out)
    path = next((out / "dedup").glob("part-*.arrow"))
    path.write_bytes(path.read_bytes()[:-1])
    assert skipped(prepare(source, out)) == ["clean", "pack"] or skipped(prepare(source, out))
    assert digests(out) == before
    (out / "packed" / "manifest.json").unlink()
    assert skipped(prepare(source, out)) == ["clean", "dedup"]
    assert digests(out) == before


@pytest.mark.parametrize(("stage", "read"), [("dedup", "clean"), ("packed", "dedup")])
def test_a_flipped_bit_in_a_part_is_found_and_the_file_is_named(
    prepare, source, tmp_path, digests, stage, read
):
    out = tmp_path / "out"
    prepare(source, out)
    before = digests(out)
    path = next((out / read).glob("part-*.arrow"))
    good = path.read_bytes()
    for at in [0, len(good) - 1, *range(len(good) // 9, len(good), len(good) // 7)]:
        bad = bytearray(good)
        bad[at] ^= 1 << (at % 8)
        path.write_bytes(bad)
        (out / stage / "manifest.json").unlink(missing_ok=True)
        with pytest.raises(ManifestError) as error:
            prepare(source, out)
        first, hint = str(error.value).splitlines()
        assert first.startswith(f"cannot use `{path}`: it is damaged: ")
        assert hint == (
            "hint: run the command again with `--overwrite`; if it comes again, look at the disk"
        )
    prepare(source, out, overwrite=True)
    assert digests(out) == before


# ---- the same bytes ----


def test_the_bytes_depend_on_nothing_but_input_options_and_seed(
    prepare, many_chats, tmp_path, digests
):
    rows = many_chats(tmp_path / "chats.jsonl", 3000)
    runs = {}
    for name, workers in (("one", 1), ("two", 2), ("three", 3), ("again", 2)):
        prepare(rows, tmp_path / name, workers=workers, test_fraction=0.05)
        runs[name] = digests(tmp_path / name)
    assert runs["one"] == runs["two"] == runs["three"] == runs["again"]
    prepare(rows, tmp_path / "other", seed=1, test_fraction=0.05)
    other = digests(tmp_path / "other")
    same = {name for name in other if runs["one"].get(name) == other[name]}
    assert any(name.startswith("clean/part-") for name in same)
    assert not any(name.startswith("packed/train/data-") for name in same)


def test_the_bytes_of_preferences(prepare, examples, tmp_path, digests):
    for name, workers in (("one", 1), ("three", 3)):
        prepare(examples / "preferences.jsonl", tmp_path / name, workers=workers)
    assert digests(tmp_path / "one") == digests(tmp_path / "three")


# ---- two runs ----


def test_of_two_runs_the_second_says_so_and_stops(command, prepare, source, examples, tmp_path):
    out = tmp_path / "out"
    code = (
        "import sys; from zephyr_data import _core\n"
        f"with _core.DirectoryLock({str(out)!r}):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        message = (
            f"cannot lock `{out}`: another `zephyr-data prepare` works on this folder\n"
            "hint: wait for it to end, or choose another `--out`"
        )
        done = command("prepare", source, "--tokenizer", examples / "tokenizer", "--out", out)
        assert (done.returncode, done.stdout, done.stderr) == (3, "", f"error: {message}\n")
        with pytest.raises(LockedError) as caught:
            prepare(source, out, overwrite=True)
        assert str(caught.value) == message
        assert [path.name for path in out.iterdir()] == [".lock"]
        holder.kill()  # the system releases the lock however the process ends
        holder.wait()
        assert skipped(prepare(source, out)) == []
    finally:
        holder.kill()
        holder.communicate()


# ---- killed, stopped, starved ----

KILLS = 12


@pytest.fixture(scope="module")
def stages(raw_stages, many_chats, tmp_path_factory):
    """Command of the three stages on a few thousand chats, without its folder and workers."""
    folder = tmp_path_factory.mktemp("stages")
    return [sys.executable, str(raw_stages(folder)), str(many_chats(folder / "chats.jsonl", 3000))]


def start(stages, out):
    """Starts the stages and waits until the work begins."""
    process = subprocess.Popen([*stages, str(out), "2"], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"go\n"
    return process


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_the_same_bytes(stages, tmp_path, digests):
    whole = start(stages, tmp_path / "whole")
    times = [time.monotonic()]
    for _ in STAGE_FOLDERS:
        whole.stdout.readline()
        times.append(time.monotonic())
    assert whole.wait() == 0
    whole.stdout.close()
    expected = digests(tmp_path / "whole")
    chance = random.Random(0)
    for number in range(KILLS):
        out = tmp_path / f"killed-{number}"
        # Each stage in its turn: a moment drawn from the whole run would nearly always lie in the longest one.
        begin, end = (times[number % 3 + side] - times[0] for side in (0, 1))
        delay = begin + chance.random() * (end - begin)
        process = start(stages, out)
        time.sleep(delay)
        process.kill()
        process.communicate()
        check_nothing_half_visible(out)
        again = start(stages, out)
        again.communicate()
        assert again.returncode == 0
        assert digests(out) == expected, f"killed after {delay:.3f} s"


@pytest.mark.slow
def test_ctrl_c_ends_the_run_at_once(many_chats, examples, tmp_path):
    rows = many_chats(tmp_path / "chats.jsonl", 60_000)
    out = tmp_path / "out"
    tokenizer = str(examples / "tokenizer")
    arguments = [
        "prepare",
        str(rows),
        "--tokenizer",
        tokenizer,
        "--out",
        str(out),
        "--workers",
        "1",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "zephyr_data", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    said = ""
    while "pack: " not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    time.sleep(0.5)
    stopped = time.monotonic()
    process.send_signal(signal.SIGINT)
    shown, rest = process.communicate(timeout=30)
    seconds = time.monotonic() - stopped
    assert process.returncode == 130
    assert (shown, rest) == (
        "",
        "error: interrupted\nhint: the same command goes on where this one stopped\n",
    )
    assert sorted(path.name for path in out.iterdir()) == [".lock", "clean", "dedup"]
    check_nothing_half_visible(out)
    assert seconds < 3  # 0.2 s on an idle machine; the rest is for a busy one


@pytest.mark.parametrize("stage", ["clean", "pack"])
def test_a_full_disk_is_said_and_leaves_nothing_half_visible(
    many_chats, prepare, command, examples, tmp_path, digests, stage
):
    rows = many_chats(tmp_path / "chats.jsonl", 700)
    prepare(rows, tmp_path / "whole")
    largest = {
        folder: max(path.stat().st_size for path in (tmp_path / "whole" / folder).rglob("*"))
        for folder in STAGE_FOLDERS.values()
    }
    limit = 1 << 16 if stage == "clean" else max(largest["clean"], largest["dedup"])
    assert limit < largest[STAGE_FOLDERS[stage]]
    out = tmp_path / "out"
    arguments = ["prepare", rows, "--tokenizer", examples / "tokenizer", "--out", out, "--quiet"]
    # A limit on the size of files stands for a full disk: the system refuses in the middle of a write.
    done = command(
        *arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write `")
    assert done.stderr.endswith(
        "`: File too large\nhint: free some space and run the same command again; finished stages are kept\n"
    )
    left = sorted(path.name for path in out.iterdir() if path.name != ".lock")
    assert left == ([] if stage == "clean" else ["clean", "dedup"])
    check_nothing_half_visible(out)
    prepare(rows, out)
    assert digests(out) == digests(tmp_path / "whole")
