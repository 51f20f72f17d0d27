"""One pass from a saved model to a saved model, in this process or through torchrun.

``runtime.num_processes`` decides; the notebooks call it for stages 1 and 2. Submission
to a cluster takes the place of ``launch.run`` here, with the same arguments.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from finllm_utils import launch
from finllm_utils.board import LiveBoard
from finllm_utils.config import PretrainConfig, RuntimeConfig
from finllm_utils.evals.monitor import Monitor, reference_course
from finllm_utils.evals.pretrain_watch import WatchSettings, pretrain_watch
from finllm_utils.files import atomic_folder
from finllm_utils.model.embeddings import embedding_names
from finllm_utils.model.load import load_model, load_tokenizer, save_model
from finllm_utils.runtime import resolve_device, resolve_dtype
from finllm_utils.train import parallel, worker
from finllm_utils.train.checkpoint import remove_checkpoints
from finllm_utils.train.mixture import RowSampler
from finllm_utils.train.pretrain import PretrainResult, pretrain

log = logging.getLogger(__name__)
MONITOR = "monitor"  # folder beside the model that a watched pass writes


def train_saved(
    model: PreTrainedModel,
    start: Path,
    out: Path,
    bins: Path,
    cfg: PretrainConfig,
    runtime: RuntimeConfig,
    *,
    seed: int,
    board: LiveBoard,
    watch: WatchSettings | None = None,
    bands: Mapping[str, Mapping] | None = None,
    first_new_row: int = 0,
    peak_tflops: float = 0.0,
) -> PretrainResult | None:
    """Trains what lies in ``start`` and saves it, with its tokenizer, as ``out``.

    Args:
        model: the model of ``start``, loaded; it is trained in place by one process,
            and left as it is by several, which load their own.
        board: shows the pass, and its folder of the run gets the logs.
        watch: what scores the model as it goes; of several processes rank 0 does.
            The scores, and the alarms they raise, are written beside ``out`` as
            ``monitor`` when the pass ends (``evals.monitor``).
        bands: curves of earlier runs, as ``compare_run.applicable_curves`` gives them,
            which those scores should stay in.
        peak_tflops: of one device, for the MFU that several processes log; 0: none.

    Returns: None for a pass of no steps, whose ``out`` is the model as it was.
    Called again after a kill it goes on from ``<out>_checkpoints``.
    """
    checkpoints = out.with_name(out.name + "_checkpoints")
    arguments = {"seed": seed, "first_new_row": first_new_row}
    if cfg.num_steps and runtime.num_processes > 1:
        arguments |= {"peak_tflops": peak_tflops, "checkpoints": str(checkpoints)}
        arguments |= {"watch": asdict(watch) if watch else None}
        arguments |= {"bands": dict(bands or {})}
        return _launched(arguments, start, out, bins, cfg, runtime, board)
    tokenizer, result = load_tokenizer(start), None
    if cfg.num_steps:
        monitor = _monitor(watch, start, cfg, runtime, bands) if watch else None
        result = pretrain(
            model,
            bins,
            cfg,
            runtime,
            embedding_names=embedding_names(model),
            on_log=board.update,
            on_eval=monitor,
            checkpoints=checkpoints,
            **arguments,
        )
        if monitor:
            monitor.write(out.with_name(MONITOR))
    with atomic_folder(out) as folder:
        save_model(model, tokenizer, folder)
    remove_checkpoints(checkpoints)
    return result


def _monitor(
    watch: WatchSettings,
    start: Path,
    cfg: PretrainConfig,
    runtime: RuntimeConfig,
    bands: Mapping[str, Mapping] | None,
) -> Monitor:
    """A monitor that has scored ``start`` in the precision that a pass trains in.

    It names its scores as the board and the references do. Alarms are logged at once.
    """
    probes = pretrain_watch(load_tokenizer(start), watch, cfg.seq_len).probes()
    known = {probe.name for probe in probes}
    course = reference_course(bands or {}, cfg.tokens_per_step)
    checks = math.ceil(cfg.num_steps / cfg.eval_every) if cfg.eval_every else 1
    monitor = Monitor(
        probes,
        num_checks=1 + checks,
        expected={key: band for key, band in course.items() if key in known},
        on_alarm=lambda alarm: log.warning("step %d: %s", alarm.step, alarm.text),
        prefix="",
    )
    dtype, device = resolve_dtype(runtime.dtype), resolve_device(runtime.device)
    monitor(0, load_model(start, dtype=dtype, device=device))
    return monitor


def _launched(
    arguments: dict[str, Any],
    start: Path,
    out: Path,
    bins: Path,
    cfg: PretrainConfig,
    runtime: RuntimeConfig,
    board: LiveBoard,
) -> PretrainResult:
    """The same through torchrun; the board follows what the processes log."""
    folders = {"model": start, "tokenizer": start, "bins": bins, "out": out}
    arguments |= {name: str(path) for name, path in folders.items()}
    arguments |= {"log_folder": str(out.parent), "log_prefix": board.prefix}
    sections = {"pretrain_config": asdict(cfg), "runtime_config": asdict(runtime)}
    with board.following(out.parent):
        found = launch.run(
            "finllm_utils.passes:in_process",
            arguments | sections,
            nproc=runtime.num_processes,
            log_path=out.with_name(out.name + "_torchrun.log"),
            max_restarts=runtime.max_restarts,
        )
    return from_json(found, cfg, arguments["seed"])


def in_process(*, watch: dict | None, bands: dict[str, dict], **arguments: Any) -> dict:
    """``worker.main`` in one of several processes, with a monitor that rank 0 asks."""
    monitor = None
    if watch and parallel.current_world().leads:
        cfg = worker.section(PretrainConfig, arguments["pretrain_config"])
        runtime = worker.section(RuntimeConfig, arguments["runtime_config"])
        start = Path(arguments["model"])
        monitor = _monitor(WatchSettings(**watch), start, cfg, runtime, bands)
    scores = monitor or (_unasked if watch else None)
    found = worker.main(**arguments, on_eval=scores)
    if monitor:
        monitor.write(Path(arguments["out"]).with_name(MONITOR))
    return found


def _unasked(step: int, model: PreTrainedModel) -> dict[str, float]:
    """Stands on the other ranks, which only help to gather the model."""
    raise RuntimeError(f"rank {parallel.current_world().rank} was asked for scores")


def from_json(found: dict, cfg: PretrainConfig, seed: int) -> PretrainResult:
    """A result from what ``worker.as_json`` gave."""
    names = {field.name for field in fields(PretrainResult)} - {"plan"}
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in found.items()
        if name in names
    }
    num_rows = cfg.num_steps * cfg.global_batch_size
    log = [(row, tuple(multipliers)) for row, multipliers in found["mixture_log"]]
    return PretrainResult(plan=RowSampler(cfg, num_rows, seed, log), **values)
