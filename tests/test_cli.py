"""The command: help, version, table, silence, exit codes."""

import re
import signal
import subprocess
import sys
import time

import pytest

import zephyr_data


@pytest.fixture
def arguments(examples, tmp_path):
    """A complete `prepare` of the bundled chats."""
    out = tmp_path / "out"
    return [
        "prepare",
        examples / "chats.jsonl",
        "--tokenizer",
        examples / "tokenizer",
        "--out",
        out,
    ]


def test_the_version(command):
    done = command("--version")
    assert (done.returncode, done.stdout) == (0, f"zephyr-data {zephyr_data.__version__}\n")


def test_the_version_is_that_of_the_extension():
    from zephyr_data import _core

    assert zephyr_data.__version__ == _core.__version__


def test_help_is_complete(command):
    done = command("prepare", "--help")
    assert done.returncode == 0
    words = " ".join(done.stdout.split())
    for default in ("(2048)", "(0.01)", "(all CPUs)", "(0)", "(auto)", "(stop)", "(none)"):
        assert f"[default: {default}]" in words
    for expected in (
        "Examples:",
        "Exit codes: 0 done; 1 ",
        "130 Ctrl-C",
        "transformers.AutoTokenizer",
    ):
        assert expected in words
    options = re.findall(r"^  (?:-\w, )?(--[a-z-]+)", done.stdout, re.MULTILINE)
    assert options == [
        *(
            "--tokenizer",
            "--out",
            "--config",
            "--kind",
            "--max-length",
            "--test-fraction",
            "--decontaminate",
            "--workers",
        ),
        *("--seed", "--verify", "--on-bad-row", "--carry", "--overwrite", "--measure-recall"),
        *("--no-report", "--quiet", "--help"),
    ]


def test_help_loads_nothing_slow():
    slow = [
        "pyarrow",
        "polars",
        "transformers",
        "torch",
        "pydantic",
        "numpy",
        "zephyr_data._core",
        "yaml",
    ]
    code = (
        "import sys, atexit; from zephyr_data.cli import main\n"
        f"atexit.register(lambda: print([name for name in {slow} if name in sys.modules], file=sys.stderr))\n"
        "main(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_without_arguments_the_help_is_the_answer(command):
    done = command()
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: zephyr-data [OPTIONS] COMMAND")
    assert "error" not in done.stderr


def test_the_table_goes_to_stdout_and_progress_to_stderr(command, arguments):
    done = command(*arguments, "--test-fraction", "0.1")
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["stage", "rows", "in", "rows", "out", "dropped", "seconds", "MB/s"] in lines
    clean = next(line for line in lines if line[:1] == ["clean"])
    assert clean[1] == "241"
    for reason in (
        "ai_preface",
        "exact_duplicate",
        "constant_answer",
        "empty",
        "turns",
        "repetition",
    ):
        assert any(line[:1] == [reason] and line[1].isdigit() for line in lines), reason
    assert [
        "split",
        "chats",
        "rows",
        "tokens",
        "with",
        "loss",
        "truncated",
        "rows",
        "filled",
    ] in lines
    assert any(line[:1] == ["train"] and line[-1] == "%" for line in lines)
    assert re.search(r"^\d+ letters repaired in \d+ rows", done.stdout, re.MULTILINE)
    stages = re.findall(r"^(\w+): (.*)$", done.stderr, re.MULTILINE)
    assert [stage for stage, _ in stages] == ["clean", "clean", "dedup", "dedup", "pack", "pack"]
    assert re.fullmatch(r"done, \d+ rows in [\d.]+ s, [\d.]+ MB/s", stages[1][1])
    assert "\x1b" not in done.stdout + done.stderr
    again = command(*arguments, "--test-fraction", "0.1")
    assert again.returncode == 0
    assert again.stdout.count("skipped") == 3
    assert [line for line in again.stderr.splitlines() if "skipped" in line] == [
        f"{stage}: up to date, skipped" for stage in ("clean", "dedup", "pack")
    ]


def test_preferences_have_their_own_table(command, examples, tmp_path):
    tokenizer = examples / "tokenizer"
    done = command(
        "prepare",
        examples / "preferences.jsonl",
        "--tokenizer",
        tokenizer,
        "--out",
        tmp_path / "out",
    )
    assert done.returncode == 0
    assert re.search(
        r"^split +pairs +rows +tokens +with loss +truncated$", done.stdout, re.MULTILINE
    )


def test_quiet_is_quiet(command, arguments):
    done = command(*arguments, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_options_of_the_command_count_more_than_the_file(command, arguments, tmp_path):
    config = tmp_path / "prepare.yaml"
    config.write_text("pack: {max_length: 512}\nseed: 9\n")
    assert command(*arguments, "--quiet", "--config", config, "--seed", "4").returncode == 0
    options = zephyr_data.open_packed(tmp_path / "out").manifest.options["pack"]
    assert (options["max_length"], options["seed"]) == (512, 4)


REFUSED = [
    (["--max-length", "4"], 2, "error: `pack.max_length` must be at least 8, found: `4`\nhint: "),
    (
        ["--test-fraction", "1"],
        2,
        "error: `dedup.test_fraction` must be below 1, found: `1.0`\nhint: ",
    ),
    (["--workers", "0"], 2, "error: `workers` must be at least 1, found: `0`\nhint: "),
    (["--seed", "-1"], 2, "error: `seed` must be at least 0, found: `-1`\nhint: "),
    (
        ["--kind", "chats"],
        2,
        "error: `read.kind` must be `auto`, `chat` or `preference`, found: `'chats'`\nhint: ",
    ),
    (
        ["--on-bad-row", "skip"],
        2,
        "error: `read.on_bad_row` must be `stop` or `reject`, found: `'skip'`\nhint: ",
    ),
    (["--seed", "x"], 2, "error: `--seed` must be a valid integer, found: `x`\nhint: see `"),
    (["--verify", "many"], 2, "error: `--verify` must be a valid integer, found: `many`\nhint: "),
    (
        ["--test-fraction", "a half"],
        2,
        "error: `--test-fraction` must be a valid number, found: `a half`\nhint: ",
    ),
    (["--max-lenght", "4"], 2, "error: no such option: --max-lenght"),
    (
        ["--config", "nowhere.yaml"],
        1,
        "error: cannot read `nowhere.yaml`: No such file or directory\nhint: ",
    ),
    (
        ["--tokenizer", "./nowhere"],
        2,
        "error: cannot load the tokenizer, there is no such folder: `./nowhere`\nhint: ",
    ),
    (["nowhere.jsonl"], 1, "error: cannot read `nowhere.jsonl`: No such file or directory\nhint: "),
]


@pytest.mark.parametrize(("extra", "code", "words"), REFUSED, ids=lambda value: str(value)[:30])
def test_errors_are_two_lines_and_an_exit_code(command, arguments, extra, code, words):
    done = command(*arguments, *extra)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(words)
    assert "\nhint: " in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_a_bad_row_ends_the_run_unless_it_may_be_kept(
    command, arguments, write_rows, chat, tmp_path
):
    source = write_rows(tmp_path / "chats.jsonl", [chat("One?", "Two."), '{"messages": 3}'])
    arguments[1] = source
    done = command(*arguments)
    assert done.returncode == 1
    error = [line for line in done.stderr.splitlines() if not line.startswith("clean: ")]
    assert error[0].startswith("error: ")
    assert f"{source}:2" in error[0]
    assert error[1].startswith("hint: ")
    assert not (tmp_path / "out" / "clean").exists()
    assert command(*arguments, "--on-bad-row", "reject").returncode == 0


def test_no_torch_is_loaded(arguments):
    """It would take longer to import than most runs take."""
    import os

    code = (
        "import sys, atexit; from zephyr_data.cli import main\n"
        "atexit.register(lambda: print(sys.modules.get('torch'), file=sys.stderr))\n"
        f"main({[*map(str, arguments), '--quiet']!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stderr == "None\n"


def test_ctrl_c_before_the_first_stage(arguments, tmp_path):
    """transformers is still being imported; the answer is the same."""
    process = subprocess.Popen(
        [sys.executable, "-m", "zephyr_data", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "out" / ".lock").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    # CPython ends itself by the signal, which shells show as 130, if the interrupt went through code from a string.
    assert process.returncode in (130, -signal.SIGINT)
    assert said == "error: interrupted\nhint: the same command goes on where this one stopped\n"
