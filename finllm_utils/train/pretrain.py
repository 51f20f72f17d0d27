"""The pre-training loop, for the English base, stage 1 and stage 2 alike.

What differs between them is data and which parameters learn; both come from the config.
Called by notebooks 03 and 04 and by ``worker``; scoring comes from outside through
callbacks. One process trains the model it is given in place, in the run's dtype with
float32 masters; several shard a copy of it and leave the result in rank 0's model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from finllm_utils.config import PretrainConfig, RuntimeConfig
from finllm_utils.train.loss import token_loss_sum
from finllm_utils.train.mixture import RowSampler
from finllm_utils.train.progress import peak_memory_bytes
from finllm_utils.train.rows import MixedRows
from finllm_utils.train.running import Pass

__all__ = ["MixedRows", "PretrainResult", "pretrain", "token_loss_sum"]

LogCallback = Callable[[int, dict[str, float]], None]
EvalCallback = Callable[[int, PreTrainedModel], dict[str, float] | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainResult:
    """What a pass did."""

    plan: RowSampler  # what was drawn; ``plan()`` gives every row as arrays
    num_tokens: int  # trained on; at a plateau, up to there
    seconds: float  # of training, those before a resume included
    losses: tuple[float, ...]  # nats a token, one a trained step
    num_steps: int = 0  # gone through, skipped ones included
    stopped_by: str = "end"  # end or plateau
    resumed_from: int | None = None  # step of the checkpoint that this call began at
    skipped_steps: tuple[int, ...] = ()  # whose batches were left out after a spike
    data_wait_seconds: float = 0.0  # of ``seconds``: waiting for rows
    peak_memory_bytes: int = 0  # of the accelerator, or of this process
    notes: tuple[str, ...] = ()  # what was out of the ordinary, as logged

    @property
    def tokens_per_s(self) -> float:
        """Trained tokens a second, reading and optimiser included."""
        return self.num_tokens / self.seconds


def pretrain(
    model: PreTrainedModel,
    bins: Path,
    cfg: PretrainConfig,
    runtime: RuntimeConfig,
    *,
    embedding_names: set[str],
    seed: int,
    on_log: LogCallback | None = None,
    on_eval: EvalCallback | None = None,
    checkpoints: Path | None = None,
    first_new_row: int = 0,
) -> PretrainResult:
    """Trains ``model`` in place for ``cfg.num_steps`` steps; weights end up in float32.

    When it raises, or is interrupted, ``model`` is as it was before the call.

    Args:
        bins: folder written by ``bins.write_bin``, one bin a domain.
        embedding_names: parameters with the embedding rate; the only ones that learn
            when ``cfg.trainable`` is "embeddings".
        on_log: called every ``cfg.log_every`` steps with named numbers, on rank 0.
        on_eval: called every ``cfg.eval_every`` steps and at the end with the model,
            on rank 0; what it returns joins the logged numbers. Of several processes
            all pass one, since all gather the model.
        checkpoints: folder of this pass's checkpoints; it resumes from the newest.
            They stay when the pass ends: call ``checkpoint.remove_checkpoints`` once
            the model is saved.
        first_new_row: first embedding row that learns when ``cfg.trainable`` is
            "new_rows".

    Raises: ValueError when the loss stops being finite or diverges, or for settings,
    bins or checkpoints that do not belong together, each with the remedy.
    """
    running = Pass(
        model,
        Path(bins),
        cfg,
        runtime,
        embedding_names=embedding_names,
        seed=seed,
        checkpoints=checkpoints,
        first_new_row=first_new_row,
    )
    try:
        running.resume()
        while not running.finished:
            values = running.step()
            if values is not None or running.finished:
                _report(running, values or {}, on_log, on_eval)
            running.save_when_due()
    except BaseException:  # an interrupt too
        running.placed.abandon()
        raise
    finally:
        running.settle()
    result = _result(running)
    running.placed.leave()
    return result


def _report(
    running: Pass,
    values: dict[str, float],
    on_log: LogCallback | None,
    on_eval: EvalCallback | None,
) -> None:
    """Calls the callbacks that are due after a step, the log with what both know."""
    cfg, step = running.cfg, running.progress.step - 1
    scores: dict[str, float] = {}
    due = cfg.eval_every and (step + 1) % cfg.eval_every == 0
    if on_eval and cfg.eval_every and (due or running.finished):
        with running.watch.stopped(), running.placed.whole_model() as whole:
            if running.world.leads:
                scores = on_eval(step, whole) or {}
    last = running.finished or step % cfg.log_every == 0
    if on_log and running.world.leads and (last or scores):
        try:
            on_log(step, values | running.log_values() | scores)
        except OSError as error:  # a full disk costs a line, not the pass
            running.say(f"step {step}: a log line was lost ({error}): free some space")


def _result(running: Pass) -> PretrainResult:
    progress, watch = running.progress, running.watch
    return PretrainResult(
        plan=running.rows.plan,
        num_tokens=running.num_tokens,
        seconds=watch.seconds,
        losses=tuple(progress.losses),
        num_steps=progress.step,
        stopped_by="plateau" if running.plateau else "end",
        resumed_from=running.resumed_from,
        skipped_steps=tuple(progress.skipped),
        data_wait_seconds=watch.waited,
        peak_memory_bytes=peak_memory_bytes(running.device),
        notes=tuple(running.notes),
    )
