"""Packed, prefix-shared pairs give the log-probabilities and gradients of padded ones; whatever must not be seen is not."""

import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")

RAGGED = [(17, 9, 30), (3, 41, 8), (60, 5, 5), (1, 12, 20), (4, 1, 1)]


@pytest.fixture
def torch(training):  # noqa: ARG001 - skips where there is none
    import torch

    return torch


def padded_logps(torch, model, pairs):
    """Log-probabilities of the answers from padded rows, one row an answer: the plain way."""
    rows = [np.concatenate([pair[0], pair[side]]) for side in (1, 2) for pair in pairs]
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    mask, answer = torch.zeros_like(ids), torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.from_numpy(row.astype(np.int64))
        mask[number, : len(row)] = 1
        answer[number, len(pairs[number % len(pairs)][0]) : len(row)] = 1
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    logps = torch.log_softmax(logits[:, :-1], -1).gather(-1, ids[:, 1:, None])[..., 0]
    return (logps * answer[:, 1:]).sum(1)


def packed_logps(torch, training, model, pairs, *, share=True, **override):
    rows = [
        dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), pair, strict=True)) for pair in pairs
    ]
    batch = training.collate.PairCollator(pad_token_id=1, share_prefix=share)(rows)
    batch.update(override)
    answer = batch.pop("completion_mask")
    batch.pop("tokens_useful")
    if "forward" not in vars(model.base_model):
        training.collate.pack_backbone(model)
    ids = batch["input_ids"]
    logits = model.lm_head(model.model(**batch, use_cache=False).last_hidden_state)
    logps = torch.log_softmax(logits[:, :-1], -1).gather(-1, ids[:, 1:, None])[..., 0]
    return (logps * answer[:, 1:]).sum(1)


def dpo_loss(torch, logps, beta=0.1):
    chosen, rejected = logps.chunk(2)
    return -torch.nn.functional.logsigmoid(beta * (chosen - rejected)).mean()


@pytest.mark.parametrize("kind", ["Mistral", "Llama", "Qwen2", "Qwen3"])
@pytest.mark.parametrize("share", [True, False])
def test_float64_log_probabilities_and_gradients_are_those_of_padded_rows(
    torch, training, tiny, random_pairs, kind, share
):
    pairs = random_pairs(RAGGED)
    padded = tiny(kind, dtype=torch.float64, kernel="sdpa", packed=False)
    packed = tiny(kind, dtype=torch.float64)
    packed.load_state_dict(padded.state_dict())
    expected = padded_logps(torch, padded, pairs)
    found = packed_logps(torch, training, packed, pairs, share=share)
    assert (expected - found).abs().max() < 1e-10
    dpo_loss(torch, expected).backward()
    dpo_loss(torch, found).backward()
    for (name, one), (_, other) in zip(
        padded.named_parameters(), packed.named_parameters(), strict=True
    ):
        # transformers' norms compute in float32 whatever the dtype.
        assert (one.grad - other.grad).abs().max() <= 1e-5 * one.grad.abs().max() + 1e-12, name


def test_a_prompt_is_computed_once(training, random_pairs):
    pairs = random_pairs(RAGGED)
    shared = training.collate.lay_out(pairs, share=True)
    apart = training.collate.lay_out(pairs, share=False)
    assert len(shared.ids) == sum(map(sum, RAGGED)) == shared.useful == apart.useful
    assert len(apart.ids) == sum(2 * p + c + r for p, c, r in RAGGED)
    assert apart.kv_index is None


def test_what_must_not_be_seen_is_not(torch, training, tiny, random_pairs):
    pairs = random_pairs(RAGGED)
    model, n = tiny(dtype=torch.float64), len(RAGGED)
    other = random_pairs(RAGGED, seed=2)
    before = packed_logps(torch, training, model, pairs)

    def changed(*sides):
        mixed = [
            tuple(o[s] if s in sides else p[s] for s in range(3))
            for p, o in zip(pairs, other, strict=True)
        ]
        return packed_logps(torch, training, model, mixed)

    chosen, rejected = changed(1), changed(2)
    assert torch.equal(before[n:], chosen[n:])
    assert not torch.isclose(before[:n], chosen[:n]).any()
    assert torch.equal(before[:n], rejected[:n])
    assert not torch.isclose(before[n:], rejected[n:]).any()
    first = packed_logps(torch, training, model, [other[0], *pairs[1:]])
    assert torch.equal(before[1:n], first[1:n])
    assert torch.equal(before[n + 1 :], first[n + 1 :])


def test_layouts_that_are_wrong_give_other_numbers(torch, training, tiny, random_pairs):
    """Were these equal, the tests above would prove nothing."""
    pairs = random_pairs(RAGGED)
    model = tiny(dtype=torch.float64)
    n = len(pairs)
    right = packed_logps(torch, training, model, pairs)
    # Positions of the rejected answer that go on behind the chosen one.
    on = torch.cat([torch.arange(sum(sizes)) for sizes in RAGGED])[None]
    wrong = packed_logps(torch, training, model, pairs, packed_position_ids=on)
    assert torch.equal(wrong[:n], right[:n])
    assert (wrong[n:] - right[n:]).abs().max() > 1e-3
    # transformers' own attention, which knows neither segments nor shared keys.
    stock = tiny(dtype=torch.float64, kernel="sdpa", packed=False)
    stock.load_state_dict(model.state_dict())
    wrong = packed_logps(torch, training, stock, pairs)
    assert (wrong[n:] - right[n:]).abs().max() > 0.01


def test_pairs_without_a_prompt_or_an_answer_are_refused(training, random_pairs):
    for sizes in ((0, 3, 3), (3, 0, 3), (3, 3, 0)):
        with pytest.raises(
            ValueError, match="needs a prompt and two answers of at least one token"
        ):
            training.collate.lay_out(random_pairs([(2, 2, 2), sizes]), share=True)


def test_a_batch_holds_the_answers_behind_their_prompts_last_token(training):
    row = {"prompt_ids": [5, 6, 7], "chosen_ids": [8, 9], "rejected_ids": [10]}
    rows = [row, {"prompt_ids": [11], "chosen_ids": [12], "rejected_ids": [13, 14, 15]}]
    batch = training.collate.PairCollator(pad_token_id=1)(rows)
    assert batch["input_ids"].tolist() == [
        [7, 8, 9, 1],
        [11, 12, 1, 1],
        [7, 10, 1, 1],
        [11, 13, 14, 15],
    ]
    assert batch["completion_mask"].tolist() == [
        [0, 1, 1, 0],
        [0, 1, 0, 0],
        [0, 1, 0, 0],
        [0, 1, 1, 1],
    ]
    assert batch["packed_ids"].tolist() == [[5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]]
    assert batch["packed_position_ids"].tolist() == [[0, 1, 2, 3, 4, 3, 0, 1, 1, 2, 3]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 5, 6, 8, 11]
    assert batch["cu_seq_lens_k"].tolist() == [0, 5, 9, 11, 15]
    assert batch["kv_index"].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 5, 6, 7, 6, 8, 9, 10]
    assert (batch["max_length_q"], batch["max_length_k"]) == (5, 5)
    assert batch["tokens_useful"] == 11
