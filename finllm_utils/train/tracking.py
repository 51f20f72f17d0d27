"""The numbers of a training step that the loop does not know, and where they go.

``meter`` adds speed against the machine's own peak, and memory. ``folder_log`` is the
``on_log`` of a process that torchrun started, where there is no board and no ``Run``.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from transformers import PreTrainedModel

from finllm_utils.metrics import MetricsLog, Row, prefixed
from finllm_utils.train.progress import peak_memory_bytes
from finllm_utils.train.throughput import flops_per_token, mfu

Meter = Callable[[Mapping[str, float]], Row]


def meter(
    model: PreTrainedModel,
    seq_len: int,
    peak_tflops: float,
    device: str = "cpu",
    *,
    num_devices: int = 1,
) -> Meter:
    """A function from the loop's numbers to ``mfu`` and ``memory_gib``.

    The model is looked at when the first numbers come: then the loop has marked which
    weights learn, and frozen ones cost less.

    Args:
        peak_tflops: ``throughput.matmul_peak_tflops`` of one device.
        num_devices: devices that share the counted tokens. Processes on one CPU share
            one device: leave it at 1.
    """
    if min(seq_len, peak_tflops, num_devices) <= 0:
        raise ValueError(
            f"seq_len={seq_len}, peak_tflops={peak_tflops}, num_devices={num_devices}: "
            "all must be above 0"
        )
    flops: list[float] = []

    def measure(values: Mapping[str, float]) -> Row:
        row = {"memory_gib": peak_memory_bytes(device) / 2**30}
        if "tokens_per_s" in values:
            if not flops:
                flops.append(flops_per_token(model, seq_len))
            speed = values["tokens_per_s"] / num_devices
            row["mfu"] = mfu(speed, flops[0], peak_tflops)
        return row

    return measure


def folder_log(
    folder: Path,
    *,
    prefix: str = "",
    more: Meter | None = None,
    tensorboard: bool = True,
) -> Callable[[int, Mapping[str, float]], None]:
    """An ``on_log`` that writes ``<folder>/metrics.jsonl`` and TensorBoard events.

    ``pretrain`` calls it in the first process alone, and only then a file is made.
    A notebook shows the rows meanwhile with ``board.following(folder)``.
    """
    log: list[MetricsLog] = []

    def on_log(step: int, values: Mapping[str, float]) -> None:
        if not log:
            log.append(MetricsLog(folder, tensorboard=tensorboard))
        extra = more(values) if more else {}
        log[0].write(step, prefixed({**values, **extra}, prefix))

    return on_log
