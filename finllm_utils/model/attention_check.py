"""Does each attention back end present agree with an exact one on packed documents?

The reference is the library's eager attention in float32 with every document in a call
of its own, so that nothing can leak into it.
"""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from finllm_utils.model.attention import (
    AttentionChoice,
    packed_kwargs,
    present_attention,
    use_attention,
)

BOS = 1


def small_model(
    device: str | torch.device, dtype: torch.dtype, *, width: int = 64, seed: int = 0
) -> LlamaForCausalLM:
    """Two layers with grouped heads, random weights that ``seed`` fixes."""
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=4 * width,
        intermediate_size=8 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=BOS,
        initializer_range=0.1,  # the default makes attention all but uniform
        attn_implementation="eager",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.model.rotary_emb.float()
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model.to(device)


def packed_rows(num_rows: int, seq_len: int, *, seed: int = 0) -> torch.Tensor:
    """Random rows with documents of very different lengths, one without any start."""
    generator = torch.Generator().manual_seed(seed)
    rows_BT = torch.randint(2, 97, (num_rows, seq_len), generator=generator)
    starts_BT = torch.rand(num_rows, seq_len, generator=generator) < 8 / seq_len
    starts_BT[0, :2] = True  # a document of one token
    starts_BT[-1] = False
    return rows_BT.masked_fill_(starts_BT, BOS)


def outputs_and_gradients(
    model: LlamaForCausalLM, rows_BT: torch.Tensor, choice: AttentionChoice | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Final hidden states, (B, T, D), and all gradients of a fixed sum of them, flat.

    Args: choice None gives every document a call of its own.
    """
    device = next(model.parameters()).device
    model.zero_grad()
    if choice is None:
        hidden_BTD = _apart(model, rows_BT)
    else:
        kwargs = packed_kwargs(rows_BT, BOS, choice, device)
        hidden_BTD = model.model(
            input_ids=rows_BT.to(device), use_cache=False, **kwargs
        ).last_hidden_state
    generator = torch.Generator().manual_seed(1)
    signs = torch.randn(hidden_BTD.shape, generator=generator).to(hidden_BTD)
    (hidden_BTD * signs).float().sum().backward()
    grads = [p.grad.flatten().float() for p in model.model.layers.parameters()]
    return hidden_BTD.detach().float().cpu(), torch.cat(grads).cpu()


def _apart(model: LlamaForCausalLM, rows_BT: torch.Tensor) -> torch.Tensor:
    device = next(model.parameters()).device
    rows = []
    for row_T in rows_BT:
        starts = [0, *((row_T[1:] == BOS).nonzero().flatten() + 1).tolist(), len(row_T)]
        parts = [
            model.model(input_ids=row_T[None, a:b].to(device), use_cache=False)[0]
            for a, b in zip(starts, starts[1:], strict=False)
        ]
        rows.append(torch.cat(parts, dim=1))
    return torch.cat(rows)


def attention_agreement(
    device: str | torch.device = "cpu",
    *,
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16),
    num_rows: int = 3,
    seq_len: int = 300,
) -> dict[str, dict[str, float]]:
    """Largest difference of each back end from the reference over its largest number.

    Returns: {"sdpa.float32": {"forward": ..., "backward": ...}, ...}; eager in the
    same dtype is the yardstick of what rounding alone does.
    """
    rows_BT = packed_rows(num_rows, seq_len)
    exact = outputs_and_gradients(small_model("cpu", torch.float32), rows_BT, None)
    found = {}
    for dtype in dtypes:
        for name in present_attention(device, dtype):
            model = small_model(device, dtype)
            choice = AttentionChoice(name, "")
            use_attention(model, choice)
            got = outputs_and_gradients(model, rows_BT, choice)
            differences = [
                float((a - b).abs().max() / b.abs().max())
                for a, b in zip(got, exact, strict=True)
            ]
            key = f"{name}.{str(dtype).removeprefix('torch.')}"
            found[key] = dict(zip(("forward", "backward"), differences, strict=True))
    return found
