"""The reward model: a language model with one output, trained on preference pairs.

Training is trl's ``RewardTrainer`` (pairwise logistic loss with centring), for which
``reward_training`` makes what it takes; ours are encoding, scoring and checks.
Sequences are padded on the right; where the score is read, ``readout`` says. Notebook
07 and ``ppo`` call this.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    LlamaForSequenceClassification,
    PreTrainedTokenizerBase,
    PrinterCallback,
)
from trl import RewardTrainer

from finllm_utils.config import RewardConfig
from finllm_utils.model.load import load_tokenizer
from finllm_utils.records import PreferencePair
from finllm_utils.rlhf.guards import require_distinct_pad
from finllm_utils.rlhf.preference_formats import require_two_sides
from finllm_utils.rlhf.readout import TokenRewardModel, answer_token, read_scores
from finllm_utils.rlhf.reward_training import (
    optimizer,
    trainable_part,
    trainer_settings,
    training_rows,
)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, question: str) -> list[int]:
    """Token ids of a question in the chat template, up to the assistant's turn."""
    messages = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def encode_answer(tokenizer: PreTrainedTokenizerBase, answer: str) -> list[int]:
    """Token ids of an assistant's turn, EOS at its end."""
    ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    return ids + [tokenizer.eos_token_id]


def encode_pair(
    tokenizer: PreTrainedTokenizerBase,
    pair: PreferencePair,
    max_seq_len: int,
    where: str,
) -> tuple[list[int], list[int]]:
    """(chosen, rejected) token ids of a pair, which ``where`` names in errors.

    Raises: ValueError for sides that agree, and for a pair longer than ``max_seq_len``:
    cutting here would cut off EOS, where the score is read.
    """
    require_two_sides(pair, where)
    prompt = encode_prompt(tokenizer, pair.prompt)
    if len(prompt) + 2 > max_seq_len:
        raise ValueError(
            f"{where}: the question takes {len(prompt)} tokens in the chat template, "
            f"which leaves no room for an answer in reward.max_seq_len={max_seq_len}; "
            "shorten the question, delete the pair or raise the setting"
        )
    chosen, rejected = (
        prompt + encode_answer(tokenizer, a) for a in (pair.chosen, pair.rejected)
    )
    if (longest := max(len(chosen), len(rejected))) > max_seq_len:
        raise ValueError(
            f"{where} has {longest} tokens, reward.max_seq_len is {max_seq_len}: raise "
            "it, shorten the answer or lower reward.max_answer_chars, which cuts those "
            "of the corpus"
        )
    return chosen, rejected


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    max_seq_len: int,
) -> list[tuple[list[int], list[int]]]:
    """(chosen, rejected) token ids of each pair; errors as in ``encode_pair``."""
    return [encode_pair(tokenizer, p, max_seq_len, f"pair {p.id}") for p in pairs]


def start_reward_model(
    folder: Path | str,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    readout: str = "eos",
) -> LlamaForSequenceClassification:
    """The language model in ``folder`` with a new one-number head, N(0, 1/sqrt(D + 1)).

    Source: arXiv 2009.01325, appendix B.1 (head initialisation).
    """
    require_distinct_pad(tokenizer.eos_token_id, tokenizer.pad_token_id)
    if readout == "tokens":
        model = _load(folder, TokenRewardModel)
        model.config.readout = readout
        model.config.answer_token_id = answer_token(tokenizer)
    else:
        model = load_reward_model(folder)
    deviation = (model.config.hidden_size + 1) ** -0.5
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.score.weight.normal_(0.0, deviation, generator=noise)
    model.config.pad_token_id = tokenizer.pad_token_id
    return model


def load_reward_model(folder: Path | str) -> LlamaForSequenceClassification:
    """A model with one output from ``folder``, in float32 and eval mode."""
    return _load(folder)


def _load(
    folder: Path | str, kind: type | None = None
) -> LlamaForSequenceClassification:
    if not (Path(folder) / "config.json").is_file():
        raise ValueError(
            f"{folder}: no model here; run notebooks/07_reward_model.ipynb, or give "
            "the folder of a model in Hugging Face format"
        )
    if kind is None:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
        token_level = getattr(config, "readout", "eos") == "tokens"
        kind = TokenRewardModel if token_level else AutoModelForSequenceClassification
    model = kind.from_pretrained(
        str(folder), num_labels=1, dtype=torch.float32, local_files_only=True
    )
    model.config.use_cache = False
    return model.eval()


def train_reward_model(
    model: LlamaForSequenceClassification,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[tuple[list[int], list[int]]],
    cfg: RewardConfig,
    *,
    seed: int,
    dtype: str = "float32",
    margins: Sequence[float] | None = None,
) -> list[dict[str, float]]:
    """Trains ``model`` in place on encoded pairs; the log lines of the trainer.

    Args: dtype bfloat16 trains in autocast, with float32 weights and optimiser; margins
    are the pairs' own, and count only with ``cfg.use_margins``. With ``cfg.trainable``
    "lora" the model has adapters while it learns; afterwards they are merged.
    Each line: step, loss, accuracy, margin and mean_reward over the last steps.
    Raises: ValueError when margins are wanted and missing, or not one a pair, and for a
    context shorter than ``cfg.max_seq_len``.
    """
    _require_context(model, cfg)
    rows = Dataset.from_list(training_rows(encoded, cfg, margins, seed))
    with (
        tempfile.TemporaryDirectory() as scratch,
        trainable_part(model, cfg.trainable, cfg.lora_rank, seed) as learner,
    ):
        trainer = RewardTrainer(
            model=learner,
            args=trainer_settings(cfg, scratch, seed, dtype, model.device.type),
            train_dataset=rows,
            processing_class=tokenizer,
            optimizers=(optimizer(learner, cfg), None),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    model.eval()
    keep = ("step", "loss", "accuracy", "margin", "mean_reward")
    return [
        {key: line[key] for key in keep}
        for line in trainer.state.log_history
        if "loss" in line
    ]


def _require_context(model: LlamaForSequenceClassification, cfg: RewardConfig) -> None:
    if cfg.max_seq_len > (context := model.config.max_position_embeddings):
        raise ValueError(
            f"reward.max_seq_len={cfg.max_seq_len} is longer than the model's context "
            f"of {context} tokens, where it has learnt no positions; lower the setting"
        )


@torch.no_grad()
def score_sequences(
    model: LlamaForSequenceClassification,
    sequences: Sequence[Sequence[int]],
    *,
    batch_tokens: int,
    dtype: torch.dtype = torch.float32,
    close_with: int | None = None,
) -> np.ndarray:
    """The raw score of each token sequence; float64, in order.

    Args: close_with, the id of EOS, is put behind a sequence that lacks it (a response
    that ran into the length limit): the model has only ever seen answers that end.
    Padding on the right needs no mask: causal attention never looks to the right.
    Raises: ValueError naming the first sequence whose score is NaN or infinite.
    """
    if close_with is not None:
        sequences = [s if s[-1] == close_with else [*s, close_with] for s in sequences]
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    scores = np.zeros(len(sequences))
    begin = 0
    while begin < len(order):
        end = begin + 1
        while (
            end < len(order)
            and (end + 1 - begin) * len(sequences[order[end]]) <= batch_tokens
        ):
            end += 1
        rows = order[begin:end]
        scores[rows] = _score_batch(model, [sequences[i] for i in rows], dtype)
        begin = end
    _require_finite(scores, sequences)
    return scores


def _require_finite(scores: np.ndarray, sequences: Sequence[Sequence[int]]) -> None:
    """NaN would pass through means and comparisons without a word."""
    if not (finite := np.isfinite(scores)).all():
        first = int(np.flatnonzero(~finite)[0])
        raise ValueError(
            f"the score of sequence {first} ({len(sequences[first])} tokens) is "
            f"{scores[first]}, {int((~finite).sum())} of {len(scores)} are not finite: "
            "the weights diverged, or overflow in this dtype; score in float32, or "
            "train again with a lower reward.learning_rate"
        )


def _score_batch(
    model: LlamaForSequenceClassification,
    sequences: list[Sequence[int]],
    dtype: torch.dtype,
) -> np.ndarray:
    width = max(map(len, sequences))
    ids_BT = torch.full((len(sequences), width), model.config.pad_token_id)
    real_BT = torch.zeros(len(sequences), width, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        ids_BT[row, : len(sequence)] = torch.as_tensor(sequence)
        real_BT[row, : len(sequence)] = True
    ids_BT, real_BT = ids_BT.to(model.device), real_BT.to(model.device)
    enabled = dtype == torch.bfloat16
    with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=enabled):
        hidden_BTD = model.model(input_ids=ids_BT, use_cache=False).last_hidden_state
    return read_scores(model, hidden_BTD, ids_BT, real_BT).double().cpu().numpy()


def pair_margins(
    model: LlamaForSequenceClassification,
    encoded: Sequence[tuple[list[int], list[int]]],
    *,
    batch_tokens: int,
    dtype: torch.dtype = torch.float32,
) -> np.ndarray:
    """Score of the chosen minus score of the rejected answer, a pair."""
    flat = [ids for pair in encoded for ids in pair]
    scores = score_sequences(model, flat, batch_tokens=batch_tokens, dtype=dtype)
    return scores[0::2] - scores[1::2]


def pairwise_losses(
    chosen: np.ndarray,
    rejected: np.ndarray,
    center_coef: float,
    margins: np.ndarray | float = 0.0,
) -> np.ndarray:
    """The loss of each pair, as trl's ``RewardTrainer`` computes it before the mean.

    -log sigmoid(chosen - rejected - margin) + center_coef (chosen + rejected)^2.
    Source: arXiv 2009.01325, section 3.2; margin: arXiv 2307.09288, equation 2;
    centring: arXiv 2312.09244, equation 2.
    """
    chosen, rejected, margins = map(np.asarray, (chosen, rejected, margins))
    lost = np.logaddexp(0, rejected - chosen + margins)
    return lost + center_coef * (chosen + rejected) ** 2


def save_reward_model(
    model: LlamaForSequenceClassification,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path | str,
) -> None:
    """Writes the model and its tokenizer in Hugging Face format."""
    for name, tensor in model.named_parameters():
        if not torch.isfinite(tensor).all():
            raise ValueError(
                f"{name} holds NaN or infinity: training diverged; lower "
                "reward.learning_rate and run 07 again"
            )
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def require_same_tokenizer(
    folder: Path | str, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Raises ValueError unless ``folder``'s tokenizer gives every token the same id.

    A policy's ids go straight into the reward model: with another vocabulary it would
    score other words, and nothing would look wrong.
    """
    theirs, ours = load_tokenizer(folder).get_vocab(), tokenizer.get_vocab()
    if theirs == ours:
        return
    token = min(t for t in theirs | ours if theirs.get(t) != ours.get(t))
    raise ValueError(
        f"the reward model in {folder} was made for another tokenizer than that of the "
        f"policy, {tokenizer.name_or_path}: {len(theirs):,} and {len(ours):,} tokens, "
        f"{token!r} has the ids {theirs.get(token)} and {ours.get(token)}; run "
        "notebooks/07_reward_model.ipynb on the chat model that the policy starts from"
    )


def calibration(margins: Sequence[float], num_bins: int = 5) -> list[dict[str, float]]:
    """How often the model is right where it is this sure, in bins of equal size.

    The predicted chance is sigmoid(|margin|), from 0.5 up. Returns predicted, actual
    and count of each bin, least sure first.
    """
    margins = np.asarray(margins, dtype=np.float64)
    sure = 1 / (1 + np.exp(-np.abs(margins)))
    order = np.argsort(sure, kind="stable")
    return [
        {
            "predicted": float(sure[part].mean()),
            "actual": float((margins[part] > 0).mean()),
            "count": len(part),
        }
        for part in np.array_split(order, num_bins)
        if len(part)
    ]
