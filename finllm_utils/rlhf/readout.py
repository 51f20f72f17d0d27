"""Where a reward model's score is read: at the last token, or over the whole answer.

At the last token ("eos") the model itself must gather what the answer is worth there:
the usual way, and what a large model does well. Over the answer's tokens ("tokens")
every token is scored and the mean counts, so every token's weights get a gradient: a
small model learns which words right answers use, and a critic that starts from it knows
something at each token. XuanYuan's report kept a token-level model for that reason.
Differs: there each token's scores are compared, here their means are.
"""

import torch
from transformers import LlamaForSequenceClassification, PreTrainedTokenizerBase
from transformers.modeling_outputs import SequenceClassifierOutputWithPast

READOUTS = ("eos", "tokens")


def answer_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id of the special token with which the chat template opens an answer.

    Raises: ValueError when the template opens it with plain text: no place in a
    sequence of ids would then surely be where the answer begins.
    """
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "?"}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
    )
    added = tokenizer.added_tokens_decoder
    if ids[-1] not in added:
        raise ValueError(
            "reward.readout='tokens' needs a chat template that opens an answer with a "
            f"token of its own, this one ends in {tokenizer.decode(ids[-1:])!r}; use "
            "the tokenizer of 02_vocab_expansion, or reward.readout='eos'"
        )
    return ids[-1]


def answer_mask(
    ids_BT: torch.Tensor, real_BT: torch.Tensor, answer_id: int
) -> torch.Tensor:
    """True at the tokens behind the first ``answer_id`` that are no padding, (B, T).

    The first, since a policy may say the token itself: what it said before must count.
    Args: real_BT is 1 or True where a token is no padding.
    Raises: ValueError for a row without an answer.
    """
    opened_BT = (ids_BT == answer_id).cumsum(1)
    is_opener_BT = (ids_BT == answer_id) & (opened_BT == 1)
    mask_BT = (opened_BT > 0) & ~is_opener_BT & real_BT.bool()
    if not bool(mask_BT.any(1).all()):
        row = int((~mask_BT.any(1)).nonzero()[0])
        raise ValueError(
            f"sequence {row} of the batch has no token behind <answer> ({answer_id}): "
            "give prompt and answer in the model's chat template"
        )
    return mask_BT


def read_scores(
    model: LlamaForSequenceClassification,
    hidden_BTD: torch.Tensor,
    ids_BT: torch.Tensor,
    real_BT: torch.Tensor,
) -> torch.Tensor:
    """One score a row, (B,) float32, from the last layer; padding on the right."""
    if getattr(model.config, "readout", "eos") == "eos":
        last_B = real_BT.long().sum(1) - 1
        rows = torch.arange(len(last_B), device=hidden_BTD.device)
        return model.score(hidden_BTD[rows, last_B].float())[:, 0]
    mask_BT = answer_mask(ids_BT, real_BT, model.config.answer_token_id)
    scores_BT = model.score(hidden_BTD.float())[..., 0]
    return (scores_BT * mask_BT).sum(1) / mask_BT.sum(1)


def running_scores(
    model: LlamaForSequenceClassification, hidden_BTD: torch.Tensor
) -> torch.Tensor:
    """The score as far as it is known at each token, (B, T) float32: a critic's start.

    Args: hidden_BTD are the last layer's states from one column on. A critic gives
    those before each response token, so the first is the opener's, which
    ``read_scores`` leaves out. Sentence level: the score at each token. Token level:
    the mean so far, since one token's score swings far more than the mean of all.
    """
    scores_BT = model.score(hidden_BTD.float())[..., 0]
    if getattr(model.config, "readout", "eos") == "eos":
        return scores_BT
    counts_T = torch.arange(1, scores_BT.shape[1] + 1, device=scores_BT.device)
    return scores_BT.cumsum(1) / counts_T


class TokenRewardModel(LlamaForSequenceClassification):
    """A reward model whose score is the mean over the tokens of the answer."""

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        **kwargs: object,
    ) -> SequenceClassifierOutputWithPast:
        """``logits`` (B, 1), as trl's ``RewardTrainer`` reads them."""
        hidden_BTD = self.model(
            input_ids, attention_mask=attention_mask, use_cache=False
        ).last_hidden_state
        scores_B = read_scores(self, hidden_BTD, input_ids, attention_mask)
        return SequenceClassifierOutputWithPast(logits=scores_B[:, None])
