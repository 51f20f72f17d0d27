"""Two-stage instruction tuning on trl's SFTTrainer: packed rows, options, resuming.

The rows come from ``sft`` with their own labels. A killed run goes on from its newest
checkpoint and ends in the same bits. Notebook 06 calls this.
"""

import dataclasses
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import SFTConfig as TrlConfig
from trl import SFTTrainer

from finllm_utils.config import RuntimeConfig, SFTConfig
from finllm_utils.files import read_json, write_json
from finllm_utils.model.load import save_model
from finllm_utils.runtime import resolve_device, resolve_dtype
from finllm_utils.train.adapters import (
    add_adapter,
    load_for_tuning,
    merge_adapter,
    save_adapter,
)
from finllm_utils.train.identity import weights_digest
from finllm_utils.train.sft import IGNORED, Row
from finllm_utils.train.tuning_rows import PackedRows, rows_digest

_IDENTITY, _SHARES, _STATE = "identity.json", "shares.json", "trainer_state.json"
NO_INFLUENCE = ("log_every", "eval_every", "save_every", "own_instructions")
"""Settings of ``sft`` that two runs with the same weights may differ in; what 05 alone
reads shows in the rows."""


def model_to_tune(
    folder: Path | str, cfg: SFTConfig, runtime: RuntimeConfig, seed: int
) -> PreTrainedModel | PeftModel:
    """The model in ``folder`` as ``cfg.method`` trains it, with its new adapters."""
    device = resolve_device(runtime.device)
    unpacked = resolve_dtype(runtime.dtype)
    model = load_for_tuning(folder, cfg.method, device=device, compute_dtype=unpacked)
    if cfg.method == "full":
        return model
    return add_adapter(
        model,
        rank=cfg.lora_rank,
        dropout=cfg.lora_dropout,
        train_embeddings=cfg.adapt_embeddings,
        seed=seed,
    )


def plain_model(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The model itself, its adapters at work, for whatever scores or generates."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def save_tuned(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    base: Path | str,
    cfg: SFTConfig,
    runtime: RuntimeConfig,
    folder: Path,
) -> None:
    """Writes a plain float32 model into ``folder``; adapters are merged, and kept.

    Args: base is the folder that ``model_to_tune`` read.
    """
    if cfg.method != "full":
        save_adapter(model, base, cfg.method, folder / "adapter")
        unpacked = resolve_dtype(runtime.dtype)
        model = merge_adapter(base, folder / "adapter", compute_dtype=unpacked)
    save_model(model, tokenizer, folder)


class AnswerTrainer(SFTTrainer):
    """SFTTrainer that projects only labelled positions onto the vocabulary.

    trl's fused head skips unlabelled positions where Triton runs and scores all of them
    elsewhere; on a CPU with a large vocabulary that is most of the step. Same loss.
    """

    def compute_loss(
        self, model, inputs, return_outputs=False, num_items_in_batch=None
    ):
        """Mean loss of labelled tokens; ``num_items_in_batch`` spans accumulation."""
        if inputs["input_ids"].is_cuda or return_outputs:
            return super().compute_loss(
                model, inputs, return_outputs, num_items_in_batch
            )
        labels = inputs["labels"][0, 1:]  # padding-free: one flattened row
        places = (labels != IGNORED).nonzero()[:, 0]
        inputs = {k: v for k, v in inputs.items() if k != "labels"}
        logits = model(**inputs, use_cache=False, logits_to_keep=places).logits
        nats = cross_entropy(logits[0].float(), labels[places], reduction="none")
        if self.args.loss_type == "dft":  # arXiv 2508.05629
            nats = nats * nats.detach().neg().exp()
        self._total_train_tokens += inputs["input_ids"].numel()
        count = places.numel() if num_items_in_batch is None else num_items_in_batch
        return nats.sum() / max(int(count), 1)


class RunLog(TrainerCallback):
    """Passes every log line of the trainer to ``log(step, **values)``."""

    def __init__(self, log: Callable[..., None], first_step: int = 0) -> None:
        self.log = log
        self.first_step = first_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Keeps loss, learning rate and gradient norm."""
        names = ("loss", "learning_rate", "grad_norm")
        kept = {name: float(logs[name]) for name in names if name in logs}
        if kept:
            self.log(self.first_step + state.global_step, **kept)


class EvalEvery(TrainerCallback):
    """Calls ``on_eval(step)`` before training, every ``steps`` steps and at the end."""

    def __init__(
        self, on_eval: Callable[[int], None], steps: int, first_step: int = 0
    ) -> None:
        self.on_eval = on_eval
        self.steps = steps
        self.first_step = first_step

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Step 0, or the step that a killed run goes on from."""
        self.on_eval(self.first_step + state.global_step)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Every ``steps`` steps, and after the last."""
        if state.global_step % self.steps == 0 or state.global_step == state.max_steps:
            self.on_eval(self.first_step + state.global_step)


class ShareEveryEpoch(TrainerCallback):
    """Before each epoch but the first, the classes' shares follow their losses.

    What an epoch drew is on disk before it begins, so that a resumed run draws it again
    and does not measure half-trained weights.
    """

    def __init__(
        self, rows: PackedRows, measure: Callable[[], dict[str, float]], path: Path
    ) -> None:
        self.rows, self.measure, self.path = rows, measure, path
        self.known: dict[str, dict[str, float]] = {}
        if path.is_file():
            self.known = read_json(path)

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        """Draws the epoch's rows."""
        batch = args.per_device_train_batch_size, args.gradient_accumulation_steps
        epoch = str(int(state.global_step // max(1, len_in_steps(self.rows, *batch))))
        if epoch not in self.known:
            self.known[epoch] = self.measure()
            write_json(self.path, self.known)
        first = self.known["0"]
        self.rows.draw(int(epoch), first, self.known[epoch])


def len_in_steps(rows: PackedRows, batch_size: int, accum_steps: int) -> int:
    """Optimiser steps of one epoch."""
    forward = -(-len(rows) // batch_size)
    return -(-forward // accum_steps)


def num_looks(rows: Sequence[Row], cfg: SFTConfig, num_epochs: float) -> int:
    """How often ``train_sft`` will call ``on_eval`` on ``rows`` after its start."""
    packed = PackedRows(rows, cfg.max_seq_len, seed=0)
    epoch = len_in_steps(packed, cfg.micro_batch_size, cfg.grad_accum_steps)
    return math.ceil(math.ceil(num_epochs * epoch) / cfg.eval_every)


def trl_config(
    cfg: SFTConfig,
    runtime: RuntimeConfig,
    learning_rate: float,
    num_epochs: float,
    seed: int,
    *,
    output_dir: Path | str,
) -> TrlConfig:
    """Trl's settings for this machine: both of its defaults that need a GPU are set."""
    device = resolve_device(runtime.device)
    return TrlConfig(
        output_dir=str(output_dir),
        max_length=cfg.max_seq_len,
        packing=True,
        packing_strategy="bfd",
        dataset_kwargs={"skip_prepare_dataset": True},  # PackedRows are packed
        remove_unused_columns=False,
        per_device_train_batch_size=cfg.micro_batch_size,
        gradient_accumulation_steps=cfg.grad_accum_steps,
        num_train_epochs=num_epochs,
        learning_rate=learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=cfg.warmup_share,
        weight_decay=cfg.weight_decay,
        max_grad_norm=cfg.max_grad_norm,
        loss_type=cfg.loss,
        neftune_noise_alpha=cfg.neftune_alpha or None,
        bf16=runtime.dtype == "bfloat16",
        activation_checkpointing=False,
        use_cpu=device == "cpu",
        logging_steps=cfg.log_every,
        save_strategy="steps" if cfg.save_every else "no",
        save_steps=cfg.save_every or 1,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
    )


def train_sft(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    *,
    cfg: SFTConfig,
    runtime: RuntimeConfig,
    learning_rate: float,
    num_epochs: float,
    seed: int,
    log: Callable[..., None] | None = None,
    on_eval: Callable[[int], None] | None = None,
    first_step: int = 0,
    checkpoints: Path | None = None,
    class_losses: Callable[[], dict[str, float]] | None = None,
) -> dict[str, float]:
    """Trains ``model`` in place on packed rows; tokens, seconds, mean loss and steps.

    Weights and optimiser stay float32; with runtime.dtype "bfloat16" the forward pass
    runs under autocast. ``log(step, **values)`` and ``on_eval(step)`` count from
    ``first_step``, so that two stages make one curve.

    Args: checkpoints is a folder that the run fills every ``cfg.save_every`` steps and
    goes on from; from a finished one it takes the weights. class_losses gives nats a
    token by task and is asked before each epoch when ``cfg.rebalance`` is above 0.
    Raises: ValueError when ``checkpoints`` holds those of another run, or when
    ``cfg.rebalance`` is set without ``class_losses``.
    """
    if cfg.rebalance and class_losses is None:
        raise ValueError("sft.rebalance needs class_losses: give a TaskWatch's now")
    packed = PackedRows(rows, cfg.max_seq_len, seed, cfg.rebalance)
    if checkpoints is None:
        cfg = dataclasses.replace(cfg, save_every=0)
    scratch = nullcontext(checkpoints) if checkpoints else tempfile.TemporaryDirectory()
    with scratch as name:
        folder, rates = Path(name), (learning_rate, num_epochs, seed)
        newest = _newest(folder, _identity(model, rows, cfg, runtime.dtype, rates))
        callbacks = [RunLog(log, first_step)] if log else []
        if on_eval:
            callbacks.append(EvalEvery(on_eval, cfg.eval_every, first_step))
        if cfg.rebalance:
            callbacks.append(ShareEveryEpoch(packed, class_losses, folder / _SHARES))
        trainer = _trainer(
            model,
            args=trl_config(cfg, runtime, *rates, output_dir=name),
            train_dataset=packed.table(),
            processing_class=tokenizer,
            callbacks=callbacks,
        )
        result = trainer.train(resume_from_checkpoint=newest)
    _bare(trainer, model)
    return {
        "tokens": float(trainer._total_train_tokens),
        "seconds": result.metrics["train_runtime"],
        "loss": result.metrics["train_loss"],
        "steps": float(trainer.state.global_step),
        "resumed_from": float(newest.rpartition("-")[2]) if newest else 0.0,
    }


def _trainer(model: PreTrainedModel | PeftModel, **options: object) -> AnswerTrainer:
    """A trainer that prints nothing and leaves what learns in float32."""
    masters = {p: p.data for p in model.parameters() if p.requires_grad}
    trainer = AnswerTrainer(model, **options)
    for parameter, master in masters.items():
        parameter.data = master  # trl rounds what learns on 4-bit bases to bfloat16
    trainer.remove_callback(PrinterCallback)  # RunLog keeps the figures
    return trainer


def _bare(trainer: AnswerTrainer, model: PreTrainedModel | PeftModel) -> None:
    """Takes off what trainers put around a model's forward pass."""
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    plain_model(model).__dict__.pop("forward", None)  # trl's fused head was set there
    model.eval()


def remove_checkpoints(stage_dir: Path) -> None:
    """Removes the checkpoints of finished passes, ``<name>_checkpoints``."""
    for folder in stage_dir.glob("*_checkpoints"):
        shutil.rmtree(folder)


def _identity(
    model: PreTrainedModel | PeftModel,
    rows: Sequence[Row],
    cfg: SFTConfig,
    dtype: str,
    rates: tuple[float, float, int],
) -> dict[str, object]:
    """What a run must share with a checkpoint to end in the same bits."""
    settings = {
        f"sft.{name}": value
        for name, value in dataclasses.asdict(cfg).items()
        if name not in NO_INFLUENCE
    }
    return settings | {
        "runtime.dtype": dtype,
        **dict(zip(("learning rate", "epochs", "seed"), rates, strict=True)),
        "start weights": weights_digest(model),
        "rows": rows_digest(rows),
    }


def _newest(folder: Path, identity: dict[str, object]) -> str | None:
    """The newest whole checkpoint in ``folder``; says there whose they are.

    Raises: ValueError naming what differs, when they are of another run.
    """
    note = folder / _IDENTITY
    if note.is_file():
        known = read_json(note)
        other = [name for name in identity if known.get(name) != identity[name]]
        if other:
            raise ValueError(
                f"{folder}: checkpoints of another run ({', '.join(other)} differ); "
                "delete that folder to begin anew"
            )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(note, identity)
    steps = {int(p.name.split("-")[1]): p for p in folder.glob("checkpoint-*")}
    for step in sorted(steps, reverse=True):
        if (steps[step] / _STATE).is_file():  # written last
            return str(steps[step])
        shutil.rmtree(steps[step])  # cut short by a kill
    return None
