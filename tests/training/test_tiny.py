"""The tiny recipe: its tasks, answerers and rule, the order of its steps, and what its figures say."""

import importlib
import itertools
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "training" / "recipes" / "tiny"
MODULES = ("answerers", "tasks", "base", "preferences", "run", "report")

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and transformers warn on their own


@pytest.fixture(scope="module")
def tiny():
    """A function: a program of the recipe as a module; they find each other beside themselves."""
    sys.path.insert(0, str(TINY))
    yield importlib.import_module
    sys.path.remove(str(TINY))
    for name in MODULES:
        sys.modules.pop(name, None)


# ---- tasks ----


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("tasks")
    write_tasks(tiny, out)
    return out


def write_tasks(tiny, out, seed=1):
    before, sys.argv = sys.argv, ["tasks.py", "--out", str(out), "--seed", str(seed)]
    try:
        tiny("tasks").main()
    finally:
        sys.argv = before


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_there_are_enough_different_prompts_and_none_is_in_two_files(folder):
    held_out = [row["prompt"] for row in rows(folder / "held-out.jsonl")]
    feedback = [row["prompt"] for row in rows(folder / "feedback.jsonl")]
    chats = [row["messages"][0]["content"] for row in rows(folder / "chats.jsonl")]
    assert len(held_out) >= 300
    assert len(feedback) >= 3000
    together = held_out + feedback + chats
    assert len(set(together)) == len(together)
    kinds = Counter(row["source"] for row in rows(folder / "held-out.jsonl"))
    assert len(kinds) == 10
    assert min(kinds.values()) >= 30


def test_the_same_seed_gives_the_same_bytes(tiny, folder, tmp_path, digests):
    write_tasks(tiny, tmp_path / "same")
    write_tasks(tiny, tmp_path / "other", seed=2)
    assert digests(tmp_path / "same") == digests(folder)
    assert digests(tmp_path / "other") != digests(folder)


def test_the_base_model_never_reads_a_held_out_prompt(tiny, folder):
    pytest.importorskip("torch", reason="needs the extra `train`")
    held_out = {row["prompt"] for row in rows(folder / "held-out.jsonl")}
    some = list(itertools.islice(tiny("base").lines("x", held_out), 20_000))
    read = {asked for asked, _ in some}
    # Sums are few, so that some would be read by chance; a prompt is found inside whatever style surrounds it.
    sums = {prompt for prompt in held_out if prompt.startswith("Add")}
    starts = {
        text[text.index("Add") :].partition(" ->")[0]
        for text in read
        if "Add" in text and " ->" in text
    }
    assert len(starts) > 100
    assert not sums & starts


# ---- answerers and rule ----


@pytest.fixture(scope="module")
def some_tasks(tiny):
    return list(itertools.islice(tiny("tasks").tasks("test"), 2000))


def test_the_answerers_are_of_four_qualities(tiny, some_tasks):
    answerers = tiny("answerers")
    scores = {
        name: Counter(
            answerers.score(task.prompt, getattr(answerers, name)(task.prompt), task.reference)
            for task in some_tasks
        )
        for name in ("exact", "hasty", "chatty", "wrong")
    }
    assert scores["exact"] == {3.0: 2000}
    assert scores["chatty"] == {2.0: 2000}
    assert scores["wrong"] == {1.0: 2000}
    assert scores["hasty"].keys() == {3.0, 1.0}
    assert 0.28 < scores["hasty"][1.0] / 2000 < 0.38


@pytest.mark.parametrize(
    ("prompt", "right"),
    [
        ("Repeat: a c b", "a c b"),
        ("Reverse: a c b", "b c a"),
        ("Sort: a c b", "a b c"),
        ("Upper case: a c b", "A C B"),
        ("Count: a c b", "3"),
        ("First of: a c b", "a"),
        ("Last of: a c b", "b"),
        ("After c in: a c b", "b"),
        ("Without c: a c b", "a b"),
        ("Add: 95 + 7", "102"),
    ],
)
def test_every_kind_has_its_answer(tiny, prompt, right):
    assert tiny("answerers").solve(prompt) == right


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("Answer: b c", 3),
        ("Answer: b c ", 1),
        ("b c", 2),
        ("It is b c.", 2),
        ("Answer: c b", 1),
        ("It is c b.", 0),
        ("ab c", 0),
        ("b c and more", 0),
        ("", 0),
    ],
)
def test_the_rule_wants_the_answer_and_its_form(tiny, answer, score):
    assert tiny("answerers").score("Reverse: c b", answer, "b c") == score


@pytest.mark.slow
def test_the_feedback_commands_rank_the_right_answer_first(tiny, folder, command, tmp_path):
    pl = pytest.importorskip("polars", reason="needs the extra `feedback`")
    prompts = tmp_path / "prompts.jsonl"
    lines = (folder / "feedback.jsonl").read_text(encoding="utf-8").splitlines()[:60]
    prompts.write_text("\n".join(lines), encoding="utf-8")
    store, pairs = tmp_path / "store", tmp_path / "pairs.parquet"
    for line in (
        ["complete", prompts, "--models", TINY / "models.yaml", "--per-prompt", 4, "--out", store],
        ["judge", store, "--judge", TINY / "judge.yaml", "--mode", "rule"],
        [
            "binarize",
            store,
            "--score",
            "overall",
            "--rejected",
            "random",
            "--out",
            pairs,
            "--max-prompts-per-text",
            1000,
        ],
    ):
        done = command("feedback", *line)
        assert done.returncode == 0, done.stderr
    found = pl.read_parquet(pairs).to_dicts()
    assert len(found) == 60
    exact = tiny("answerers").exact
    for row in found:
        assert row["chosen"][0]["content"] == exact(row["prompt"][0]["content"])
    assert {row["model_rejected"] for row in found} == {"hasty", "chatty", "wrong"}


# ---- the steps ----


def test_a_step_stands_after_what_it_needs_and_every_arm_is_measured(tiny, tmp_path):
    run = tiny("run")
    plan = run.steps(tmp_path, 1)
    before = set()
    for name, step in plan.items():
        assert set(step.needs) <= before, name
        before.add(name)
    for arm in run.ARMS:
        assert {arm.folder, f"answers of {arm.folder}", f"preferences of {arm.folder}"} <= set(plan)
    titles = " ".join(arm.title for arm in run.ARMS)
    assert all(arm in titles for arm in ("none", "dDPO alone", "1 epoch", "2 epochs", "3 epochs"))


def python(text):
    return (sys.executable, "-c", text)


def test_steps_run_in_order_and_once(tiny, tmp_path, capsys):
    run = tiny("run")
    mark = f"open({str(tmp_path / 'log')!r}, 'a').write"
    plan = {
        "one": run.Step(python(f"{mark}('1')")),
        "two": run.Step(python(f"{mark}('2')"), ("one",)),
    }
    run.run_steps(plan, tmp_path, 2)
    run.run_steps(plan, tmp_path, 2)
    assert (tmp_path / "log").read_text() == "12"
    assert capsys.readouterr().out.splitlines()[2:] == ["one: done before", "two: done before"]
    plan["two"] = run.Step(python(f"{mark}('3')"), ("one",))  # another command is another step
    run.run_steps(plan, tmp_path, 2)
    assert (tmp_path / "log").read_text() == "123"


def test_a_failed_step_says_where_its_words_are(tiny, tmp_path):
    run = tiny("run")
    plan = {"bad": run.Step(python("import sys; sys.exit('no such luck')"))}
    with pytest.raises(RuntimeError) as caught:
        run.run_steps(plan, tmp_path, 1)
    first, *_, last = str(caught.value).splitlines()
    assert first == f"bad failed with status 1: {tmp_path / 'logs' / 'bad.txt'}"
    assert last == "no such luck"


# ---- figures ----


@pytest.mark.slow
def test_log_probabilities_of_answers_are_those_of_single_rows(tiny, live_tokenizer):
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(live_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    model = MistralForCausalLM(config).eval()
    lengths = [(3, 2), (9, 1), (1, 7), (4, 4)]
    some = [
        {
            "prompt_ids": torch.randint(10, 900, (prompt,)).tolist(),
            "chosen_ids": torch.randint(10, 900, (answer,)).tolist(),
        }
        for prompt, answer in lengths
    ]
    found = tiny("preferences").answer_logps(model, some, "chosen_ids", size=3)
    for row, value in zip(some, found, strict=True):
        ids = torch.tensor([row["prompt_ids"] + row["chosen_ids"]])
        logps = model(input_ids=ids).logits[0].log_softmax(-1)
        start = len(row["prompt_ids"])
        alone = sum(logps[place - 1, ids[0, place]] for place in range(start, ids.shape[1]))
        assert value.item() == pytest.approx(alone.item(), abs=1e-4)


def answer(output, reason="stop", reference="b c"):
    row = {"instruction": "Reverse: c b", "output": output, "finish_reason": reason}
    return {**row, "reference": reference, "source": "reverse"}


def test_held_out_answers_are_graded(tiny):
    report = tiny("report")
    found = report.graded(
        [
            answer("Answer: b c"),
            answer("Answer: b c", "length"),  # right, but it did not stop there
            answer("It is b c."),
            answer("Answer: c b"),
            answer("<|user|>\nhello"),
            answer(""),
            answer(" "),
            answer("nonsense"),
        ]
    )
    assert {name: figure["value"] for name, figure in found.items()} == {
        "exact": 1 / 8,
        "right": 3 / 8,
        "form": 3 / 8,
        "template": 4 / 8,
    }
    assert found["template"]["error"] == pytest.approx((0.5 * 0.5 / 8) ** 0.5)


@pytest.fixture
def finished(tiny, tmp_path):
    """A run as the steps leave it, with made-up figures."""
    run = tiny("run")
    figures = tmp_path / "figures"
    figures.mkdir()
    share = {"value": 0.75, "error": 0.02}
    for arm in run.ARMS:
        rows = "".join(json.dumps(answer("Answer: b c")) + "\n" for _ in range(4))
        (figures / f"{arm.folder}.answers.jsonl").write_text(rows)
        side = {"pairs": 9, "by_likelihood": share}
        if arm.reference:
            side |= {"by_reward": share, "margin": {"value": 1.5, "error": 0.1}}
            checkpoint = tmp_path / arm.folder / "checkpoint-12"
            checkpoint.mkdir(parents=True)
            keys = ("loss", "rewards/accuracies", "rewards/margins")
            logs = [{"epoch": epoch / 4, **dict.fromkeys(keys, epoch)} for epoch in range(5)]
            logs += [{"epoch": 1, **{f"eval_{key}": 0.5 for key in keys}}]
            (checkpoint / "trainer_state.json").write_text(json.dumps({"log_history": logs}))
        figures.joinpath(f"{arm.folder}.preferences.json").write_text(
            json.dumps({"train": side, "test": side})
        )
    return tmp_path


def test_the_report_has_a_line_for_every_arm(tiny, finished):
    report = tiny("report")
    text = report.table(report.results(finished))
    assert "| none | 100.0 ± 0.0 | 100.0 ± 0.0 | 100.0 ± 0.0 | 100.0 ± 0.0 |" in text
    assert "| none | - | - | - | - | 75.0 ± 2.0 |" in text
    assert (
        "| dSFT + dDPO, 3 epochs | 75.0 ± 2.0 | 75.0 ± 2.0 | 1.50 ± 0.10 | 1.50 ± 0.10 | 75.0 ± 2.0 |"
        in text
    )
    assert text.count("\n| dSFT") == 3 * 4


@pytest.mark.slow
def test_the_curves_are_drawn(tiny, finished):
    pytest.importorskip("matplotlib", reason="needs the extra `dev`")
    tiny("report").plot(finished, finished / "curves.png")
    assert (finished / "curves.png").read_bytes().startswith(b"\x89PNG")
