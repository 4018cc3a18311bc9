"""Runs the README: what a newcomer copies from it must work, in the order in which it stands there.

`console` blocks are commands, `python` blocks are programs, `yaml` blocks are options. `sh` blocks are not run: they
set up the machine that this test runs on. All others run in one empty folder that holds the bundled examples.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from zephyr_data import Config

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


def run(command, folder):
    scripts = Path(sys.executable).parent
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, **offline},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, f"{shlex.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_readme_runs(folder):
    for number, (language, text) in enumerate(BLOCKS):
        if language == "console":
            for command in re.findall(r"^\$ (.*)$", text, re.MULTILINE):
                run(shlex.split(command), folder)
        elif language == "python":
            script = folder / f"block_{number}.py"
            script.write_text(text, encoding="utf-8")
            run([sys.executable, script], folder)
        elif language == "yaml":
            assert Config.load(yaml.safe_load(text)) != Config.load()
    # What the programs promise has really happened.
    for name in ("out/packed/manifest.json", "pairs/packed/manifest.json", "sft/model.safetensors"):
        assert (folder / name).is_file(), name


def test_the_readme_opens_with_two_commands():
    languages = [language for language, _ in BLOCKS]
    assert set(languages) == {"sh", "console", "yaml", "python"}
    first = re.findall(r"^(\S+ \S+)", BLOCKS[0][1], re.MULTILINE)
    assert first == ["make demo", "make test"]
    targets = re.findall(
        r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {"demo", "test"} <= set(targets)


DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_documents_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
