"""Packed documents never see each other, on any back end, and the resolver says why."""

import pytest
import torch
import torch.nn.functional as F
from transformers.cache_utils import DynamicCache

from finllm_utils.model import attention
from finllm_utils.model.attention import (
    AttentionChoice,
    packed_kwargs,
    present_attention,
    resolve_attention,
    use_attention,
)
from finllm_utils.model.attention_check import (
    BOS,
    attention_agreement,
    outputs_and_gradients,
    packed_rows,
    small_model,
)
from finllm_utils.model.block_attention import BLOCK_ROWS, block_attention

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def per_document(q, k, v, cu, longest, scale):
    """What a variable-length kernel computes, one document at a time."""
    bounds, groups = cu.tolist(), q.shape[1] // k.shape[1]
    assert longest >= max(b - a for a, b in zip(bounds, bounds[1:], strict=False))
    parts = []
    for a, b in zip(bounds, bounds[1:], strict=False):
        if a < b:
            one = [x[a:b].transpose(0, 1)[None] for x in (q, k, v)]
            one[1:] = [x.repeat_interleave(groups, 1) for x in one[1:]]
            out = F.scaled_dot_product_attention(*one, is_causal=True, scale=scale)
            parts.append(out[0].transpose(0, 1))
    return torch.cat(parts)


def relative(a, b):
    return float((a - b).abs().max() / b.abs().max())


def test_every_back_end_here_agrees_with_exact_attention_of_single_documents():
    found = attention_agreement("cpu", num_rows=2, seq_len=160)
    assert {"sdpa.float32", "blocks.float32", "blocks.bfloat16"} <= set(found)
    for name, differences in found.items():
        yardstick = found["eager." + name.split(".")[1]]
        for key, difference in differences.items():
            assert difference < 1e-5 or "bfloat16" in name, (name, key)
            assert difference < 1.5 * yardstick[key] + 1e-5, (name, key)


@needs_cuda
@pytest.mark.gpu
def test_every_back_end_on_the_gpu_agrees():
    found = attention_agreement("cuda")
    assert "varlen.bfloat16" in found
    for name, differences in found.items():
        yardstick = found["eager." + name.split(".")[1]]
        for key, difference in differences.items():
            assert difference < 2 * yardstick[key] + 1e-3, (name, key)


@pytest.mark.parametrize("given", [True, False])
def test_a_variable_length_kernel_gets_every_document_apart(monkeypatch, given):
    monkeypatch.setattr(attention, "_kernel", lambda name: per_document)
    rows_BT, choice = packed_rows(3, 70), AttentionChoice("varlen", "")
    exact = outputs_and_gradients(small_model("cpu", torch.float32), rows_BT, None)
    model = small_model("cpu", torch.float32)
    use_attention(model, choice)
    if not given:  # position ids alone must do, as they do for sdpa
        choice = AttentionChoice("sdpa", "")
    got = outputs_and_gradients(model, rows_BT, choice)
    for a, b in zip(got, exact, strict=True):
        assert relative(a, b) < 1e-5


@pytest.mark.parametrize("name", ["blocks", "sdpa"])
def test_no_token_of_another_document_changes_anything(name):
    rows_BT = torch.randint(2, 97, (2, 200))
    rows_BT[:, 150] = BOS
    other_BT = rows_BT.clone()
    other_BT[:, :150] = torch.randint(2, 97, (2, 150))
    model, choice = small_model("cpu", torch.float32), AttentionChoice(name, "")
    use_attention(model, choice)
    a, b = (outputs_and_gradients(model, x, choice)[0] for x in (rows_BT, other_BT))
    assert torch.equal(a[:, 150:], b[:, 150:])
    assert not torch.equal(a[:, :150], b[:, :150])


def test_packed_kwargs_by_hand():
    rows_BT = torch.tensor([[BOS, 5, 6, BOS, 7, 8], [9, 9, BOS, 5, BOS, 6]])
    kwargs = packed_kwargs(rows_BT, BOS, AttentionChoice("varlen", ""))
    assert kwargs["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2], [0, 1, 0, 1, 0, 1]]
    cu = kwargs["cu_seq_lens_q"]
    assert cu[:6].tolist() == [0, 3, 6, 8, 10, 12]
    assert len(cu) == attention.MIN_DOCUMENTS and (cu[6:] == 12).all()
    assert cu.dtype == torch.int32 and kwargs["max_length_k"] == 6
    npu = packed_kwargs(rows_BT, BOS, AttentionChoice("npu", ""))
    assert npu["cu_seq_lens_k"].tolist() == [0, 3, 6, 8, 10, 12]
    plain = packed_kwargs(rows_BT, BOS, AttentionChoice("sdpa", ""))
    assert set(plain) == {"position_ids"}


def test_many_documents_double_the_boundaries():
    rows_BT = torch.full((1, 100), BOS)
    cu = packed_kwargs(rows_BT, BOS, AttentionChoice("varlen", ""))["cu_seq_lens_q"]
    assert cu.tolist() == [*range(100), *[100] * 28]


@pytest.mark.parametrize("length", [1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 300])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (3, 1)])
def test_blocks_equal_sdpa(length, heads):
    torch.manual_seed(length)
    q, k, v = (
        torch.randn(2, n, length, 8, dtype=torch.float64, requires_grad=True)
        for n in (heads[0], heads[1], heads[1])
    )
    starts = torch.rand(2, length) < 0.02
    first = torch.where(starts, torch.arange(length), 0).cummax(1).values
    mask = (first[:, :, None] == first[:, None]) & torch.ones(
        length, length
    ).tril().bool()
    groups = heads[0] // heads[1]
    theirs = F.scaled_dot_product_attention(
        q, *(x.repeat_interleave(groups, 1) for x in (k, v)),
        attn_mask=mask[:, None], scale=0.3,
    )  # fmt: skip
    ours, _ = block_attention(q, k, v, first, 0.3)
    assert torch.allclose(ours, theirs)
    signs = torch.randn_like(ours)
    both = [torch.autograd.grad(o, (q, k, v), signs) for o in (ours, theirs)]
    for a, b in zip(*both, strict=True):  # sums over blocks are in float32
        assert torch.allclose(a, b, atol=1e-5)


def test_block_attention_is_a_well_formed_operator():
    q, k = torch.randn(1, 2, 5, 4), torch.randn(1, 1, 5, 4)
    args = [x.requires_grad_() for x in (q, k, k.clone().detach())]
    torch.library.opcheck(
        block_attention,
        (*args, torch.zeros(1, 5, dtype=torch.long), 0.5),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


def test_padding_and_generation_with_a_cache_still_work():
    model, plain = (small_model("cpu", torch.float32).eval() for _ in range(2))
    use_attention(model, AttentionChoice("blocks", ""))
    ids = torch.randint(2, 97, (2, 9))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    with torch.no_grad():
        padded = [m(input_ids=ids, attention_mask=mask).logits for m in (model, plain)]
        assert torch.allclose(padded[0][mask == 1], padded[1][mask == 1], atol=1e-5)
        cache = DynamicCache(config=model.config)
        model(input_ids=ids[:, :8], past_key_values=cache, use_cache=True)
        last = model(input_ids=ids[:, 8:], past_key_values=cache, use_cache=True)
        whole = plain(input_ids=ids, use_cache=False).logits[:, -1]
    assert torch.allclose(last.logits[:, -1], whole, atol=1e-5)


def test_what_was_before_comes_back():
    model = small_model("cpu", torch.float32)
    before = use_attention(model, AttentionChoice("blocks", ""))
    assert before == "eager" and model.config._attn_implementation == "finllm_blocks"
    model.set_attn_implementation(before)
    assert model.config._attn_implementation == "eager"
    assert "finllm_blocks" not in model.config.to_json_string()


def test_dropout_is_refused():
    model = small_model("cpu", torch.float32).train()
    use_attention(model, AttentionChoice("blocks", ""))
    model.model.layers[0].self_attn.attention_dropout = 0.1
    with pytest.raises(ValueError, match="attention_dropout=0.1"):
        model(input_ids=torch.randint(2, 97, (1, 9)), use_cache=False)


def test_the_resolver_on_a_cpu():
    assert resolve_attention("auto", "cpu", torch.bfloat16).name == "blocks"
    assert resolve_attention("auto", "cpu", torch.float32).name == "sdpa"
    assert "sdpa" in resolve_attention("auto", "cpu", torch.bfloat16).reason
    assert resolve_attention("blocks", "cpu", torch.float32).name == "blocks"
    assert present_attention("cpu", torch.bfloat16) == ["blocks", "sdpa", "eager"]


@pytest.mark.parametrize("name", ["flash_attention_2", "varlen", "npu"])
def test_what_is_not_here_is_refused_with_a_remedy(name):
    if name in present_attention("cpu", torch.bfloat16):
        pytest.skip("present")
    with pytest.raises(
        ValueError, match=f"attention='{name}' cannot run here.*(use|pip)"
    ):
        resolve_attention(name, "cpu", torch.bfloat16)
    with pytest.raises(ValueError, match="use auto or flash_attention_4"):
        resolve_attention("flash", "cpu", torch.bfloat16)


@pytest.mark.parametrize(
    "installed, major, dtype, expected",
    [
        ((2, 3, 4), 9, torch.bfloat16, "flash_attention_4"),
        ((2, 3), 9, torch.bfloat16, "flash_attention_3"),
        ((2, 4), 8, torch.bfloat16, "flash_attention_2"),  # 4 needs a Hopper
        ((), 8, torch.float16, "varlen"),
        ((2,), 8, torch.float32, "sdpa"),  # the kernels compute in half precision
        ((2,), 7, torch.bfloat16, "sdpa"),
    ],
)
def test_the_order_on_a_gpu(monkeypatch, installed, major, dtype, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (major, 0))
    for version in (2, 3, 4):
        name = f"is_flash_attn_{version}_available"
        monkeypatch.setattr(attention, name, lambda v=version: v in installed)
    assert resolve_attention("auto", "cuda:0", dtype).name == expected
    if not installed:
        with pytest.raises(ValueError, match=r"pip install 'finllm\[fa2\]'"):
            resolve_attention("flash_attention_2", "cuda", dtype)
