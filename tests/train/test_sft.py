"""Masks by hand, packing without leaks, the loss against transformers, learning."""

import dataclasses

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from finllm_utils.profiles import load_profile
from finllm_utils.records import ChatTurn, Document, Instruction
from finllm_utils.tokenizer.expand import CHAT_TEMPLATE, CHAT_TOKENS
from finllm_utils.train.answer_scores import (
    AnswerScore,
    TaskWatch,
    mean_nats,
    nats_by_task,
    score_answers,
)
from finllm_utils.train.sft import (
    IGNORED,
    conversation_rows,
    count_rows,
    encode_conversation,
    encode_prompt,
    packing_leak,
    text_rows,
    text_tokens_for_share,
)
from finllm_utils.train.tuning import train_sft

CHARS = "买保险要看条款好吗不能可以问答一二三四五六七八九"
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", *CHAT_TOKENS]
PROFILE = load_profile("toy")
CFG = dataclasses.replace(
    PROFILE.sft, max_seq_len=24, micro_batch_size=2, grad_accum_steps=2, log_every=1
)
RUNTIME = dataclasses.replace(PROFILE.runtime, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, with the course's special tokens and chat template."""
    vocab = {piece: i for i, piece in enumerate([*SPECIAL, *CHARS])}
    raw = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    raw.add_special_tokens(SPECIAL)
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    made.chat_template = CHAT_TEMPLATE
    return made


def tiny_model(**shape: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        **({"hidden_size": 32, "intermediate_size": 64} | shape),
        vocab_size=len(SPECIAL) + len(CHARS),
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        pad_token_id=3,
    )
    return LlamaForCausalLM(config)


def turns(*texts: str) -> tuple[ChatTurn, ...]:
    roles = ("user", "assistant")
    return tuple(ChatTurn(role=roles[i % 2], content=t) for i, t in enumerate(texts))


def item(*texts: str, task: str = "t") -> Instruction:
    return Instruction(
        id="i", messages=turns(*texts), task=task, domain="general", source="s"
    )


def test_labels_by_hand(tokenizer):
    ids, labels = encode_conversation(tokenizer, turns("好吗", "可以"))
    pieces = ["<s>", "<|user|>", "好", "吗", "<|end|>", "<|assistant|>", "可", "以"]
    assert tokenizer.convert_ids_to_tokens(ids) == [*pieces, "</s>"]
    assert labels == [IGNORED] * 6 + ids[6:]
    assert encode_prompt(tokenizer, turns("好吗")) == ids[:6]


def test_every_answer_of_a_dialogue_is_labelled_with_its_end(tokenizer):
    ids, labels = encode_conversation(tokenizer, turns("一", "二三", "四", "五"))
    shown = [
        tokenizer.convert_ids_to_tokens(i) if label != IGNORED else "."
        for i, label in zip(ids, labels, strict=True)
    ]
    assert shown == [*".....", "二", "三", "</s>", *"....", "五", "</s>"]


def test_a_template_that_rewrites_history_is_refused(tokenizer):
    import copy

    broken = copy.deepcopy(tokenizer)
    broken.chat_template = "{{ '一二三四'[messages | length - 1] }}" + CHAT_TEMPLATE
    with pytest.raises(ValueError, match="not a prefix of itself"):
        encode_conversation(broken, turns("一", "二", "三", "四"))


def test_text_rows_label_everything_and_stop_at_the_share(tokenizer):
    documents = [
        Document(id=str(i), text=CHARS, source="s", domain="general_zh")
        for i in range(3)
    ]
    rows = text_rows(tokenizer, documents, 40, max_seq_len=24)
    assert sum(len(r["input_ids"]) for r in rows) == 40
    assert all(r["labels"] == r["input_ids"] for r in rows)
    assert rows[0]["input_ids"][0] == tokenizer.bos_token_id
    with pytest.raises(ValueError, match="pretrain_text_share"):
        text_rows(tokenizer, documents, 1000, max_seq_len=24)
    assert text_tokens_for_share([{"input_ids": [0] * 80, "labels": []}], 0.2) == 20


def test_long_conversations_are_left_out_whole(tokenizer):
    rows = conversation_rows(tokenizer, [item("一", CHARS), item("一", "二")], 24)
    assert len(rows) == 1


def test_packed_documents_do_not_leak(tokenizer):
    """Logits of a row packed behind another equal those of the row alone."""
    first, _ = encode_conversation(tokenizer, turns("买保险好吗", "要看条款"))
    second, _ = encode_conversation(tokenizer, turns("一二三", "四五六"))
    moved = packing_leak(tiny_model().eval(), tokenizer, first, second)
    assert moved["packed"] < 1e-5
    assert moved["no positions"] > 1e-3  # the check would see a leak


def plain_loss(model: LlamaForCausalLM, rows: list[dict]) -> float:
    """Mean nats over all labelled tokens, row by row, by transformers alone."""
    total, count = 0.0, 0
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        number = int((labels[:, 1:] != IGNORED).sum())
        with torch.no_grad():
            total += float(model(ids, labels=labels).loss) * number
        count += number
    return total / count


def test_first_loss_equals_unpacked_transformers(tokenizer):
    """Packing, accumulation and the short projection leave the loss as it was."""
    items = [item("买保险好吗", "要看条款"), item("一二", "三"), item("四", "五六七八")]
    rows = conversation_rows(tokenizer, items, 24)
    rows += [{"input_ids": [1, 9, 10, 11, 2], "labels": [1, 9, 10, 11, 2]}]
    labelled = sum(1 for row in rows for one in row["labels"] if one != IGNORED)
    assert count_rows(rows) == {"rows": 4, "tokens": 37, "labelled": labelled}
    model, logged = tiny_model(), []
    want = plain_loss(model, rows)
    stats = train_sft(
        model,
        tokenizer,
        rows,
        cfg=dataclasses.replace(CFG, micro_batch_size=1, grad_accum_steps=3),
        runtime=RUNTIME,
        learning_rate=1e-3,
        num_epochs=1,
        seed=0,
        log=lambda step, **values: logged.append((step, values)),
    )
    assert stats["steps"] == 1
    assert stats["tokens"] == sum(len(r["input_ids"]) for r in rows)
    assert logged[0][1]["loss"] == pytest.approx(want, abs=1e-3)
    assert "forward" not in model.__dict__


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_overfits_a_few_answers_and_stops(tokenizer, dtype):
    items = [item("买保险好吗", "要看条款"), item("一二", "三"), item("四", "五六七八")]
    model, steps = tiny_model(), []
    train_sft(
        model,
        tokenizer,
        conversation_rows(tokenizer, items, 24),
        cfg=dataclasses.replace(CFG, grad_accum_steps=1, eval_every=50),
        runtime=dataclasses.replace(RUNTIME, dtype=dtype),
        learning_rate=1e-2,
        num_epochs=80,
        seed=0,
        on_eval=steps.append,
        first_step=7,
    )
    scores = score_answers(model, tokenizer, items, 64)
    assert mean_nats(scores) < 0.2
    prompt = encode_prompt(tokenizer, turns("四"))
    made = model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False)
    text = tokenizer.convert_ids_to_tokens(made[0, len(prompt) :].tolist())
    assert "".join(text) == "五六七八</s>"
    assert steps[0] == 7 and 57 in steps and steps == sorted(steps)


def test_same_seed_same_weights(tokenizer):
    rows = conversation_rows(tokenizer, [item("一", "二"), item("三", "四五")] * 6, 24)
    weights = []
    for _ in range(2):
        model = tiny_model()
        train_sft(
            model,
            tokenizer,
            rows,
            cfg=CFG,
            runtime=RUNTIME,
            learning_rate=1e-3,
            num_epochs=2,
            seed=1,
        )
        weights.append(model.lm_head.weight.detach().clone())
    assert torch.equal(*weights)


def test_mean_nats_by_hand():
    scores = [
        AnswerScore("a", 2.0, 1),
        AnswerScore("b", 4.0, 2),
        AnswerScore("b", 1.0, 2),
    ]
    assert mean_nats(scores) == 1.4
    assert nats_by_task(scores) == {"a": 2.0, "b": 1.25}


def test_scores_count_the_answer_only(tokenizer):
    """A longer question leaves the number of scored tokens as it was."""
    scores = score_answers(
        tiny_model(), tokenizer, [item("一", "二三"), item("一" * 9, "二三")], 64
    )
    assert [s.tokens for s in scores] == [3, 3]
    assert all(s.nats > 0 for s in scores)


def test_watch_scores_each_step_once(tokenizer):
    logged = []
    watch = TaskWatch(
        tiny_model(),
        tokenizer,
        [item("一", "二三", task=t) for t in ("b", "a", "a", "a")],
        per_task=2,
        batch_tokens=64,
        log=lambda step, **values: logged.append(step),
    )
    for step in (0, 5, 5):
        watch(step)
    assert len(watch.items) == 3
    assert logged == [0, 5]
    assert watch.curves(["a"])["a"][0] == [0, 5]


def test_a_watch_asks_what_stands_beside_it_with_the_model_of_the_moment(tokenizer):
    asked, logged = [], []
    first, second = tiny_model(), tiny_model()
    watch = TaskWatch(
        first, tokenizer, [item("一", "二三", task="a")], per_task=1, batch_tokens=64,
        log=lambda step, **values: logged.append((step, sorted(values))),
        also=lambda step, model: asked.append((step, model)) or {"monitor/x": 1.0},
    )  # fmt: skip
    watch(0)
    watch.model = second
    watch(0)
    watch(3)
    assert [(step, model is second) for step, model in asked] == [(0, False), (3, True)]
    assert logged == [(step, ["heldout_nats", "monitor/x"]) for step in (0, 3)]
