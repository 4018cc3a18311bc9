"""The recipes: every file is understood by what reads it, and says what docs/RECIPE.md says."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import yaml

from zephyr_data import Config

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "training" / "recipes"
ZEPHYR = RECIPES / "zephyr-7b"
TRAINED = sorted(
    path
    for folder in (ZEPHYR, RECIPES / "tiny")
    for path in folder.glob("*.yaml")
    if path.name.startswith(("sft", "dpo"))
)
PREPARED = [*sorted(ZEPHYR.glob("prepare-*.yaml")), RECIPES / "tiny" / "prepare.yaml"]
DOCUMENT = (ROOT / "docs" / "RECIPE.md").read_text(encoding="utf-8")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # torch, transformers and trl warn on their own
]


def name_of(path):
    return f"{path.parent.name}/{path.stem}"


@pytest.fixture(scope="module")
def parse():
    """A function: a recipe as the script's own arguments have it."""
    trl = pytest.importorskip("trl", reason="needs the extra `train`")
    sys.path.insert(0, str(ROOT / "training"))
    before = set(sys.modules)
    arguments, sft, dpo = (importlib.import_module(name) for name in ("arguments", "sft", "dpo"))

    def read(path, *more):
        ours, config = (
            (arguments.DataArguments, sft.PackedSFTConfig)
            if path.name.startswith("sft")
            else (arguments.PairArguments, dpo.PackedDPOConfig)
        )
        parser = trl.TrlParser((ours, config, trl.ModelConfig))
        given = ["--config", str(path), "--use_cpu", "true", *more]
        if path.parent.name == "tiny":
            given += ["--data", "d", "--output_dir", "o"]  # run.py says these
        return parser.parse_args_and_config(given, fail_with_unknown_args=True)

    yield read
    sys.path.remove(str(ROOT / "training"))
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(ROOT / "training")):
            del sys.modules[name]


@pytest.mark.parametrize("path", TRAINED, ids=name_of)
def test_the_script_takes_every_key(parse, path):
    ours, training, model = parse(path)
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in given.items():
        owner = next(group for group in (ours, training, model) if hasattr(group, key))
        found = getattr(owner, key)
        found = getattr(found, "value", found)  # an enumeration's member
        if key == "report_to":
            found = "".join(found) or "none"
        assert found == value, key


def test_an_unknown_key_is_refused(parse, tmp_path):
    path = tmp_path / "sft.yaml"
    path.write_text("data: d\nmax_seq_length: 2048\n")
    with pytest.raises(ValueError, match="max_seq_length"):
        parse(path, "--output_dir", "o")


GPUS = {"": 8, "-one-gpu": 1, "-qlora": 1}
# learning rate, schedule, batch, epochs, beta
VALUES = {
    ("sft", "paper"): (2e-5, "cosine", 512, 1, None),
    ("sft", "handbook"): (2e-5, "cosine", 128, 1, None),
    ("sft", "qlora"): (2e-4, "cosine", 8, 1, None),
    ("dpo", "paper"): (5e-7, "linear", 32, 3, 0.1),
    ("dpo", "handbook"): (5e-7, "cosine", 128, 1, 0.01),
    ("dpo", "qlora"): (5e-6, "cosine", 16, 1, 0.01),
}


@pytest.mark.parametrize(
    "path", [path for path in TRAINED if path.parent == ZEPHYR], ids=lambda path: path.stem
)
def test_the_values_are_those_of_the_source(path):
    method, machine, handbook = re.fullmatch(
        r"(sft|dpo)(|-one-gpu|-qlora)(|-handbook)", path.stem
    ).groups()
    source = "qlora" if machine == "-qlora" else "handbook" if handbook else "paper"
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    rate, schedule, batch, epochs, beta = VALUES[method, source]
    assert given["learning_rate"] == rate
    assert given["lr_scheduler_type"] == schedule
    assert given["num_train_epochs"] == epochs
    assert given.get("beta") == beta
    assert given["warmup_steps"] == 0.1
    size = given["per_device_train_batch_size"] * given["gradient_accumulation_steps"]
    assert size * GPUS[machine] == batch
    assert f"`{path.name}`" in DOCUMENT
    assert f"training/recipes/zephyr-7b/{path.name}" in path.read_text(encoding="utf-8")
    assert (ROOT / "training" / f"{method}.py").is_file()
    if method == "dpo":  # it starts from the model that its own dSFT file makes
        first = yaml.safe_load((ZEPHYR / path.name.replace("dpo", "sft")).read_text())
        assert given["model_name_or_path"] == first["output_dir"]


@pytest.mark.parametrize("path", PREPARED, ids=name_of)
def test_prepare_takes_every_key(path):
    assert Config.load(yaml.safe_load(path.read_text(encoding="utf-8"))) != Config.load()


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "deepspeed-zero3"])
def test_accelerate_takes_every_key(name):
    pytest.importorskip("accelerate", reason="needs the extra `train`")
    from accelerate.commands.config.config_args import load_config_from_file

    path = RECIPES / "accelerate" / f"{name}.yaml"
    found = load_config_from_file(str(path))
    assert found.num_processes == 8
    assert found.mixed_precision == "bf16"
    assert f"`{path.name}`" in DOCUMENT


def test_a_wrong_key_of_accelerate_is_noticed(tmp_path):
    """The test above can fail: accelerate refuses keys that it does not know."""
    pytest.importorskip("accelerate", reason="needs the extra `train`")
    from accelerate.commands.config.config_args import load_config_from_file

    path = tmp_path / "wrong.yaml"
    text = (RECIPES / "accelerate" / "ddp.yaml").read_text(encoding="utf-8")
    path.write_text(f"{text}number_of_gpus: 8\n")
    with pytest.raises(ValueError, match="number_of_gpus"):
        load_config_from_file(str(path))


def test_every_program_and_file_of_the_document_is_there():
    for path in re.findall(r"training/[\w./-]+\.(?:py|yaml)", DOCUMENT):
        assert (ROOT / path).is_file(), path
