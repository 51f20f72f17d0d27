"""Log-probabilities of responses, recomputed by the forward pass that trains.

Only the hidden states of real response tokens pass the output layer, a tile of the
vocabulary at a time: a tensor of responses x tokens x vocabulary never exists. One pass
over the tiles gives the log-probability, the entropy and the gradient of both.
"""

import torch
from transformers import LlamaForCausalLM

from finllm_utils.rlhf.rollout import Rollout, position_ids

TILE_ROWS = 1_024  # vocabulary rows a tile: 1,024 x 2,048 tokens in bfloat16 is 4 MB


class TokenLogprobs(torch.autograd.Function):
    """log softmax(hidden @ weight.T / temperature)[target] and entropy of each row.

    With p the softmax and E[w] = sum p w: d logp / d hidden = (w_target - E[w]) /
    temperature, and entropy = log sum exp - E[w] . hidden / temperature. Logits are
    shifted by the target's, which a sampled token keeps near the largest. The entropy
    carries no gradient: it is watched, not trained.
    """

    @staticmethod
    def forward(ctx, hidden_ND, weight_VD, targets_N, temperature):
        """Log-probabilities and entropies, both (N,), float32 or wider."""
        wide = torch.promote_types(hidden_ND.dtype, torch.float32)
        target_rows_ND = weight_VD[targets_N].to(wide)
        shift_N = (hidden_ND.to(wide) * target_rows_ND).sum(1) / temperature
        total_N = torch.zeros_like(shift_N)
        mean_DN = torch.zeros_like(target_rows_ND.T)
        for _, rows_VD, exp_VN in _tiles(hidden_ND, weight_VD, shift_N, temperature):
            total_N += exp_VN.sum(0, dtype=wide)
            mean_DN += rows_VD.T @ exp_VN
        mean_ND = mean_DN.T / total_N[:, None]
        mean_logit_N = (hidden_ND.to(wide) * mean_ND).sum(1) / temperature
        entropy_N = total_N.log() + shift_N - mean_logit_N
        slope_ND = ((target_rows_ND - mean_ND) / temperature).to(hidden_ND.dtype)
        ctx.save_for_backward(
            slope_ND, hidden_ND, weight_VD, targets_N, shift_N, total_N
        )
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy_N)
        return -total_N.log(), entropy_N

    @staticmethod
    def backward(ctx, grad_N, _):
        """Gradients of hidden states and, where it trains, of the weight."""
        slope_ND, hidden_ND, weight_VD, targets_N, shift_N, total_N = ctx.saved_tensors
        grad_hidden_ND = (slope_ND * grad_N[:, None]).to(hidden_ND.dtype)
        if not ctx.needs_input_grad[1]:
            return grad_hidden_ND, None, None, None
        scaled_ND = hidden_ND * (grad_N / ctx.temperature)[:, None]
        shares_ND = (scaled_ND / total_N[:, None]).to(hidden_ND.dtype)
        grad_weight_VD = torch.empty_like(weight_VD)
        tiles = _tiles(hidden_ND, weight_VD, shift_N, ctx.temperature)
        for rows, _, exp_VN in tiles:
            grad_weight_VD[rows] = (-(exp_VN @ shares_ND)).to(weight_VD.dtype)
        grad_weight_VD.index_add_(0, targets_N, scaled_ND.to(weight_VD.dtype))
        return grad_hidden_ND, grad_weight_VD, None, None


def _tiles(hidden_ND, weight_VD, shift_N, temperature):
    """Yields rows, their weights and exp(logit - shift) of each vocabulary tile."""
    scaled_DN = (hidden_ND / temperature).T.contiguous()
    weight_VD, shift_N = weight_VD.to(hidden_ND.dtype), shift_N.to(hidden_ND.dtype)
    for begin in range(0, len(weight_VD), TILE_ROWS):
        rows = slice(begin, begin + TILE_ROWS)
        yield rows, weight_VD[rows], (weight_VD[rows] @ scaled_DN).sub_(shift_N).exp_()


def response_logprobs(
    policy: LlamaForCausalLM,
    rollout: Rollout,
    *,
    temperature: float,
    dtype: torch.dtype = torch.float32,
    logits_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """log p of each response token given all before it, (B, T); 0 outside the mask.

    Args: temperature divides the logits, as when sampling; dtype bfloat16 runs the
    matrices in autocast, while sums over the vocabulary and what is returned are
    float32; logits_dtype is the output layer's, ``dtype`` when not given.
    """
    logprobs_N, _ = _token_logprobs(
        policy, rollout, temperature, dtype, logits_dtype or dtype
    )
    return scatter_tokens(logprobs_N, rollout.response_mask_BT)


@torch.no_grad()
def logprobs_and_entropy(
    policy: LlamaForCausalLM,
    rollout: Rollout,
    *,
    temperature: float,
    dtype: torch.dtype = torch.float32,
    logits_dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, float]:
    """As ``response_logprobs`` without gradients, and the entropy in nats a token."""
    logprobs_N, entropy_N = _token_logprobs(
        policy, rollout, temperature, dtype, logits_dtype or dtype
    )
    logprobs_BT = scatter_tokens(logprobs_N, rollout.response_mask_BT)
    return logprobs_BT, entropy_N.mean().item()


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


class TokenScorer(torch.nn.Module):
    """A policy as the module whose one forward pass uses all of its weights.

    That is what sharding needs, which gathers weights around a forward pass: without it
    the output layer's would be read as a shard. It stands wherever a policy may.
    """

    def __init__(self, policy: LlamaForCausalLM):
        """Holds the policy, whose weights it is."""
        super().__init__()
        self.policy = policy

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return self.policy.device

    def forward(
        self, rollout: Rollout, *how: float | torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities and entropies of the real response tokens, both (N,)."""
        return _token_logprobs(self.policy, rollout, *how)


def _token_logprobs(
    policy: LlamaForCausalLM | TokenScorer,
    rollout: Rollout,
    temperature: float,
    dtype: torch.dtype,
    logits_dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(policy, TokenScorer):
        return policy(rollout, temperature, dtype, logits_dtype)
    mask_BT = rollout.response_mask_BT.bool()
    hidden_ND = response_hidden(policy.model, rollout, dtype)[mask_BT].to(logits_dtype)
    return TokenLogprobs.apply(
        hidden_ND, policy.lm_head.weight, rollout.responses_BT[mask_BT], temperature
    )


def _autocast(device_type: str, dtype: torch.dtype) -> torch.autocast:
    enabled = dtype == torch.bfloat16
    return torch.autocast(device_type, dtype=torch.bfloat16, enabled=enabled)
