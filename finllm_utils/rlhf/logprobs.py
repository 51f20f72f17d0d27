"""Log-probabilities of responses, recomputed by the forward pass that trains.

Only the hidden states of real response tokens pass the output layer, a chunk of rows at
a time: a float32 tensor of responses x tokens x vocabulary never exists. Under gradients
a chunk's logits are computed again in the backward pass instead of being stored.
"""

import torch
from torch.utils.checkpoint import checkpoint
from transformers import LlamaForCausalLM

from finllm_utils.rlhf.rollout import Rollout, position_ids

CHUNK_ROWS = 512  # 512 x 38,900 logits in float32 are 80 MB


def response_logprobs(
    policy: LlamaForCausalLM,
    rollout: Rollout,
    *,
    temperature: float,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """log p of each response token given all before it, (B, T) float32; 0 outside the mask.

    Args: temperature divides the logits, as when sampling; dtype bfloat16 runs the
    matrices in autocast, the softmax stays float32.
    """
    hidden_ND, targets_N = _hidden_and_targets(policy, rollout, dtype)
    with _autocast(policy.device.type, dtype):
        parts = [
            _run(_chunk_logprobs, hidden, policy.lm_head, targets, temperature)
            for hidden, targets in _chunks(hidden_ND, targets_N)
        ]
    return scatter_tokens(torch.cat(parts), rollout.response_mask_BT)


@torch.no_grad()
def logprobs_and_entropy(
    policy: LlamaForCausalLM,
    rollout: Rollout,
    *,
    temperature: float,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, float]:
    """As ``response_logprobs`` without gradients, and the mean entropy in nats a token."""
    hidden_ND, targets_N = _hidden_and_targets(policy, rollout, dtype)
    parts, entropy = [], 0.0
    with _autocast(policy.device.type, dtype):
        for hidden, targets in _chunks(hidden_ND, targets_N):
            logits = policy.lm_head(hidden).float() / temperature
            logs = torch.log_softmax(logits, dim=-1)
            parts.append(logs.gather(1, targets[:, None])[:, 0])
            entropy -= float((logs.exp() * logs).sum())
    logprobs_BT = scatter_tokens(torch.cat(parts), rollout.response_mask_BT)
    return logprobs_BT, entropy / max(1, len(targets_N))


def response_hidden(
    decoder: torch.nn.Module, rollout: Rollout, dtype: torch.dtype
) -> torch.Tensor:
    """Hidden states that predict each response column, (B, T, D): one column earlier."""
    with _autocast(rollout.ids_BL.device.type, dtype):
        hidden_BLD = decoder(
            input_ids=rollout.ids_BL,
            attention_mask=rollout.attention_mask_BL,
            position_ids=position_ids(rollout.attention_mask_BL),
            use_cache=False,
        ).last_hidden_state
    return hidden_BLD[:, rollout.prompt_width - 1 : -1]


def scatter_tokens(values_N: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Values of the real tokens put back in their places, zero elsewhere."""
    empty_BT = torch.zeros(mask_BT.shape, dtype=values_N.dtype, device=values_N.device)
    return empty_BT.masked_scatter(mask_BT.bool(), values_N)


def _hidden_and_targets(
    policy: LlamaForCausalLM, rollout: Rollout, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    mask_BT = rollout.response_mask_BT.bool()
    hidden_BTD = response_hidden(policy.model, rollout, dtype)
    return hidden_BTD[mask_BT], rollout.responses_BT[mask_BT]


def _chunk_logprobs(
    hidden: torch.Tensor, head: torch.nn.Linear, targets: torch.Tensor, temperature: float
) -> torch.Tensor:
    logits = head(hidden).float() / temperature
    return logits.gather(1, targets[:, None])[:, 0] - torch.logsumexp(logits, dim=-1)


def _run(function, *args) -> torch.Tensor:
    if torch.is_grad_enabled():
        return checkpoint(function, *args, use_reentrant=False)
    return function(*args)


def _chunks(hidden_ND: torch.Tensor, targets_N: torch.Tensor):
    return zip(hidden_ND.split(CHUNK_ROWS), targets_N.split(CHUNK_ROWS), strict=True)


def _autocast(device_type: str, dtype: torch.dtype) -> torch.autocast:
    enabled = dtype == torch.bfloat16
    return torch.autocast(device_type, dtype=torch.bfloat16, enabled=enabled)
