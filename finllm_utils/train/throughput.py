"""How fast training ran, beside what the machine can do."""

import time

import torch
from transformers import PreTrainedModel

CPU_SIZES = (1_024, 2_048, 4_096)
GPU_SIZES = (4_096, 8_192)
PEAK_TFLOPS = {
    "A100": 312.0,
    "A800": 312.0,
    "H100": 989.0,
    "H200": 989.0,
    "H800": 989.0,
    "H20": 148.0,
    "910B": 313.0,
}
"""Dense bfloat16 peaks in TFLOP/s, from the vendors' data sheets: NVIDIA A100, A800,
H100 SXM, H200 SXM, H800 SXM, H20; Huawei Ascend 910B by SKU 313 to 376."""


def matmul_weights(model: PreTrainedModel) -> tuple[int, int]:
    """Weights inside matmuls of the model, and those of them that learn.

    The output layer is one even when it is tied; the input embedding is a look-up.
    """
    output = model.get_output_embeddings().weight
    weights = [p for p in model.get_decoder().layers.parameters() if p.ndim > 1]
    weights.append(output)
    learning = sum(p.numel() for p in weights if p.requires_grad)
    return sum(p.numel() for p in weights), learning


def flops_per_token(model: PreTrainedModel, seq_len: int) -> float:
    """Training FLOPs of one token: 4 N + 2 M + 12 L D T; all learn: 6 N + ...

    N counts weights inside matmuls, M those of them that learn. Each weight is used
    twice in the forward pass (multiply, add), twice for the gradient of its input, and
    twice for its own, which frozen weights do without. Gradients of inputs reach every
    layer, since embeddings or adapters of the first layer learn. Mark what learns
    before calling. Source: arXiv 2204.02311, appendix B, for M = N.
    """
    config = model.config
    weights, learning = matmul_weights(model)
    width = config.num_attention_heads * head_width(model)
    attention = 12 * config.num_hidden_layers * width * seq_len
    return 4.0 * weights + 2.0 * learning + attention


def head_width(model: PreTrainedModel) -> int:
    """Numbers in one attention head."""
    config = model.config
    width = getattr(config, "head_dim", None)
    return width or config.hidden_size // config.num_attention_heads


def mfu(tokens_per_s: float, flops_per_token: float, peak_tflops: float) -> float:
    """Model FLOPs utilisation: needed arithmetic a second over the peak, 0 to 1."""
    return tokens_per_s * flops_per_token / (peak_tflops * 1e12)


def data_sheet_peak(device_name: str) -> float | None:
    """Peak of a named accelerator in bfloat16 TFLOP/s; None when it is not known."""
    matches = [name for name in PEAK_TFLOPS if name in device_name.upper()]
    return PEAK_TFLOPS[max(matches, key=len)] if matches else None


def matmul_rates(
    dtype: torch.dtype, device: str = "cpu", repeats: int = 5
) -> dict[int, float]:
    """Best rate of a square matmul of each size here, in TFLOP/s (2 n^3 operations)."""
    rates = {}
    for size in CPU_SIZES if device == "cpu" else GPU_SIZES:
        a = torch.randn(size, size, device=device).to(dtype)
        b = torch.randn(size, size, device=device).to(dtype)
        fastest = float("inf")
        for _ in range(repeats):
            started = time.perf_counter()
            (a @ b)[0, 0].item()  # reading one number waits for the device
            fastest = min(fastest, time.perf_counter() - started)
        rates[size] = 2 * size**3 / fastest / 1e12
    return rates


def matmul_peak_tflops(
    dtype: torch.dtype, device: str = "cpu", repeats: int = 5
) -> float:
    """The best of ``matmul_rates``."""
    return max(matmul_rates(dtype, device, repeats).values())
