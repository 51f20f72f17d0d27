"""The reward model: a language model with one output, trained on preference pairs.

Training is trl's ``RewardTrainer`` (pairwise logistic loss with centring); what is ours
is the encoding, the scoring and the checks. Sequences are padded on the right; where
the score is read, ``readout`` says. Notebook 07 and ``ppo`` call this.
"""

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    LlamaForSequenceClassification,
    PreTrainedTokenizerBase,
    PrinterCallback,
)

from finllm_utils.config import RewardConfig
from finllm_utils.records import PreferencePair
from finllm_utils.rlhf.guards import require_distinct_pad
from finllm_utils.rlhf.readout import TokenRewardModel, answer_token, read_scores


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


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    max_seq_len: int,
) -> list[tuple[list[int], list[int]]]:
    """(chosen, rejected) token ids of each pair.

    Raises: ValueError for a pair longer than ``max_seq_len``: cutting here would cut
    off EOS, where the score is read.
    """
    encoded = []
    for pair in pairs:
        prompt = encode_prompt(tokenizer, pair.prompt)
        both = tuple(
            prompt + encode_answer(tokenizer, a) for a in (pair.chosen, pair.rejected)
        )
        if (longest := max(map(len, both))) > max_seq_len:
            raise ValueError(
                f"pair {pair.id} has {longest} tokens, reward.max_seq_len is "
                f"{max_seq_len}: raise it or lower reward.max_answer_chars"
            )
        encoded.append(both)
    return encoded


def start_reward_model(
    folder: Path | str,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    query_scale: float = 1.0,
    readout: str = "eos",
) -> LlamaForSequenceClassification:
    """The language model in ``folder`` with a new one-number head, N(0, 1/sqrt(D + 1)).

    Args: query_scale multiplies the query weights of the upper half of the layers. Far
    below 1 it spreads attention evenly, so that the score at EOS starts as a mean over
    the answer: a language model needs nothing of the text before EOS and looks away.
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
        layers = model.model.layers
        for layer in layers[len(layers) // 2 :]:
            layer.self_attn.q_proj.weight.mul_(query_scale)
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
) -> list[dict[str, float]]:
    """Trains ``model`` in place on encoded pairs; the log lines of the trainer.

    Args: dtype bfloat16 trains in autocast, with float32 weights and optimiser.
    Each line: step, loss, accuracy, margin and mean_reward over the last steps.
    """
    from datasets import Dataset  # where models only score, neither is needed
    from trl import RewardTrainer

    encoded = _like_lengths_together(encoded, cfg.batch_size, seed)
    rows = Dataset.from_dict(
        {"chosen_ids": [c for c, _ in encoded], "rejected_ids": [r for _, r in encoded]}
    )
    with tempfile.TemporaryDirectory() as scratch:
        trainer = RewardTrainer(
            model=model,
            args=_trainer_settings(cfg, scratch, seed, dtype, model.device.type),
            train_dataset=rows,
            processing_class=tokenizer,
            optimizers=(_optimizer(model, cfg), None),
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


def _optimizer(
    model: LlamaForSequenceClassification, cfg: RewardConfig
) -> torch.optim.AdamW:
    """AdamW with the embedding's rate times ``cfg.embedding_rate``.

    An embedding row learns only in the steps that hold its token: few, in one pass.
    """
    rows = model.get_input_embeddings().weight
    rest = [p for p in model.parameters() if p is not rows and p.requires_grad]
    groups = [
        {"params": rest, "lr": cfg.learning_rate},
        {"params": [rows], "lr": cfg.learning_rate * cfg.embedding_rate},
    ]
    return torch.optim.AdamW(groups, weight_decay=cfg.weight_decay)


def _like_lengths_together(
    encoded: Sequence[tuple[list[int], list[int]]], batch_size: int, seed: int
) -> list[tuple[list[int], list[int]]]:
    """Pairs in random order, but batches of like length: less padding.

    Sorts by length within 16 batches at a time, then shuffles the whole batches.
    """
    order = random.Random(seed)
    shuffled = order.sample(list(encoded), len(encoded))
    batches = []
    for begin in range(0, len(shuffled), 16 * batch_size):
        part = shuffled[begin : begin + 16 * batch_size]
        part.sort(key=lambda pair: max(map(len, pair)))
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    short = batches.pop() if len(batches[-1]) < batch_size else []
    order.shuffle(batches)
    return [pair for batch in batches for pair in batch] + short


def _trainer_settings(
    cfg: RewardConfig, scratch: str, seed: int, dtype: str, device_type: str
) -> "trl.RewardConfig":  # noqa: F821  (trl is imported where it trains)
    """trl's settings; its defaults (bf16, checkpointing, lr 1e-4) are overridden."""
    from trl import RewardConfig as TrlRewardConfig

    return TrlRewardConfig(
        output_dir=scratch,
        learning_rate=cfg.learning_rate,
        num_train_epochs=cfg.num_epochs,
        per_device_train_batch_size=cfg.batch_size,
        center_rewards_coefficient=cfg.center_coef,
        lr_scheduler_type="linear",
        warmup_steps=cfg.warmup_share,
        weight_decay=cfg.weight_decay,
        max_grad_norm=cfg.max_grad_norm,
        max_length=cfg.max_seq_len,
        train_sampling_strategy="sequential",  # the rows are shuffled already
        disable_dropout=True,
        gradient_checkpointing=False,
        bf16=dtype == "bfloat16",
        use_cpu=device_type == "cpu",
        dataloader_pin_memory=False,
        logging_steps=10,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=seed,
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
    return scores


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
    chosen: np.ndarray, rejected: np.ndarray, center_coef: float
) -> np.ndarray:
    """The loss of each pair, as trl's ``RewardTrainer`` computes it before the mean.

    -log sigmoid(chosen - rejected) + center_coef (chosen + rejected)^2.
    Source: arXiv 2009.01325, section 3.2; centring: arXiv 2312.09244, equation 2.
    """
    chosen, rejected = np.asarray(chosen), np.asarray(rejected)
    return np.logaddexp(0, rejected - chosen) + center_coef * (chosen + rejected) ** 2


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
