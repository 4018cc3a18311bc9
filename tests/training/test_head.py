"""trl's head on a GPU, log-probabilities without logits in a Triton kernel, run by Triton's interpreter on the CPU."""

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

PROGRAM = """
import torch
from trl.kernels import ChunkedLogProbFunction, chunked_logprob

chunked_logprob._use_triton = lambda device: True
chunked_logprob._forward_tile = chunked_logprob._backward_tile = None  # what runs without Triton
torch.manual_seed(0)
hidden = torch.randn(7, 16, requires_grad=True)
weight = torch.randn(211, 16, requires_grad=True)
targets = torch.randint(211, (7,))
upstream = torch.randn(7)

def gradients(logps):
    return torch.autograd.grad((logps * upstream).sum(), (hidden, weight))

found = ChunkedLogProbFunction.apply(hidden, weight, None, targets, 1.0, 64)[0]
expected = torch.log_softmax(hidden @ weight.T, -1).gather(1, targets[:, None])[:, 0]
for one, other in zip((found, *gradients(found)), (expected, *gradients(expected))):
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
print("equal")
"""


def test_log_probabilities_and_gradients_equal_those_of_all_logits():
    pytest.importorskip("trl", reason="needs the extra `train`")
    pytest.importorskip("triton", reason="torch brings Triton on Linux with x86_64 only")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "TRITON_INTERPRET": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "equal\n", done.stderr[-2000:]
