"""Packing: no token is lost, and rows longer than `max_length` are cut, split or dropped as was asked."""

from collections import defaultdict

import pytest

from zephyr_data import open_packed

IGNORED = -100


def test_packing_conserves_tokens(sample):
    packed = open_packed(sample.out)
    for split, summary in sample.splits.items():
        documents = packed.documents(split).to_pylist()
        places = defaultdict(list)
        for place in documents:
            places[place["row"]].append((place["start"], place["length"]))
        supervised = 0
        rows = packed.table(split).to_pylist()
        for number, row in enumerate(rows):
            assert len(row["input_ids"]) == len(row["labels"]) == sum(row["seq_lengths"]) <= 2048
            starts = [sum(row["seq_lengths"][:n]) for n in range(len(row["seq_lengths"]))]
            assert places[number] == list(zip(starts, row["seq_lengths"], strict=True))
            for id, label in zip(row["input_ids"], row["labels"], strict=True):
                assert label in (id, IGNORED)
                supervised += label != IGNORED
        assert len(documents) == summary.documents
        assert sum(place["length"] for place in documents) == summary.tokens
        assert supervised == summary.supervised_tokens
        assert sum(place["truncated"] for place in documents) == summary.truncated
        assert summary.rows == len(rows)
        assert summary.efficiency == pytest.approx(summary.tokens / (summary.rows * 2048))


def long_chat(chat, exchanges=6, words=60):
    contents = []
    for number in range(exchanges):
        contents += [
            f"Question {number}?",
            " ".join(f"word{number}x{n}" for n in range(words)) + ".",
        ]
    return chat(*contents, id="long", system="Be thorough.")


@pytest.fixture(scope="module")
def token_count(live_tokenizer):
    return lambda messages: len(live_tokenizer.apply_chat_template(messages)["input_ids"])


def prepare_long(prepare, write_rows, tmp_path, row, overlong, max_length=512):
    source = write_rows(tmp_path / "rows.jsonl", [row])
    config = {"pack": {"overlong": overlong}}
    return prepare(
        source, tmp_path / overlong, config=config, max_length=max_length, test_fraction=0.0
    )


def test_overlong_chats_are_cut(prepare, write_rows, chat, tmp_path, live_tokenizer):
    row = long_chat(chat)
    result = prepare_long(prepare, write_rows, tmp_path, row, "truncate")
    whole = live_tokenizer.apply_chat_template(row["messages"])["input_ids"]
    (packed,) = open_packed(result.out).table("train").to_pylist()
    assert len(whole) > 1024
    assert packed["input_ids"] == whole[:512]
    assert result.splits["train"].truncated == 1


def test_overlong_chats_are_dropped(prepare, write_rows, chat, tmp_path, token_count, read_rows):
    row = long_chat(chat)
    result = prepare_long(prepare, write_rows, tmp_path, row, "drop")
    (reject,) = read_rows(result.out / "packed" / "rejects")
    assert (reject["id"], reject["reason"]) == ("long", "overlong")
    assert reject["detail"] == f"{token_count(row['messages'])} tokens"
    assert reject["messages"] == row["messages"]
    assert result.splits["train"].documents == 0


def test_overlong_chats_are_split_between_exchanges(
    prepare, write_rows, chat, tmp_path, live_tokenizer
):
    row = long_chat(chat)
    result = prepare_long(prepare, write_rows, tmp_path, row, "split_turns")
    packed = open_packed(result.out)
    rows = packed.table("train").to_pylist()
    texts = []
    for place in packed.documents("train").to_pylist():
        ids = rows[place["row"]]["input_ids"][place["start"] : place["start"] + place["length"]]
        assert (place["id"], place["truncated"]) == ("long", False)
        texts.append(live_tokenizer.decode(ids))
    assert len(texts) > 1
    head, tail = "<|system|>\nBe thorough.</s>\n", "</s>\n"
    assert all(text.startswith(f"{head}<|user|>\n") and text.endswith(tail) for text in texts)
    whole = live_tokenizer.apply_chat_template(row["messages"], tokenize=False)
    pieces = sorted((text.removeprefix(head) for text in texts), key=whole.index)
    assert head + "".join(pieces) == whole


def test_a_chat_without_room_for_an_answer_is_dropped(
    prepare, write_rows, chat, tmp_path, read_rows
):
    row = chat("word " * 600, "Yes.", id="question")
    for overlong in ("truncate", "split_turns"):
        result = prepare_long(prepare, write_rows, tmp_path, row, overlong)
        (reject,) = read_rows(result.out / "packed" / "rejects")
        assert (reject["id"], reject["reason"]) == ("question", "overlong")


def long_pair(words=400, exchanges=3):
    prompt = []
    for number in range(exchanges):
        prompt.append(
            {
                "role": "user",
                "content": " ".join(f"q{number}x{n}" for n in range(words // exchanges)),
            }
        )
        prompt.append({"role": "assistant", "content": f"Answer {number}."})
    prompt.append({"role": "user", "content": "And now?"})
    answers = {
        "chosen": [{"role": "assistant", "content": "A good one. " + "yes " * 50}],
        "rejected": [{"role": "assistant", "content": "A bad one."}],
    }
    return {"id": "long", "prompt": prompt, **answers, "score_chosen": 9, "score_rejected": 2.5}


def pair_tokens(row, live):
    prompt = live.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
    answers = (
        live.apply_chat_template(row["prompt"] + row[name])["input_ids"]
        for name in ("chosen", "rejected")
    )
    return prompt, *(ids[len(prompt) :] for ids in answers)


def test_an_overlong_pair_keeps_the_end_of_its_prompt(
    prepare, write_rows, tmp_path, live_tokenizer
):
    row = long_pair()
    result = prepare_long(prepare, write_rows, tmp_path, row, "truncate")
    prompt, chosen, rejected = pair_tokens(row, live_tokenizer)
    (packed,) = open_packed(result.out).table("train").to_pylist()
    assert len(prompt) > 512
    assert packed["prompt_ids"] == prompt[-(512 - len(chosen)) :]
    assert (packed["chosen_ids"], packed["rejected_ids"]) == (chosen, rejected)
    assert (packed["score_chosen"], packed["score_rejected"]) == (9.0, 2.5)
    assert result.splits["train"].truncated == 1


def test_an_overlong_pair_is_dropped(prepare, write_rows, tmp_path, live_tokenizer, read_rows):
    row = long_pair()
    result = prepare_long(prepare, write_rows, tmp_path, row, "drop")
    (reject,) = read_rows(result.out / "packed" / "rejects")
    prompt, chosen, _ = pair_tokens(row, live_tokenizer)
    assert (reject["reason"], reject["detail"]) == (
        "overlong",
        f"{len(prompt) + len(chosen)} tokens",
    )
    assert (reject["prompt"], reject["chosen"]) == (row["prompt"], row["chosen"])


def test_an_overlong_pair_loses_its_first_exchanges(prepare, write_rows, tmp_path, live_tokenizer):
    row = long_pair(exchanges=6)
    result = prepare_long(prepare, write_rows, tmp_path, row, "split_turns")
    (packed,) = open_packed(result.out).table("train").to_pylist()
    fitting = []
    for first in range(0, len(row["prompt"]), 2):
        prompt, chosen, rejected = pair_tokens(
            {**row, "prompt": row["prompt"][first:]}, live_tokenizer
        )
        if len(prompt) + max(len(chosen), len(rejected)) <= 512:
            fitting.append((prompt, chosen, rejected))
    assert 1 < len(fitting) < 7
    assert (packed["prompt_ids"], packed["chosen_ids"], packed["rejected_ids"]) == fitting[0]
