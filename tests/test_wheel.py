"""The wheel, in a fresh environment without torch, from another folder: what a user has after `pip install`."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel():
    named = os.environ.get("ZEPHYR_DATA_WHEEL")
    found = [Path(named)] if named else sorted((ROOT / "dist").glob("*.whl"))
    if not found:
        pytest.skip("no wheel: run `make wheel`, or name one in ZEPHYR_DATA_WHEEL")
    assert found[-1].is_file(), found[-1]
    return found[-1]


@pytest.fixture(scope="module")
def fresh(wheel, tmp_path_factory):
    """The `bin` folder of an environment with the wheel and what it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel") / "venv"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    uv = shutil.which("uv") or shutil.which("uv", path=Path(sys.executable).parent)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    install = [uv, "pip", "install", "--quiet", "--python", str(python)] if uv else pip
    pins = ROOT / "constraints.txt"
    constraints = ["--constraint", str(pins)] if pins.is_file() else []
    subprocess.run([*install, str(wheel), *constraints], check=True)
    return folder / "bin"


def run(fresh, *arguments, cwd, **environment):
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    return subprocess.run(
        [fresh / arguments[0], *map(str, arguments[1:])],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        env={**clean, **environment},
    )


def test_one_wheel_for_all_pythons(wheel):
    assert "-cp311-abi3-" in wheel.name


def test_it_brings_stub_and_marker_but_no_tests(wheel):
    import zipfile

    names = zipfile.ZipFile(wheel).namelist()
    assert {"zephyr_data/_core.pyi", "zephyr_data/py.typed"} <= set(names)
    assert not [
        name for name in names if "tests/" in name or name.startswith(("examples", "training"))
    ]


@pytest.mark.slow
def test_prepare_runs_without_torch(fresh, examples, tmp_path):
    missing = run(fresh, "python", "-c", "import torch", cwd=tmp_path)
    assert "No module named 'torch'" in missing.stderr
    shutil.copytree(examples / "tokenizer", tmp_path / "tokenizer")
    shutil.copy(examples / "chats.jsonl", tmp_path)
    done = run(
        fresh,
        "zephyr-data",
        "prepare",
        "chats.jsonl",
        "--tokenizer",
        "tokenizer",
        "--out",
        "out",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "PyTorch" not in done.stderr
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["clean"] * 2 + [
        "dedup"
    ] * 2 + ["pack"] * 2
    shown = run(fresh, "zephyr-data", "show", "out", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("── train row 0 of ")
    code = "import zephyr_data; print(zephyr_data.open_packed('out').table('train').num_rows > 0)"
    assert run(fresh, "python", "-W", "error", "-c", code, cwd=tmp_path).stdout == "True\n"
