"""What this machine can do for the course, as rows of text."""

import importlib.metadata
import os
import platform
import shutil
from importlib.util import find_spec
from pathlib import Path

import psutil

from finllm_utils.dependencies import REPOSITORY

GIB = 2**30
TOY_MEMORY_GIB = 6
SMALL_GPU_GIB = 16


def examine() -> list[tuple[str, str]]:
    """``(what, found)`` rows: processor, memory, accelerators, libraries, corpora."""
    import torch

    return [
        ("Python", f"{platform.python_version()} on {platform.system()}"),
        ("cores", _cores()),
        ("matrix instructions", _instructions()),
        ("memory", _memory()),
        ("disk", f"{shutil.disk_usage(REPOSITORY).free / GIB:.0f} GiB free"),
        ("accelerators", ", ".join(_accelerators(torch)) or "none: everything on CPU"),
        ("torch", torch.__version__),
        ("attention", _attention(torch)),
        ("torch.compile", _compiler()),
        ("bitsandbytes", _bitsandbytes()),
        *_corpora(),
        ("profile that fits", _profile(torch)),
    ]


def _cores() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    total = psutil.cpu_count(logical=True)
    return f"{usable or total} usable of {total} ({platform.machine()})"


def cpu_flags() -> set[str]:
    """Instruction set flags the kernel reports; empty where it reports none."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return set()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return set()


def _instructions() -> str:
    flags = cpu_flags()
    known = ("amx_bf16", "amx_tile", "avx512_bf16", "avx512f", "avx2", "bf16", "neon")
    found = [f for f in known if f in flags]
    if "amx_bf16" in flags:
        return f"{', '.join(found)}: bfloat16 is fast here"
    listed = ", ".join(found) or "none reported"
    return f"{listed}; without AMX the course takes longer than the table in the README"


def _memory() -> str:
    memory = psutil.virtual_memory()
    return f"{memory.available / GIB:.0f} GiB free of {memory.total / GIB:.0f} GiB"


def _accelerators(torch: object) -> list[str]:
    found = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            found.append(f"{gpu.name}, {gpu.total_memory / GIB:.0f} GiB")
    npu = getattr(torch, "npu", None)
    if npu is not None and npu.is_available():
        found.append(f"{npu.device_count()} Ascend NPU")
    if torch.backends.mps.is_available():
        found.append("Apple GPU (mps)")
    return found


def _attention(torch: object) -> str:
    if find_spec("flash_attn") is not None:
        return f"flash-attn {importlib.metadata.version('flash-attn')}"
    if torch.cuda.is_available():
        kind = "flash" if torch.backends.cuda.flash_sdp_enabled() else "efficient"
        return f"torch SDPA, {kind} kernels (flash-attn is not installed, not needed)"
    return "torch SDPA on CPU (flash-attn needs CUDA)"


def _compiler() -> str:
    if find_spec("triton") is not None:
        return "Triton is installed"
    names = filter(None, [os.environ.get("CXX"), "g++", "clang++"])
    found = next((n for n in names if shutil.which(n)), None)
    if found is None:
        return "no C++ compiler: runs without compiling, slower; install g++"
    return f"{found} found"


def version_of(distribution: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _bitsandbytes() -> str:
    version = version_of("bitsandbytes")
    if version is None:
        return "not installed: QLoRA is not available; pip install bitsandbytes"
    try:
        import bitsandbytes  # noqa: F401  (its native library may fail to load)
    except Exception as error:  # any loader error means that it cannot be used
        return f"{version}, but it does not load: {error}"
    return f"{version}, loads"


def _corpora() -> list[tuple[str, str]]:
    from finllm_utils.corpora.packages import CORPORA

    rows = []
    for name, wanted in CORPORA.items():
        version = version_of(name)
        if version is None:
            found = "missing: run `finllm corpora`"
        elif version == wanted:
            found = version
        else:
            found = f"{version}, but the course needs {wanted}: run `finllm corpora`"
        rows.append((f"corpus {name}", found))
    return rows


def _profile(torch: object) -> str:
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        size = min(
            torch.cuda.get_device_properties(i).total_memory / GIB for i in range(count)
        )
        if count >= 8 and size >= 70:
            return "base7b (eight large GPUs), and every smaller one"
        if size >= SMALL_GPU_GIB:
            return "small, and toy"
    memory = psutil.virtual_memory().total / GIB
    if memory < TOY_MEMORY_GIB:
        return f"none for sure: toy wants {TOY_MEMORY_GIB} GiB, here are {memory:.0f}"
    return "toy (small also runs on CPU, in hours)"
