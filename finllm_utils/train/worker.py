"""A whole pass from plain arguments, for processes that torchrun starts.

``launch.run("finllm_utils.train.worker:main", {...}, nproc=2)`` loads the model from a
folder, trains it and saves it with its tokenizer, all in the started processes; with
nproc=1 the same call runs here.
"""

import dataclasses
from pathlib import Path
from typing import TypeVar

from transformers import PreTrainedModel

from finllm_utils.config import PretrainConfig, RuntimeConfig
from finllm_utils.files import atomic_folder
from finllm_utils.model.embeddings import embedding_names
from finllm_utils.model.load import load_model, load_tokenizer, save_model
from finllm_utils.runtime import resolve_device
from finllm_utils.train import parallel
from finllm_utils.train.bins import check_bins
from finllm_utils.train.checkpoint import remove_checkpoints
from finllm_utils.train.pretrain import EvalCallback, PretrainResult, pretrain
from finllm_utils.train.tracking import Meter, folder_log, meter

Section = TypeVar("Section", PretrainConfig, RuntimeConfig)


def main(
    *,
    model: str,
    tokenizer: str,
    bins: str,
    out: str,
    pretrain_config: dict,
    runtime_config: dict,
    seed: int,
    checkpoints: str = "",
    first_new_row: int = 0,
    log_folder: str = "",
    log_prefix: str = "",
    peak_tflops: float = 0.0,
    on_eval: EvalCallback | None = None,
) -> dict:
    """Trains the model in folder ``model`` and saves it to ``out``; JSON of the result.

    Args: tokenizer is a folder; pretrain_config and runtime_config are
    ``dataclasses.asdict`` of the sections; log_folder gets ``metrics.jsonl``, with
    the MFU where peak_tflops of one device is given; on_eval is for a caller in the
    same process. Once the model is saved the checkpoints are removed.
    """
    world = parallel.current_world()
    pieces = load_tokenizer(tokenizer)
    check_bins(Path(bins), pieces)
    trained = load_model(model)
    cfg = section(PretrainConfig, pretrain_config)
    runtime = section(RuntimeConfig, runtime_config)
    log = None
    if log_folder:
        log = folder_log(
            Path(log_folder),
            prefix=log_prefix,
            more=_meter(trained, cfg, runtime, peak_tflops) if peak_tflops else None,
            tensorboard=runtime.tensorboard,
        )
    result = pretrain(
        trained,
        Path(bins),
        cfg,
        runtime,
        embedding_names=embedding_names(trained),
        seed=seed,
        on_log=log,
        on_eval=on_eval,
        checkpoints=Path(checkpoints) if checkpoints else None,
        first_new_row=first_new_row,
    )
    if world.leads:
        with atomic_folder(Path(out)) as folder:
            save_model(trained, pieces, folder)
    parallel.barrier(world)
    if world.leads:
        remove_checkpoints(Path(checkpoints) if checkpoints else None)
    return as_json(result)


def _meter(
    model: PreTrainedModel, cfg: PretrainConfig, runtime: RuntimeConfig, peak: float
) -> Meter:
    device = resolve_device(runtime.device)
    devices = 1 if device == "cpu" else parallel.current_world().size
    return meter(model, cfg.seq_len, peak, device, num_devices=devices)


def section(kind: type[Section], values: dict) -> Section:
    """A config section from ``dataclasses.asdict`` of one that went through JSON.

    Raises: ValueError naming a setting that is unknown or missing.
    """
    plain = {
        name: tuple(map(tuple, value)) if name == "mixture_points" else value
        for name, value in values.items()
    }
    try:
        return kind(**plain)
    except TypeError as error:
        raise ValueError(
            f"{kind.__name__}: {error}; pass dataclasses.asdict of a whole section"
        ) from error


def as_json(result: PretrainResult) -> dict:
    """Everything of a result but the plan, of which the shares stay."""
    fields = [f.name for f in dataclasses.fields(result) if f.name != "plan"]
    return {name: getattr(result, name) for name in fields} | {
        "tokens_per_s": result.tokens_per_s,
        "planned_share": result.plan.planned_share(),
        "drawn_share": result.plan.drawn_share(),
        "mixture_log": [[row, list(m)] for row, m in result.plan.log],
    }
