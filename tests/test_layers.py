"""Who may use what: the table of docs/ARCHITECTURE.md as a test.

Cargo keeps the two crates apart; this file keeps the modules inside them apart, and the Python packages. It reads the
sources, so a forbidden import is found although no test happens to run it. Every rule has a case that breaks it, at the
end of the file: a rule that cannot fail would be worth nothing.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = Path("rust/core")
BINDINGS = Path("rust/bindings")
PACKAGE = Path("python/zephyr_data")
TRAINING = Path("training")

# A module of the core may use modules of earlier lines only, so those of one line never use each other.
CORE_LEVELS = [
    {"error", "record"},
    {"text", "schema", "simd"},
    {"filter", "dedup", "chat", "tokenize", "pack"},
    {"read", "manifest"},
    {"shard"},  # a written part is an entry of the manifest
    {"stage"},
]
LEVEL = {module: level for level, modules in enumerate(CORE_LEVELS) for module in modules}

# What only `stage` may use: nothing below it may depend on threads, time or surroundings.
OUTSIDE_WORLD = {
    "std::env",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
}
FILES = {"std::fs"}
CRATES_NOT_IN_CORE = {"pyo3", "pyo3-arrow", "rand", "rayon", "reqwest", "tokio", "ureq"}
CRATES_OF_BINDINGS = {"zephyr-data-core", "arrow", "pyo3", "pyo3-arrow", "serde_json"}

STANDARD_LIBRARY = set(sys.stdlib_module_names)
# What `zephyr_data` may import, and where: a command that needs no tokenizer must not wait seconds for transformers.
ANYWHERE = {"pyarrow", "pydantic", "pydantic_core", "rich", "typer", "yaml", "zephyr_data"}
INSIDE_FUNCTIONS = {
    "datasets",
    "httpx2",
    "jinja2",
    "openai",
    "polars",
    "tokenizers",
    "transformers",
}
# Parts of the package that are commands of their own, loaded when they are called.
ANYWHERE_IN = {"feedback": {"httpx2", "openai", "polars"}, "evaluate": {"polars"}}
OF_TRAINING = {
    "accelerate",
    "datasets",
    "matplotlib",
    "numpy",
    "peft",
    "pyarrow",
    "torch",
    "transformers",
    "trl",
    "yaml",
}
PACKAGE_FOR_TRAINING = {"zephyr_data.dataset", "zephyr_data.errors"}


# ---- Rust ----

_NOT_CODE = re.compile(
    r"""//[^\n]* | /\*.*?\*/ | b?r(\#*)".*?"\1 | b?"(?:\\.|[^"\\])*" | b?'(?:\\.[^']*|[^\\'])'""",
    re.DOTALL | re.VERBOSE,
)
_MARK = re.compile(
    r"\bmod\s+(?P<mod>\w+)\s*\{|(?P<open>\{)|(?P<close>\})|\b(?P<root>crate|self|super|std)\s*::\s*"
)


def code(path: Path) -> str:
    """The file without comments and literals, which may name anything."""
    return _NOT_CODE.sub(" ", path.read_text(encoding="utf-8"))


def module_of(path: Path, source: Path) -> list[str]:
    """`src/filter/empty.rs` is `["filter", "empty"]`; `lib.rs` is `[]`."""
    parts = list(path.relative_to(source).with_suffix("").parts)
    return parts[:-1] if parts[-1] in {"mod", "lib"} else parts


def trees(text: str, at: int) -> Iterator[list[str]]:
    """The paths that continue at `at`: `a::B` gives one, `{a::B, c::{D, E}}` three."""
    if text.startswith("{", at):
        depth, start, end = 1, at + 1, at + 1
        while depth:
            depth += (text[end] == "{") - (text[end] == "}")
            if (text[end] == "," and depth == 1) or depth == 0:
                yield from trees(text, start + len(text[start:end]) - len(text[start:end].lstrip()))
                start = end + 1
            end += 1
        return
    name = re.compile(r"(\w+|\*)(\s*::\s*(?=[\w{*]))?").match(text, at)
    if name is None:
        return
    if name[2] is None:
        yield [name[1]]
    else:
        yield from ([name[1], *rest] for rest in trees(text, name.end()))


def paths(path: Path, source: Path) -> Iterator[tuple[list[str], bool]]:
    """Every path into the crate (`["crate", …]`) or the standard library, and whether a test uses it.

    `super` and `self` are resolved, `use` groups are taken apart.
    """
    text = code(path)
    inline: list[str | None] = []  # one entry for each open brace; its name where it opens a module
    for mark in _MARK.finditer(text):
        if mark["mod"] or mark["open"]:
            inline.append(mark["mod"])
        elif mark["close"]:
            inline.pop()
        elif mark["root"] == "super" and text[: mark.start()].rstrip().endswith("::"):
            continue  # `super::super::` is looked at from its beginning
        else:
            module = [*module_of(path, source), *filter(None, inline)]
            yield from (
                (found, "tests" in module)
                for found in resolve(mark["root"], text, mark.end(), module)
            )


def resolve(root: str, text: str, at: int, module: list[str]) -> Iterator[list[str]]:
    for tree in trees(text, at):
        if root in {"crate", "std"}:
            yield [root, *tree]
            continue
        base, rest = (module if root == "self" else module[:-1]), tree
        while rest[0] == "super":
            base, rest = base[:-1], rest[1:]
        yield ["crate", *base, *rest]


def core_violations(root: Path) -> Iterator[str]:
    source = root / CORE / "src"
    for path in sorted(source.rglob("*.rs")):
        module = module_of(path, source)
        if not module:
            continue
        name, where = module[0], path.relative_to(root).as_posix()
        if name not in LEVEL:
            yield f"{where}: module `{name}` is missing from the table"
            continue
        for used, in_test in paths(path, source):
            if used[0] == "crate":
                if not may_use(name, used[1]):
                    yield f"{where}: `{name}` uses `{'::'.join(used)}`"
            elif not in_test and any(starts_with(used, banned) for banned in banned_for(name)):
                yield f"{where}: `{name}` uses `{'::'.join(used)}`"


def may_use(module: str, other: str) -> bool:
    return other == module or LEVEL.get(other, len(LEVEL)) < LEVEL[module]


def banned_for(module: str) -> set[str]:
    world = set() if module == "stage" else OUTSIDE_WORLD
    return world | FILES if LEVEL[module] < LEVEL["read"] else world


def starts_with(path: list[str], prefix: str) -> bool:
    return f"{'::'.join(path)}::".startswith(f"{prefix}::")


def bindings_violations(root: Path) -> Iterator[str]:
    source = root / BINDINGS / "src"
    for path in sorted(source.rglob("*.rs")):
        for used, _ in paths(path, source):
            if any(starts_with(used, banned) for banned in OUTSIDE_WORLD | FILES):
                yield f"{path.relative_to(root).as_posix()}: the bindings use `{'::'.join(used)}`"


def crate_violations(root: Path) -> Iterator[str]:
    def dependencies(crate: Path) -> set[str]:
        return set(
            tomllib.loads((root / crate / "Cargo.toml").read_text(encoding="utf-8")).get(
                "dependencies", {}
            )
        )

    for name in sorted(dependencies(CORE) & CRATES_NOT_IN_CORE):
        yield f"{CORE}/Cargo.toml: the core depends on `{name}`"
    for name in sorted(dependencies(BINDINGS) - CRATES_OF_BINDINGS):
        yield f"{BINDINGS}/Cargo.toml: the bindings depend on `{name}`"


# ---- Python ----


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, and whether it does so late: when a function runs, or for types only."""

    def walk(node: ast.AST, *, late: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{alias.name}", late) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("import_module", "__import__")
        ):
            yield from (
                (name.value, late) for name in node.args[:1] if isinstance(name, ast.Constant)
            )
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.orelse:
                yield from walk(child, late=late)
            for child in node.body:
                yield from walk(child, late=True)
            return
        for child in ast.iter_child_nodes(node):
            yield from walk(
                child,
                late=late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda),
            )

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), late=False)


def package_violations(root: Path) -> Iterator[str]:
    for path in sorted((root / PACKAGE).rglob("*.py")):
        for name, late in imports(path):
            top, where = name.split(".")[0], path.relative_to(root).as_posix()
            part = path.relative_to(root / PACKAGE).parts[0]
            if top in STANDARD_LIBRARY | ANYWHERE | ANYWHERE_IN.get(part, set()):
                continue
            if top not in INSIDE_FUNCTIONS:
                yield f"{where}: imports `{name}`"
            elif not late:
                yield f"{where}: imports `{name}` outside a function"


def training_violations(root: Path) -> Iterator[str]:
    own = {path.stem for path in (root / TRAINING).rglob("*.py")} | {TRAINING.name}
    for path in sorted((root / TRAINING).rglob("*.py")):
        for name, _ in imports(path):
            top, where = name.split(".")[0], path.relative_to(root).as_posix()
            if top == "zephyr_data":
                if ".".join(name.split(".")[:2]) not in PACKAGE_FOR_TRAINING:
                    yield f"{where}: imports `{name}`"
            elif top not in STANDARD_LIBRARY | OF_TRAINING | own:
                yield f"{where}: imports `{name}`"


RULES = [
    core_violations,
    bindings_violations,
    crate_violations,
    package_violations,
    training_violations,
]


@pytest.mark.parametrize("rule", RULES)
def test_the_sources_keep_to_the_table(rule):
    assert list(rule(ROOT)) == []


def test_the_scan_sees_the_sources():
    source = ROOT / CORE / "src"
    used = {tuple(found[:2]) for path in source.rglob("*.rs") for found, _ in paths(path, source)}
    assert {("crate", "error"), ("crate", "record"), ("std", "fs")} <= used
    assert any(
        name.startswith("pydantic")
        for path in (ROOT / PACKAGE).rglob("*.py")
        for name, _ in imports(path)
    )


def test_training_data_is_opened_without_the_extension():
    """`zephyr_data.dataset` must not bring the extension along: it would start threads in a process that forks."""
    program = "import sys, zephyr_data.dataset; print(*sorted({'torch', 'trl', 'zephyr_data._core'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize("module", ["zephyr_data", "zephyr_data.cli"])
def test_an_import_is_light(module):
    program = f"import sys, {module}; print(*sorted({{'torch', 'trl', 'transformers', 'datasets'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


# ---- every rule broken on purpose ----


@pytest.fixture
def house(tmp_path):
    """An empty house that keeps to the table; each case adds one file."""
    for folder in (CORE / "src", BINDINGS / "src", PACKAGE, TRAINING):
        (tmp_path / folder).mkdir(parents=True)
    for crate in (CORE, BINDINGS):
        (tmp_path / crate / "Cargo.toml").write_text("[dependencies]\n")
    return tmp_path


BROKEN = {
    "a later module": (
        "rust/core/src/pack.rs",
        "use crate::{error::Error,\n    stage::{clean, dedup}};",
        2,
    ),
    "a neighbour": ("rust/core/src/filter/bad.rs", "fn f() { crate::dedup::exact() }", 1),
    "a neighbour by super": ("rust/core/src/filter/bad.rs", "use super::super::dedup::exact;", 1),
    "a neighbour by super in an inline module": (
        "rust/core/src/filter/bad.rs",
        "mod tests { fn f() {} use super::super::super::{chat::mask, pack}; }",
        2,
    ),
    "an unknown module": ("rust/core/src/cache.rs", "\n", 1),
    "a re-export": ("rust/core/src/chat/bad.rs", "use crate::prepare;", 1),
    "a thread": ("rust/core/src/read/bad.rs", "fn f() { std::thread::spawn(|| ()); }", 1),
    "a clock": ("rust/core/src/dedup/bad.rs", "use std::{fmt, time::{Duration, Instant}};", 1),
    "a file in an algorithm": (
        "rust/core/src/tokenize/bad.rs",
        "use std::{fs::{self, File}, io};",
        2,
    ),
    "an environment variable": (
        "rust/core/src/manifest.rs",
        'fn f() { std::env::var("HOME"); }',
        1,
    ),
    "a file in the bindings": ("rust/bindings/src/bad.rs", "use std::fs::File;", 1),
    "Python in the core": ("rust/core/Cargo.toml", "[dependencies]\npyo3 = '0'\n", 1),
    "logic in the bindings": ("rust/bindings/Cargo.toml", "[dependencies]\nminijinja = '0'\n", 1),
    "torch in the package": ("python/zephyr_data/bad.py", "def f():\n    import torch.nn\n", 1),
    "trl by name": (
        "python/zephyr_data/bad.py",
        "from importlib import import_module\nimport_module('trl')\n",
        1,
    ),
    "transformers at the top": (
        "python/zephyr_data/bad.py",
        "from transformers import AutoTokenizer\n",
        1,
    ),
    "the extension in training": ("training/bad.py", "from zephyr_data import _core\n", 1),
    "more of the package in training": ("training/bad.py", "import zephyr_data.prepare\n", 1),
}
ALLOWED = {
    "earlier modules": (
        "rust/core/src/stage/good.rs",
        "use crate::{error::Error, pack, manifest};\nuse std::{thread, fs};",
    ),
    "comments and strings": (
        "rust/core/src/filter/good.rs",
        """
        // crate::stage
        /* std::thread */
        const A: &str = "crate::stage";
        const B: &str = r#"crate::pack "quoted" "#;
        const C: char = '"';
        fn f<'a>(x: &'a str) -> &'a str { x } // std::fs
        """,
    ),
    "its own module": (
        "rust/core/src/filter/good.rs",
        "use super::{Verdict, empty::check};\nmod inner { use super::*; }",
    ),
    "a file in a test": (
        "rust/core/src/filter/good.rs",
        "use super::Verdict;\nmod tests { use std::fs::read; }",
    ),
    "a duration": ("rust/core/src/read/good.rs", "use std::time::Duration;"),
    "transformers when it is needed": (
        "python/zephyr_data/good.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import transformers\ndef f():\n    import transformers\n",
    ),
    "the data set in training": (
        "training/good.py",
        "import torch\nfrom zephyr_data.dataset import open_packed\n",
    ),
}


def violations_with(house: Path, name: str, text: str) -> list[str]:
    (house / name).parent.mkdir(parents=True, exist_ok=True)
    (house / name).write_text(text, encoding="utf-8")
    return [found for rule in RULES for found in rule(house)]


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_house_is_caught(house, case):
    name, text, expected = BROKEN[case]
    found = violations_with(house, name, text)
    assert len(found) == expected
    assert all(violation.startswith(name) for violation in found)


@pytest.mark.parametrize("case", ALLOWED)
def test_what_is_allowed_passes(house, case):
    name, text = ALLOWED[case]
    assert violations_with(house, name, text) == []
