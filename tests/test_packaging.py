"""What is in the files that are uploaded: the wheel is whole, and the source distribution can be built from."""

import email
import re
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"

pytestmark = pytest.mark.skipif(not DIST.is_dir(), reason="no dist/: `make wheel` builds it")


def only(pattern):
    found = list(DIST.glob(pattern))
    assert len(found) == 1, found
    return found[0]


def sources(folder):
    """Names below the root of all files that somebody has written."""
    for path in (ROOT / folder).rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so":
            yield path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def wheel():
    return zipfile.ZipFile(only("*.whl"))


def test_wheel_and_source_distribution_have_the_version_of_the_installed_package():
    name = f"zephyr_data-{version('zephyr-data')}"
    assert only("*.whl").name.startswith(f"{name}-cp311-abi3-")
    assert only("*.tar.gz").name == f"{name}.tar.gz"


def test_the_wheel_has_every_file_of_the_package(wheel):
    names = set(wheel.namelist())
    assert {name.removeprefix("python/") for name in sources("python")} <= names
    assert "zephyr_data/_core.abi3.so" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_nothing_large_is_needed_unless_asked_for(wheel):
    (metadata,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    needed = email.message_from_bytes(wheel.read(metadata)).get_all("Requires-Dist")
    always = {re.match(r"[\w-]+", line)[0] for line in needed if "extra ==" not in line}
    assert "transformers" in always
    assert not always & {"torch", "trl", "datasets", "openai", "polars"}


def test_the_source_distribution_has_what_the_build_needs():
    with tarfile.open(only("*.tar.gz")) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    # rust/fuzz is a workspace of its own, for those who work on the repository.
    needed = {*sources("rust/core"), *sources("rust/bindings"), *sources("python")}
    assert needed <= names
    assert {"Cargo.toml", "Cargo.lock", "pyproject.toml", "LICENSE", "README.md"} <= names
