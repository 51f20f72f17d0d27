"""How fast training ran, beside what the machine can do."""

import time

import torch
from transformers import PreTrainedModel


def flops_per_token(model: PreTrainedModel, seq_len: int) -> float:
    """Training FLOPs of one token, 6 N + 12 L D T.

    N counts weights inside matmuls: the output layer is one even when it is tied, the
    input embedding is a look-up. Source: arXiv 2204.02311, appendix B.
    """
    config = model.config
    layers = sum(p.numel() for p in model.model.layers.parameters() if p.ndim > 1)
    output = model.get_output_embeddings().weight.numel()
    attention = 12 * config.num_hidden_layers * config.hidden_size * seq_len
    return 6.0 * (layers + output) + attention


def matmul_peak_tflops(
    dtype: torch.dtype, device: str = "cpu", repeats: int = 5
) -> float:
    """Best rate of one square matmul here, in TFLOP/s (2 n^3 operations).

    Sizes up to 2,048 on a CPU, where larger ones are slower; 8,192 on an accelerator.
    """
    sizes = (1_024, 2_048) if device == "cpu" else (4_096, 8_192)
    best = 0.0
    for size in sizes:
        a = torch.randn(size, size, device=device).to(dtype)
        b = torch.randn(size, size, device=device).to(dtype)
        for _ in range(repeats):
            started = time.perf_counter()
            (a @ b)[0, 0].item()  # reading one number waits for the device
            best = max(best, 2 * size**3 / (time.perf_counter() - started) / 1e12)
    return best
