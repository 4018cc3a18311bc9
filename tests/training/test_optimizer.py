"""AdamW with float32 masters makes fp32 AdamW's updates where plain bfloat16 makes nearly none."""

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def torch(training):  # noqa: ARG001 - skips where there is none
    import torch

    return torch


def run(torch, make, dtype, steps=24, lr=5e-7, size=4000):
    generator = torch.Generator().manual_seed(0)
    start = 0.02 * torch.randn(size, generator=generator)
    weight = torch.nn.Parameter(start.bfloat16().to(dtype))
    optimizer = make([weight], lr=lr, weight_decay=0.0)
    for _ in range(steps):
        weight.grad = (
            (0.1 * torch.randn(size, generator=generator) + 0.05).to(torch.bfloat16).to(dtype)
        )
        optimizer.step()
    return start.bfloat16().float(), weight, optimizer


def test_at_the_rate_of_ddpo_the_update_is_that_of_float32(torch, training):
    before, exact, _ = run(torch, torch.optim.AdamW, torch.float32)
    _, low, optimizer = run(torch, training.optimizer.MasterAdamW, torch.bfloat16)
    master = optimizer.state[low]["master"]
    assert torch.allclose(master - before, exact - before, rtol=1e-4, atol=1e-9)
    assert torch.equal(low, master.bfloat16())
    # Plain bfloat16 loses it: nearly no weight moves, though all of the exact ones do.
    _, plain, _ = run(torch, torch.optim.AdamW, torch.bfloat16)
    assert (exact != before).float().mean() > 0.99
    assert (plain.float() != before).float().mean() < 0.05


def test_float32_weights_need_no_masters(torch, training):
    _, exact, _ = run(torch, torch.optim.AdamW, torch.float32, lr=1e-2)
    _, ours, optimizer = run(torch, training.optimizer.MasterAdamW, torch.float32, lr=1e-2)
    assert "master" not in optimizer.state[ours]
    assert torch.allclose(exact, ours, rtol=1e-6, atol=1e-9)


def test_the_state_survives_saving_in_float32(torch, training, tmp_path):
    _, weight, optimizer = run(torch, training.optimizer.MasterAdamW, torch.bfloat16, steps=5)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    other = training.optimizer.MasterAdamW([torch.nn.Parameter(weight.detach().clone())], lr=5e-7)
    other.load_state_dict(torch.load(tmp_path / "state.pt"))
    (state,), (loaded,) = optimizer.state.values(), other.state.values()
    for name, value in state.items():
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], value)


def test_masters_are_for_low_precision_and_adamw(torch, training):
    needs = training.optimizer.needs_masters
    low, high = torch.nn.Linear(2, 2).bfloat16(), torch.nn.Linear(2, 2)
    assert needs(low, "adamw_torch")
    assert needs(low, "adamw_torch_fused")
    assert not needs(high, "adamw_torch")
    assert not needs(low, "adamw_8bit")
    assert not needs(low.requires_grad_(requires_grad=False), "adamw_torch")
