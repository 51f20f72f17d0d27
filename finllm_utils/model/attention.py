"""Which attention a packed batch runs on, and what the model call must say for it.

Rows hold several documents, and none may see another. Every back end here gets that
from the restarting position ids; those with a variable-length kernel never make the
(B, 1, T, T) mask that plain ``sdpa`` needs.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import (
    is_flash_attn_2_available,
    is_flash_attn_3_available,
    is_flash_attn_4_available,
)

from finllm_utils.model.block_attention import block_attention

HALF = (torch.bfloat16, torch.float16)
MIN_DOCUMENTS = 64  # cu_seq_lens is padded to this or a doubling of it


@dataclass(frozen=True, slots=True)
class AttentionChoice:
    """A back end, and why it was taken."""

    name: str
    """flash_attention_4, _3, _2, varlen, npu, blocks, sdpa or eager."""
    reason: str
    """One sentence for the log."""


def _flash_fault(
    version: int, package: str, capability: int, device: str, dtype: torch.dtype
) -> str:
    """Why flash-attn ``version`` cannot run here; empty when it can."""
    present = {
        2: is_flash_attn_2_available,
        3: is_flash_attn_3_available,
        4: is_flash_attn_4_available,
    }[version]
    fault = _kernel_fault(capability, device, dtype)
    if not fault and not present():
        fault = f"it is not installed: {package}"
    return fault


def _kernel_fault(capability: int, device: str, dtype: torch.dtype) -> str:
    if device != "cuda" or not torch.cuda.is_available():
        return "it needs a CUDA device: use attention='auto' here"
    if dtype not in HALF:
        return f"it computes in bfloat16 or float16, not {dtype}: set runtime.dtype"
    major = torch.cuda.get_device_capability()[0]
    if major < capability:
        return f"it needs compute capability {capability}, this device has {major}"
    return ""


def _npu_fault(device: str, dtype: torch.dtype) -> str:
    if importlib.util.find_spec("torch_npu") is None:
        return "torch-npu is not installed: pip install 'finllm[npu]' on an Ascend host"
    if device != "npu":
        return f"it needs an Ascend NPU, not {device}: set runtime.device='npu'"
    return "" if dtype in HALF else f"it computes in bfloat16 or float16, not {dtype}"


def _blocks_fault(device: str, dtype: torch.dtype) -> str:
    return "" if device == "cpu" else f"it is written for a CPU, not {device}"


_FAULTS: dict[str, Callable[[str, torch.dtype], str]] = {
    "flash_attention_4": partial(_flash_fault, 4, "pip install 'finllm[fa4]'", 9),
    "flash_attention_3": partial(
        _flash_fault,
        3,
        "build the hopper folder of the flash-attn repository",
        9,
    ),
    "flash_attention_2": partial(
        _flash_fault, 2, "pip install 'finllm[fa2]' --no-build-isolation", 8
    ),
    "varlen": partial(_kernel_fault, 8),
    "npu": _npu_fault,
    "blocks": _blocks_fault,
    "sdpa": lambda device, dtype: "",
    "eager": lambda device, dtype: "",
}
BACK_ENDS = tuple(_FAULTS)
"""Best first; eager is the reference and never taken by itself."""
_REASONS = {
    "varlen": "no flash-attn package here; torch's own variable-length kernel runs",
    "npu": "an Ascend NPU is here, and its fused attention takes packed rows",
    "blocks": "on a CPU in bfloat16 query blocks beat sdpa, forward and backward",
    "sdpa": "no variable-length kernel for this device and dtype; sdpa with a mask",
}


def resolve_attention(
    name: str, device: str | torch.device, dtype: torch.dtype
) -> AttentionChoice:
    """The back end called ``name``, or for "auto" the best that is present.

    Order: flash-attn 4, 3, 2, torch's variable-length kernel, NPU, and sdpa; on a CPU
    query blocks come before sdpa in bfloat16. In float32 they are no faster on short
    rows, so there they must be asked for.
    Raises: ValueError for an unknown name, or one that cannot run here, with why.
    """
    kind = str(device).split(":")[0]  # "npu" is unknown without torch-npu
    if name != "auto":
        if name not in _FAULTS:
            raise ValueError(f"attention={name!r}: use auto or {', '.join(_FAULTS)}")
        fault = _FAULTS[name](kind, dtype)
        if fault:
            raise ValueError(f"attention={name!r} cannot run here: {fault}")
        return AttentionChoice(name, "attention names it")
    for candidate, fault_of in _FAULTS.items():
        if candidate == "blocks" and dtype != torch.bfloat16:
            continue
        if not fault_of(kind, dtype):
            reason = _REASONS.get(candidate, f"{candidate} is installed")
            return AttentionChoice(candidate, reason)
    raise AssertionError("sdpa runs everywhere")


def present_attention(device: str | torch.device, dtype: torch.dtype) -> list[str]:
    """All back ends that can run there, best first."""
    kind = str(device).split(":")[0]  # "npu" is unknown without torch-npu
    return [name for name, fault_of in _FAULTS.items() if not fault_of(kind, dtype)]


def use_attention(model: PreTrainedModel, choice: AttentionChoice) -> str:
    """Makes ``model`` attend with ``choice``; the name of what it had before.

    Give that name to ``model.set_attn_implementation`` to undo it. Calls with a padding
    mask or a cache still work: they go to sdpa.
    """
    before = model.config._attn_implementation
    if choice.name in ("sdpa", "eager"):
        model.set_attn_implementation(choice.name)
        return before
    # Not "flash_attention_2" itself: the library would look for its own kernels, and
    # without cu_seq_lens let documents of a batch of several rows see each other.
    name = "finllm_" + choice.name.replace("flash_attention_", "fa")
    forward = partial(_packed_forward, kernel=_kernel(choice.name))
    if choice.name == "blocks":
        forward = _blocks_forward
    AttentionInterface.register(name, forward)
    AttentionMaskInterface.register(name, _mask_if_padded)
    model.set_attn_implementation(name)
    return before


def position_ids(rows_BT: torch.Tensor, bos_id: int) -> torch.Tensor:
    """Positions that restart at every BOS, (B, T) int64.

    A row may begin inside a document; that part counts from 0 too.
    """
    steps_BT = torch.arange(rows_BT.shape[1], device=rows_BT.device).expand_as(rows_BT)
    starts_BT = torch.where(rows_BT == bos_id, steps_BT, 0)
    return steps_BT - starts_BT.cummax(dim=1).values


def packed_kwargs(
    rows_BT: torch.Tensor,
    bos_id: int,
    choice: AttentionChoice,
    device: str | torch.device | None = None,
) -> dict[str, torch.Tensor | int]:
    """What a model call needs beside ``input_ids`` so that documents stay apart.

    Always position_ids; cu_seq_lens and max_length where a kernel reads them, made here
    once a batch. Give rows on the CPU: nothing then waits for the device.
    Args: device is where the tensors go, by default where the rows are.
    """
    positions_BT = position_ids(rows_BT, bos_id)
    kwargs = {"position_ids": positions_BT}
    if choice.name not in ("blocks", "sdpa", "eager"):
        kwargs |= _boundaries(positions_BT, padded=choice.name != "npu")
    return {
        key: value.to(device) if device and isinstance(value, torch.Tensor) else value
        for key, value in kwargs.items()
    }


def _boundaries(positions_BT: torch.Tensor, *, padded: bool) -> dict:
    """Cumulative document lengths over all rows laid end to end.

    Empty documents fill them up to a few fixed sizes, and the longest document counts
    as a whole row: a compiled layer would be compiled again for every other number.
    """
    starts_BT = positions_BT == 0
    starts_BT[:, 0] = True  # a row never continues the one before it
    cu_N = starts_BT.flatten().nonzero().flatten().to(torch.int32)
    size = len(cu_N) + 1
    if padded:
        size = MIN_DOCUMENTS
        while size < len(cu_N) + 1:
            size *= 2
    cu_N = nn.functional.pad(cu_N, (0, size - len(cu_N)), value=positions_BT.numel())
    length = positions_BT.shape[1]
    return {
        "cu_seq_lens_q": cu_N,
        "cu_seq_lens_k": cu_N,
        "max_length_q": length,
        "max_length_k": length,
    }


def _mask_if_padded(q_length, kv_length, attention_mask=None, **kwargs):
    """No mask for packed rows; the usual one where there is padding or a cache."""
    if attention_mask is None and q_length == kv_length:
        return None
    return sdpa_mask(
        q_length=q_length,
        kv_length=kv_length,
        attention_mask=attention_mask,
        **kwargs,
    )


def _is_plain(
    query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None
) -> bool:
    return mask is not None or query.shape[2] != key.shape[2]


def _no_dropout(dropout: float) -> None:
    if dropout:
        raise ValueError(
            f"attention_dropout={dropout}: this attention has none; set it to 0 in the "
            "model's config, or use attention='sdpa'"
        )


def _blocks_forward(
    module, query, key, value, attention_mask, scaling=None, dropout=0.0,
    position_ids=None, **kwargs,
):  # fmt: skip
    """Query blocks, by the library's attention interface."""
    if _is_plain(query, key, attention_mask):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling
        )
    _no_dropout(dropout)
    rows, _, length, width = query.shape
    positions_BT = position_ids.expand(rows, -1)
    first_BT = (torch.arange(length, device=query.device) - positions_BT).clamp(min=0)
    scale = width**-0.5 if scaling is None else scaling
    out_BNTH, _ = block_attention(query, key, value, first_BT, scale)
    return out_BNTH.transpose(1, 2).contiguous(), None


def _packed_forward(
    module, query, key, value, attention_mask, scaling=None, dropout=0.0,
    position_ids=None, cu_seq_lens_q=None, max_length_q=None, *, kernel, **kwargs,
):  # fmt: skip
    """A variable-length kernel, by the library's attention interface."""
    if _is_plain(query, key, attention_mask):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling
        )
    _no_dropout(dropout)
    rows, _, length, _ = query.shape
    if cu_seq_lens_q is None:  # right without packed_kwargs too, only slower
        made = _boundaries(position_ids.expand(rows, -1), padded=False)
        cu_seq_lens_q, max_length_q = made["cu_seq_lens_q"], length
    flat = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    out_XNH = kernel(*flat, cu_seq_lens_q, max_length_q, scaling)
    return out_XNH.view(rows, length, *out_XNH.shape[1:]), None


def _kernel(name: str) -> Callable:
    """kernel(q, k, v, cu, longest, scale) of flat (tokens, heads, width) tensors."""
    if name == "varlen":
        from torch.nn.attention.varlen import varlen_attn

        return partial(_torch_varlen, varlen_attn)
    if name == "flash_attention_4":
        from flash_attn.cute import flash_attn_varlen_func as function
    elif name == "flash_attention_3":
        from flash_attn_interface import flash_attn_varlen_func as function
    elif name == "flash_attention_2":
        from flash_attn import flash_attn_varlen_func as function
    elif name == "npu":
        from transformers.integrations.npu_flash_attention import (
            npu_flash_attn_varlen_func as function,
        )
    else:
        return None
    return partial(_flash, function)


def _torch_varlen(function, q, k, v, cu, longest, scale):
    return function(
        q, k, v, cu, cu, longest, longest,
        scale=scale, window_size=(-1, 0), enable_gqa=q.shape[1] != k.shape[1],
    )  # fmt: skip


def _flash(function, q, k, v, cu, longest, scale):
    out = function(
        q, k, v, cu_seqlens_q=cu, cu_seqlens_k=cu, max_seqlen_q=longest,
        max_seqlen_k=longest, softmax_scale=scale, causal=True,
    )  # fmt: skip
    return out[0] if isinstance(out, tuple) else out
