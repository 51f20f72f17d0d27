"""Log-probabilities of responses, recomputed by the forward pass that trains.

Only the hidden states of real response tokens pass the output layer, a chunk of rows at
a time: a float32 tensor of responses x tokens x vocabulary never exists. The backward
pass computes a chunk's logits again instead of storing them.
"""

import torch
from transformers import LlamaForCausalLM

from finllm_utils.rlhf.rollout import Rollout, position_ids

CHUNK_ROWS = 128  # 128 x 38,900 logits in float32 are 20 MB


class TokenLogprobs(torch.autograd.Function):
    """log softmax(hidden @ weight.T / temperature)[target] of each row, in chunks.

    Gradient of one row: (onehot - softmax) / temperature, times the incoming gradient.
    """

    @staticmethod
    def forward(ctx, hidden_ND, weight_VD, targets_N, temperature):
        """Float32 log-probabilities, (N,)."""
        weight = weight_VD.to(hidden_ND.dtype)
        logprobs_N = torch.empty(len(hidden_ND), device=hidden_ND.device)
        log_sums_N = torch.empty_like(logprobs_N)
        for rows in torch.arange(len(hidden_ND)).split(CHUNK_ROWS):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            logits = (hidden_ND[part] @ weight.T).float().div_(temperature)
            log_sums_N[part] = torch.logsumexp(logits, dim=-1)
            chosen = logits.gather(1, targets_N[part, None])[:, 0]
            logprobs_N[part] = chosen - log_sums_N[part]
        ctx.save_for_backward(hidden_ND, weight_VD, targets_N, log_sums_N)
        ctx.temperature = temperature
        return logprobs_N

    @staticmethod
    def backward(ctx, grad_N):
        """Gradients of hidden states and weight."""
        hidden_ND, weight_VD, targets_N, log_sums_N = ctx.saved_tensors
        weight = weight_VD.to(hidden_ND.dtype)
        grad_hidden_ND = torch.empty_like(hidden_ND)
        grad_weight_VD = (
            torch.zeros_like(weight_VD) if ctx.needs_input_grad[1] else None
        )
        scaled_N = grad_N / ctx.temperature
        for rows in torch.arange(len(hidden_ND)).split(CHUNK_ROWS):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            logits = (hidden_ND[part] @ weight.T).float().div_(ctx.temperature)
            grad = (
                logits.sub_(log_sums_N[part, None]).exp_().mul_(-scaled_N[part, None])
            )
            grad.scatter_add_(1, targets_N[part, None], scaled_N[part, None])
            grad = grad.to(hidden_ND.dtype)
            grad_hidden_ND[part] = grad @ weight
            if grad_weight_VD is not None:
                grad_weight_VD += (grad.T @ hidden_ND[part]).to(weight_VD.dtype)
        return grad_hidden_ND, grad_weight_VD, None, None


def response_logprobs(
    policy: LlamaForCausalLM,
    rollout: Rollout,
    *,
    temperature: float,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """log p of each response token given all before it, (B, T); 0 outside the mask.

    Args: temperature divides the logits, as when sampling; dtype bfloat16 runs the
    matrices in autocast, the softmax stays float32.
    """
    hidden_ND, targets_N = _hidden_and_targets(policy, rollout, dtype)
    logprobs_N = TokenLogprobs.apply(
        hidden_ND, policy.lm_head.weight, targets_N, temperature
    )
    return scatter_tokens(logprobs_N, rollout.response_mask_BT)


@torch.no_grad()
def logprobs_and_entropy(
    policy: LlamaForCausalLM,
    rollout: Rollout,
    *,
    temperature: float,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, float]:
    """As ``response_logprobs`` without gradients, and the entropy in nats a token."""
    hidden_ND, targets_N = _hidden_and_targets(policy, rollout, dtype)
    weight, parts, entropy = policy.lm_head.weight.to(dtype), [], 0.0
    for hidden, targets in zip(
        hidden_ND.split(CHUNK_ROWS), targets_N.split(CHUNK_ROWS), strict=True
    ):
        logits = (hidden @ weight.T).float().div_(temperature)
        log_sums = torch.logsumexp(logits, dim=-1)
        parts.append(logits.gather(1, targets[:, None])[:, 0] - log_sums)
        logs = logits.sub_(log_sums[:, None])
        entropy -= float((logs.exp() * logs).sum())
    logprobs_BT = scatter_tokens(torch.cat(parts), rollout.response_mask_BT)
    return logprobs_BT, entropy / max(1, len(targets_N))


def response_hidden(
    decoder: torch.nn.Module, rollout: Rollout, dtype: torch.dtype
) -> torch.Tensor:
    """Hidden states that predict each response token, (B, T, D): a column earlier."""
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
    return hidden_BTD[mask_BT].to(dtype), rollout.responses_BT[mask_BT]


def _autocast(device_type: str, dtype: torch.dtype) -> torch.autocast:
    enabled = dtype == torch.bfloat16
    return torch.autocast(device_type, dtype=torch.bfloat16, enabled=enabled)
