"""One pass from a saved model to a saved model, in this process or through torchrun.

``runtime.num_processes`` decides; the notebooks call it for stages 1 and 2. Submission
to a cluster takes the place of ``launch.run`` here, with the same arguments.
"""

from dataclasses import asdict, fields
from pathlib import Path

from transformers import PreTrainedModel

from finllm_utils import launch
from finllm_utils.board import LiveBoard
from finllm_utils.config import PretrainConfig, RuntimeConfig
from finllm_utils.files import atomic_folder
from finllm_utils.model.embeddings import embedding_names
from finllm_utils.model.load import load_tokenizer, save_model
from finllm_utils.train.checkpoint import remove_checkpoints
from finllm_utils.train.mixture import RowSampler
from finllm_utils.train.pretrain import EvalCallback, PretrainResult, pretrain


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
    on_eval: EvalCallback | None = None,
    first_new_row: int = 0,
    peak_tflops: float = 0.0,
) -> PretrainResult | None:
    """Trains what lies in ``start`` and saves it, with its tokenizer, as ``out``.

    Args:
        model: the model of ``start``, loaded; it is trained in place by one process,
            and left as it is by several, which load their own.
        board: shows the pass, and its folder of the run gets the logs.
        on_eval: called in this process only: several processes log without scores.
        peak_tflops: of one device, for the MFU that several processes log; 0: none.

    Returns: None for a pass of no steps, whose ``out`` is the model as it was.
    Called again after a kill it goes on from ``<out>_checkpoints``.
    """
    checkpoints = out.with_name(out.name + "_checkpoints")
    result = None
    if cfg.num_steps and runtime.num_processes > 1:
        arguments = {
            "model": str(start),
            "tokenizer": str(start),
            "bins": str(bins),
            "out": str(out),
            "seed": seed,
            "checkpoints": str(checkpoints),
            "first_new_row": first_new_row,
            "log_folder": str(out.parent),
            "log_prefix": board.prefix,
            "peak_tflops": peak_tflops,
        }
        return _launched(arguments, cfg, runtime, board)
    if cfg.num_steps:
        result = pretrain(
            model,
            bins,
            cfg,
            runtime,
            embedding_names=embedding_names(model),
            seed=seed,
            on_log=board.update,
            on_eval=on_eval,
            checkpoints=checkpoints,
            first_new_row=first_new_row,
        )
    with atomic_folder(out) as folder:
        save_model(model, load_tokenizer(start), folder)
    remove_checkpoints(checkpoints)
    return result


def _launched(
    arguments: dict, cfg: PretrainConfig, runtime: RuntimeConfig, board: LiveBoard
) -> PretrainResult:
    """The same through torchrun; the board follows what the processes log."""
    out = Path(arguments["out"])
    sections = {"pretrain_config": asdict(cfg), "runtime_config": asdict(runtime)}
    with board.following(out.parent):
        found = launch.run(
            "finllm_utils.train.worker:main",
            arguments | sections,
            nproc=runtime.num_processes,
            log_path=out.with_name(out.name + "_torchrun.log"),
            max_restarts=runtime.max_restarts,
        )
    return from_json(found, cfg, arguments["seed"])


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
