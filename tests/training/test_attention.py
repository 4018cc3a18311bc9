"""Every kernel computes the same; a choice that cannot be honoured is an error."""

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def torch(training):  # noqa: ARG001 - skips where there is none
    import torch

    return torch


def reference(torch, segments, q, k, v, window):
    """Softmax over what a query may see, written out."""
    out = torch.zeros_like(q)
    q_ends, k_ends = segments.cu_q.tolist(), segments.cu_k.tolist()
    group = q.shape[1] // k.shape[1]
    for part in range(len(q_ends) - 1):
        keys = range(k_ends[part], k_ends[part + 1])
        for place in range(q_ends[part], q_ends[part + 1]):
            last = k_ends[part + 1] - (q_ends[part + 1] - place)
            seen = [at for at in keys if at <= last and (window is None or at > last - window)]
            for head in range(q.shape[1]):
                scores = k[seen, head // group] @ q[place, head] / q.shape[2] ** 0.5
                out[place, head] = torch.softmax(scores, 0) @ v[seen, head // group]
    return out


@pytest.fixture
def case(torch, training):
    """Segments of unequal lengths, some with more keys than queries, and random q, k, v."""
    generator = torch.Generator().manual_seed(3)
    lens_q, lens_k = [5, 3, 7, 1], [5, 9, 7, 4]

    def bounds(lens):
        return torch.tensor([0, *lens]).cumsum(0).to(torch.int32)

    segments = training.attention.Segments(bounds(lens_q), bounds(lens_k), max(lens_q), max(lens_k))

    def make(length, heads):
        return torch.randn(length, heads, 8, generator=generator, dtype=torch.float64)

    return segments, make(sum(lens_q), 4), make(sum(lens_k), 2), make(sum(lens_k), 2)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("kernel", ["sdpa", "flex"])
def test_kernels_equal_the_definition(torch, training, case, kernel, window):
    segments, q, k, v = case
    expected = reference(torch, segments, q, k, v, window)
    found = training.attention.KERNELS[kernel](segments, q, k, v, None, window)
    assert (expected - found).abs().max() < 1e-12


def test_the_choice_is_said_or_refused(torch, training):
    choose, cpu = training.attention.choose, torch.device("cpu")
    assert choose("auto", cpu, torch.float32).kernel == "sdpa"
    assert choose("sdpa", cpu, torch.bfloat16).reason == "asked for"
    for name in ("varlen", "fa3", "fa4", "flex"):
        with pytest.raises(
            ValueError,
            match=f"cannot use `--attn {name}`: it needs a CUDA device, found: `cpu`\nhint: ",
        ):
            choose(name, cpu, torch.bfloat16)
    with pytest.raises(ValueError, match=r"`--attn` must be one of .*, found: `flash`"):
        choose("flash", cpu, torch.bfloat16)
    with pytest.raises(ValueError, match="it needs float16 or bfloat16, found: `float32`"):
        choose("varlen", torch.device("cuda"), torch.float32)
    assert choose("auto", torch.device("cuda"), torch.float32).kernel == "flex"
    assert choose("auto", torch.device("cuda"), torch.bfloat16).kernel == "varlen"


def test_a_padded_batch_is_refused(torch, tiny):
    with pytest.raises(ValueError, match="got a batch without segments\nhint: load the model with"):
        tiny()(input_ids=torch.ones(2, 4, dtype=torch.long))


def test_dropped_attention_weights_are_refused(torch, training, tiny, random_pairs):
    model = tiny(attention_dropout=0.1).train()
    layout = training.collate.lay_out(random_pairs([(3, 2, 2)]), share=False)
    with pytest.raises(ValueError, match="found a dropout of: 0.1"):
        model(
            input_ids=torch.from_numpy(layout.ids)[None],
            position_ids=torch.from_numpy(layout.positions)[None],
            cu_seq_lens_q=torch.from_numpy(layout.cu_q),
            cu_seq_lens_k=torch.from_numpy(layout.cu_k),
        )


@pytest.mark.parametrize("window", [None, 32])
@pytest.mark.parametrize("heads", [(4, 4), (32, 8)])
def test_varlen_takes_our_arguments_where_there_is_no_gpu(torch, training, heads, window):
    # Tensors without values go through the operator's own checks of shapes and options, forward and backward.
    def make(length, count):
        return torch.empty(length, count, 64, dtype=torch.bfloat16, device="meta").requires_grad_()

    bounds = torch.empty(4, dtype=torch.int32, device="meta")
    segments = training.attention.Segments(bounds, bounds, 130, 200)
    q, k, v = make(205, heads[0]), make(334, heads[1]), make(334, heads[1])
    found = training.attention.varlen(segments, q, k, v, None, window)
    assert (found.shape, found.dtype) == (q.shape, q.dtype)
    grads = torch.autograd.grad(found.sum(), (q, k, v))
    assert [grad.shape for grad in grads] == [q.shape, k.shape, v.shape]


@pytest.mark.gpu
@pytest.mark.parametrize("heads", [(4, 4), (32, 8)])
@pytest.mark.parametrize("shared", [False, True])
def test_varlen_equals_float32_sdpa(torch, training, heads, shared):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    generator = torch.Generator("cuda").manual_seed(0)
    lens_q, lens_k = [70, 130, 5], [70, 200, 64] if shared else [70, 130, 5]

    def bounds(lens):
        return torch.tensor([0, *lens], device="cuda").cumsum(0).to(torch.int32)

    cu_q = bounds(lens_q)
    cu_k = bounds(lens_k) if shared else cu_q
    segments = training.attention.Segments(cu_q, cu_k, max(lens_q), max(lens_k))

    def make(length, count):
        values = torch.randn(length, count, 64, generator=generator, device="cuda")
        return values.bfloat16().requires_grad_()

    q, k, v = make(sum(lens_q), heads[0]), make(sum(lens_k), heads[1]), make(sum(lens_k), heads[1])
    found = training.attention.varlen(segments, q, k, v, None, None)
    weights = torch.randn_like(found)
    grads = torch.autograd.grad((found * weights).float().sum(), (q, k, v))
    wide = [x.detach().float().requires_grad_() for x in (q, k, v)]
    expected = training.attention.sdpa(segments, *wide, None, None)
    wanted = torch.autograd.grad((expected * weights.float()).sum(), wide)
    for one, other in zip((found, *grads), (expected, *wanted), strict=True):
        assert (one.float() - other).abs().max() < 0.02 * other.abs().max()
