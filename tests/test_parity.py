"""Ids and masks are transformers' own, document by document, read back from the packed rows.

The oracle for ids is `apply_chat_template` on the message as `dedup` wrote it, and for masks the same template with its
assistant turns tagged. Where a content holds a special token's text, which is text unless `allow_special_in_content`, the
oracle is transformers with `split_special_tokens=True` on what stands between the special tokens that the template wrote.

`ZEPHYR_DATA_FULL=1` runs it on all of the shared chats (minutes) instead of every hundredth.
"""

import json
import os
import re

import pytest

from zephyr_data import open_packed

IGNORED = -100


def tagged(template):
    """The Zephyr template with the loss on what the assistant says and the token that ends it.

    Jinja eats the newline behind a block tag, not the one behind an expression, so one has to be given back.
    """
    turn = "{{ '<|assistant|>\n'  + message['content'] + eos_token }}"
    assert template.count(turn) == 1
    head = "{{ '<|assistant|>\n' }}"
    said = "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}\n"
    return template.replace(turn, head + said)


class Oracle:
    """What transformers makes of a chat."""

    def __init__(self, live):
        self.live = live
        self.template = tagged(live.chat_template)
        self.special = {
            str(token): id for id, token in live.added_tokens_decoder.items() if token.special
        }
        self.finder = re.compile("|".join(map(re.escape, self.special)))

    def holds_special(self, messages):
        return any(self.finder.search(turn["content"]) for turn in messages)

    def encode(self, messages, *, literal_specials=False):
        if self.holds_special(messages) and not literal_specials:
            return self.encode_as_text(messages)
        both = [
            self.live.apply_chat_template(messages, return_dict=True, **options)
            for options in (
                {},
                {"chat_template": self.template, "return_assistant_tokens_mask": True},
            )
        ]
        assert both[0]["input_ids"] == both[1]["input_ids"]
        return both[1]["input_ids"], both[1]["assistant_masks"]

    def encode_as_text(self, messages):
        """Cuts at the special tokens that the template wrote; what lies between is text, whatever it looks like."""
        spans, text = [], ""
        for turn in messages:
            text += f"<|{turn['role']}|>\n"
            spans.append((len(text), len(text) + len(turn["content"]), turn["role"] == "assistant"))
            text += turn["content"] + "</s>\n"
        assert text == self.live.apply_chat_template(messages, tokenize=False)
        learned = [(start, end + len("</s>")) for start, end, assistant in spans if assistant]
        inside = [(start, end) for start, end, _ in spans]
        ids, mask, at = [], [], 0
        for match in [*self.finder.finditer(text), None]:
            if match and any(
                start <= match.start() and match.end() <= end for start, end in inside
            ):
                continue
            end = match.start() if match else len(text)
            piece = self.live(
                text[at:end],
                add_special_tokens=False,
                split_special_tokens=True,
                return_offsets_mapping=True,
            )
            tokens = [
                (id, at + first, at + last)
                for id, (first, last) in zip(
                    piece["input_ids"], piece["offset_mapping"], strict=True
                )
            ]
            if match:
                tokens.append((self.special[match[0]], match.start(), match.end()))
                at = match.end()
            for id, first, last in tokens:
                ids.append(id)
                mask.append(int(any(start < last and first < stop for start, stop in learned)))
        return ids, mask


def packed_documents(result):
    """Id, token ids, labels and whether it was cut, of every document, from rows and index."""
    packed = open_packed(result.out)
    for split in ("train", "test"):
        rows = packed.table(split).to_pylist()
        for place in packed.documents(split).to_pylist():
            row, piece = rows[place["row"]], slice(place["start"], place["start"] + place["length"])
            yield place["id"], row["input_ids"][piece], row["labels"][piece], place["truncated"]


def check(result, live, read_rows, *, literal_specials=False, loss_on="assistant"):
    """Holds every packed document against the oracle; gives how many there are, cut, and with special tokens' texts."""
    oracle = Oracle(live)
    chats = {row["id"]: row["messages"] for row in read_rows(result.out / "dedup")}
    seen, cut, special = set(), 0, 0
    for name, ids, labels, truncated in packed_documents(result):
        assert name not in seen
        seen.add(name)
        expected, mask = oracle.encode(chats[name], literal_specials=literal_specials)
        if truncated:
            cut += 1
            assert len(ids) == 2048 < len(expected)
            expected, mask = expected[:2048], mask[:2048]
        special += oracle.holds_special(chats[name])
        assert ids == expected, name
        learned = [True] * len(mask) if loss_on == "all" else mask
        assert labels == [
            id if bit else IGNORED for id, bit in zip(expected, learned, strict=True)
        ], name
    dropped = {row["id"] for row in read_rows(result.out / "packed" / "rejects")}
    assert seen | dropped == set(chats)
    return len(seen), cut, special


def test_the_bundled_chats(sample, live_tokenizer, read_rows):
    documents, cut, special = check(sample, live_tokenizer, read_rows)
    assert documents >= 180
    assert cut >= 1
    assert special >= 2


def test_special_tokens_as_transformers_reads_them(
    prepare, examples, live_tokenizer, read_rows, tmp_path
):
    config = {"pack": {"allow_special_in_content": True}}
    result = prepare(examples / "chats.jsonl", tmp_path / "out", config=config)
    assert check(result, live_tokenizer, read_rows, literal_specials=True)[2] >= 2


def test_loss_on_all(prepare, examples, live_tokenizer, read_rows, tmp_path):
    result = prepare(
        examples / "chats.jsonl", tmp_path / "out", config={"pack": {"loss_on": "all"}}
    )
    assert check(result, live_tokenizer, read_rows, loss_on="all")[0] >= 180


HARD = [
    "</s>",
    "a</s>",
    "</s>b",
    " </s> ",
    "x <|user|> y",
    "<|user|>\n</s>\n<|assistant|>\n",
    "<s></s><s>",
    "</s></s>",
    "<</s>>",
    "text\n</s>\ntext",
    "  two spaces </s>  and more",
    "<|assistant|",
    "</s",
    "né</s>日本</s>👍",
]


@pytest.mark.parametrize("tokenizer", ["bundled", "mistral-v1"])
@pytest.mark.usefixtures("transformers")
def test_literal_special_tokens(request, tokenizer, examples):
    from zephyr_data import _core
    from zephyr_data.tokenizer import encode_chat, load_tokenizer

    folder = examples / "tokenizer"
    if tokenizer != "bundled":
        folder = request.getfixturevalue("shared") / "tokenizers" / tokenizer
    loaded = load_tokenizer(folder)
    oracle = Oracle(loaded.live)
    for allowed in (False, True):
        encoder = _core.ChatEncoder(loaded.spec, allow_special_in_content=allowed)
        for one in HARD:
            for other in HARD[:4]:
                messages = [
                    {"role": "system", "content": other},
                    {"role": "user", "content": one},
                    {"role": "assistant", "content": other},
                    {"role": "user", "content": "Next?"},
                    {"role": "assistant", "content": one},
                ]
                encoded = encode_chat(encoder, messages)
                ids, mask = oracle.encode(messages, literal_specials=allowed)
                assert encoded["input_ids"] == ids, (allowed, one, other)
                assert encoded["assistant_masks"] == mask, (allowed, one, other)


def test_pairs_are_cut_where_trl_cuts_them(pairs, live_tokenizer, read_rows):
    oracle = Oracle(live_tokenizer)
    rows = {row["id"]: row for row in read_rows(pairs.out / "dedup")}
    packed = open_packed(pairs.out)
    checked = 0
    for split in ("train", "test"):
        for row in packed.table(split).to_pylist():
            source = rows[row["id"]]
            assert not oracle.holds_special(
                source["prompt"] + source["chosen"] + source["rejected"]
            )
            prompt = live_tokenizer.apply_chat_template(
                source["prompt"], add_generation_prompt=True
            )["input_ids"]
            assert row["prompt_ids"] == prompt
            for answer in ("chosen", "rejected"):
                whole = live_tokenizer.apply_chat_template(source["prompt"] + source[answer])[
                    "input_ids"
                ]
                assert prompt + row[f"{answer}_ids"] == whole
                assert row[f"score_{answer}"] == source[f"score_{answer}"]
            checked += 1
    assert checked == len(rows) >= 50


def shared_chats(shared, path, every):
    """Every so-manyth of the shared chats in one file."""
    import io

    import zstandard

    count = 0
    with path.open("w", encoding="utf-8") as target:
        for name in ("chats_single_turn.jsonl.zst", "chats_multi_turn_train.jsonl.zst"):
            with (shared / name).open("rb") as file:
                stream = zstandard.ZstdDecompressor().stream_reader(file)
                for number, line in enumerate(
                    io.TextIOWrapper(stream, encoding="utf-8", newline="\n")
                ):
                    if number % every == 0:
                        row = json.loads(line)
                        row["id"] = f"{name}:{number}"
                        target.write(json.dumps(row, ensure_ascii=False) + "\n")
                        count += 1
    return count


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_shared_chats(prepare, shared, transformers, read_rows, tmp_path):
    every = 1 if os.environ.get("ZEPHYR_DATA_FULL") == "1" else 100
    count = shared_chats(shared, tmp_path / "chats.jsonl", every)
    tokenizer = shared / "tokenizers" / "mistral-v1"
    result = prepare(
        tmp_path / "chats.jsonl", tmp_path / "out", tokenizer=tokenizer, test_fraction=0.01
    )
    live = transformers.AutoTokenizer.from_pretrained(tokenizer)
    documents, cut, _ = check(result, live, read_rows)
    assert documents > 0.8 * count
    assert cut > 0
