"""Starts a training function: in this process, or through torchrun with N processes.

``launch.run("finllm_utils.train.worker:main", {...}, nproc=2)``. With one
process the function is simply called. With more, each process imports it and calls it
with the same JSON arguments; torchrun sets RANK, LOCAL_RANK and WORLD_SIZE, and the
process group exists while the function runs (NCCL beside a GPU, gloo otherwise).
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO

from finllm_utils.files import write_json

LAST_LINES = 60  # torchrun adds a summary of about 20 after the traceback


def run(
    target: str | Callable,
    kwargs: dict[str, object] | None = None,
    *,
    nproc: int = 1,
    log_path: Path | None = None,
    max_restarts: int = 0,
) -> object:
    """What ``target(**kwargs)`` returns; with several processes, rank 0's value.

    Args: target is a function or "module:function"; with nproc > 1, kwargs and the
    returned value must be JSON; log_path keeps what the processes print; max_restarts
    is how often all processes start again when one dies (they resume a checkpoint).
    Raises: ValueError for a target that other processes cannot import; RuntimeError
    with the last lines of the log when a process fails.
    """
    if nproc < 1:
        raise ValueError(f"nproc={nproc}: use 1 (this process) or more")
    if nproc == 1:
        function = target if callable(target) else _resolve(target)
        return function(**(kwargs or {}))
    name = target if isinstance(target, str) else _importable_name(target)
    with tempfile.TemporaryDirectory() as folder:
        call, result = Path(folder) / "call.json", Path(folder) / "result.json"
        try:
            write_json(
                call, {"target": name, "kwargs": kwargs or {}, "to": str(result)}
            )
        except TypeError as error:
            raise ValueError(
                f"launch.run({name}): arguments must be JSON when nproc > 1 ({error}); "
                "pass paths and numbers, and load objects inside the function"
            ) from error
        if log_path is not None:
            Path(log_path).unlink(missing_ok=True)
        # Not torchrun's own --max-restarts: with gloo the processes that it starts
        # again were seen to miss each other, or to wait for ever.
        for left in range(max_restarts, -1, -1):
            try:
                _torchrun(name, call, nproc, log_path)
                break
            except RuntimeError:
                if not left:
                    raise
                again = f"a process died: all start again, {left - 1} restarts left\n"
                sys.stdout.write(again)
        return json.loads(result.read_text(encoding="utf-8"))


def _resolve(target: str) -> Callable:
    module, _, function = target.partition(":")
    if not function:
        raise ValueError(f'launch target {target!r}: write "module:function"')
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"launch target {target!r}: {error}") from error


def _importable_name(function: Callable) -> str:
    name = f"{function.__module__}:{function.__qualname__}"
    if function.__module__ == "__main__" or not function.__qualname__.isidentifier():
        raise ValueError(
            f"launch.run({name}): other processes cannot import a function that a "
            "notebook or another function defines; put it into a module of the package"
        )
    return name


def _torchrun(name: str, call: Path, nproc: int, log_path: Path | None) -> None:
    """Runs torchrun, passing its output on line by line.

    Raises: RuntimeError with the last lines.
    """
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc-per-node={nproc}", "--max-restarts=0",
        "-m", "finllm_utils.launch", str(call),
    ]  # fmt: skip
    environment = os.environ | {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // nproc)),
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    if 0 < (num_gpus := _num_gpus()) < nproc:
        sys.stdout.write(
            f"{nproc} processes and {num_gpus} GPUs: they run on the processor\n"
        )
        environment["CUDA_VISIBLE_DEVICES"] = ""
    last: deque[str] = deque(maxlen=LAST_LINES)
    log: IO[str] | None = None
    if log_path is not None:
        Path(log_path).parent.mkdir(parents=True, exist_ok=True)
        log = open(log_path, "a", encoding="utf-8")  # closed below
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    )
    try:
        for line in process.stdout:
            last.append(line)
            sys.stdout.write(line)
            if log:
                log.write(line)
                log.flush()
        code = process.wait()
    finally:
        if process.poll() is None:  # this process was interrupted
            process.terminate()
            process.wait()
        if log:
            log.close()
    if code:
        where = f"\nwhole log: {log_path}" if log_path else ""
        raise RuntimeError(
            f"{name} failed on {nproc} processes (exit code {code}). Last lines:\n"
            f"{''.join(last)}{where}"
        )


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _entry(call_path: str) -> None:
    """What every process runs: joins the group, calls the target, rank 0 answers."""
    import torch
    import torch.distributed as dist
    from torch.distributed.elastic.multiprocessing.errors import record

    call = json.loads(Path(call_path).read_text(encoding="utf-8"))
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl")
    else:
        dist.init_process_group("gloo")
    try:
        function = record(_resolve(call["target"]))
        value = function(**call["kwargs"])
        if dist.get_rank() == 0:
            write_json(Path(call["to"]), value)
        dist.barrier()
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    _entry(sys.argv[1])
