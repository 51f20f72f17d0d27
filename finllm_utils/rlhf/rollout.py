"""Responses sampled from the policy, with the masks that all of PPO relies on.

Prompts are padded on the left, so that every response starts in the same column.
Shapes: B responses, P prompt columns, T response columns, L = P + T.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache, LlamaForCausalLM


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """A batch of prompts with their responses."""

    ids_BL: torch.Tensor
    """Left-padded prompts, then responses; padding after the first EOS."""
    attention_mask_BL: torch.Tensor
    """1 on real tokens of prompt and response."""
    response_mask_BT: torch.Tensor
    """1 on response tokens up to and including the first EOS."""

    @property
    def prompt_width(self) -> int:
        """P, the columns before the first response token."""
        return self.ids_BL.shape[1] - self.response_mask_BT.shape[1]

    @property
    def responses_BT(self) -> torch.Tensor:
        """Token ids of the responses."""
        return self.ids_BL[:, self.prompt_width :]

    @property
    def lengths_B(self) -> torch.Tensor:
        """Real tokens of each response, EOS included."""
        return self.response_mask_BT.sum(1)

    def rows(self, index: torch.Tensor) -> "Rollout":
        """The rollout of some rows only."""
        return Rollout(
            ids_BL=self.ids_BL[index],
            attention_mask_BL=self.attention_mask_BL[index],
            response_mask_BT=self.response_mask_BT[index],
        )

    def to(self, device: torch.device | str) -> "Rollout":
        """The rollout on ``device``."""
        return Rollout(
            ids_BL=self.ids_BL.to(device),
            attention_mask_BL=self.attention_mask_BL.to(device),
            response_mask_BT=self.response_mask_BT.to(device),
        )

    def sequences(self) -> list[list[int]]:
        """Prompt and response of each row without padding, for the reward model."""
        rows = zip(self.ids_BL, self.attention_mask_BL.bool(), strict=True)
        return [ids[mask].tolist() for ids, mask in rows]

    def response_ids(self) -> list[list[int]]:
        """The response tokens of each row, EOS included."""
        rows = zip(self.responses_BT, self.response_mask_BT.bool(), strict=True)
        return [ids[mask].tolist() for ids, mask in rows]

    def ended_B(self, eos_id: int) -> torch.Tensor:
        """Whether each response reached EOS."""
        return ((self.responses_BT == eos_id) & self.response_mask_BT.bool()).any(1)


Sampler = Callable[..., Rollout]
"""Has the arguments of ``sample_rollout``, and samples from the policy it is given."""


def left_pad(
    sequences: Sequence[Sequence[int]], pad_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, (B, P), with padding on the left."""
    width = max(len(s) for s in sequences)
    ids_BP = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    mask_BP = torch.zeros_like(ids_BP)
    for row, sequence in enumerate(sequences):
        ids_BP[row, width - len(sequence) :] = torch.as_tensor(sequence)
        mask_BP[row, width - len(sequence) :] = 1
    return ids_BP, mask_BP


def position_ids(attention_mask_BL: torch.Tensor) -> torch.Tensor:
    """0, 1, 2 ... from each row's first real token on, as without padding."""
    return (attention_mask_BL.cumsum(1) - 1).clamp(min=0)


def mask_after_eos(responses_BT: torch.Tensor, eos_id: int) -> torch.Tensor:
    """1 up to and including the first EOS of each row, 0 after it.

    Example: with eos_id 2, [7, 2, 5, 2] gives [1, 1, 0, 0].
    """
    is_eos_BT = (responses_BT == eos_id).long()
    return (is_eos_BT.cumsum(1) - is_eos_BT == 0).long()


def join_rollout(
    prompt_ids_BP: torch.Tensor,
    prompt_mask_BP: torch.Tensor,
    responses_BT: torch.Tensor,
    *,
    eos_id: int,
    pad_id: int,
) -> Rollout:
    """A rollout of left-padded prompts and raw responses, cut after the first EOS."""
    response_mask_BT = mask_after_eos(responses_BT, eos_id)
    responses_BT = responses_BT.masked_fill(response_mask_BT == 0, pad_id)
    return Rollout(
        ids_BL=torch.cat([prompt_ids_BP, responses_BT], dim=1),
        attention_mask_BL=torch.cat([prompt_mask_BP, response_mask_BT], dim=1),
        response_mask_BT=response_mask_BT,
    )


@torch.no_grad()
def sample_rollout(
    policy: LlamaForCausalLM,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    eos_id: int,
    pad_id: int,
    seed: int,
) -> Rollout:
    """Samples one response a prompt from the policy's full distribution.

    No top-k, top-p or minimum length: they sample from another distribution than the
    one whose log-probabilities PPO uses, the main cause of negative KL. The global
    random state is neither used nor changed.
    Differs: ``model.generate`` gives the same tokens at temperature 0; ours draws from
    the cumulative distribution, ten times faster on a CPU than ``torch.multinomial``.
    """
    ids_BP, mask_BP = (t.to(policy.device) for t in left_pad(prompts, pad_id))
    noise = torch.Generator().manual_seed(seed)
    cache = DynamicCache(config=policy.config)
    tokens_B1, mask_BL, columns = ids_BP, mask_BP, []
    running_B = torch.ones(len(prompts), dtype=torch.bool, device=policy.device)
    for _ in range(max_new_tokens):
        logits_BV = policy(
            input_ids=tokens_B1,
            attention_mask=mask_BL,
            position_ids=position_ids(mask_BL)[:, -tokens_B1.shape[1] :],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        uniform_B = torch.rand(len(prompts), generator=noise).to(policy.device)
        next_B = sample_tokens(logits_BV.float() / temperature, uniform_B)
        columns.append(next_B)
        running_B &= next_B != eos_id
        if not running_B.any():
            break
        tokens_B1 = next_B[:, None]
        mask_BL = torch.cat([mask_BL, torch.ones_like(tokens_B1)], dim=1)
    return join_rollout(
        ids_BP, mask_BP, torch.stack(columns, dim=1), eos_id=eos_id, pad_id=pad_id
    )


def sample_tokens(logits_BV: torch.Tensor, uniform_B: torch.Tensor) -> torch.Tensor:
    """One token a row: the first whose cumulative probability exceeds the uniform draw.

    Example: probabilities [0.2, 0.5, 0.3] and the draw 0.6 give token 1.
    """
    cumulative_BV = torch.softmax(logits_BV, dim=-1).cumsum(-1)
    drawn_B1 = (uniform_B * cumulative_BV[:, -1])[:, None]  # the sum is 1 +- rounding
    tokens_B = torch.searchsorted(cumulative_BV, drawn_B1, right=True)[:, 0]
    return tokens_B.clamp(max=logits_BV.shape[1] - 1)
