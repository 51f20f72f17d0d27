"""The table of models: specs, how each kind opens, and what each does without answers."""

import json

import gguf
import pytest
import torch

from finllm_utils.evals.models.endpoint import Endpoint
from finllm_utils.evals.models.generate import greedy_answers
from finllm_utils.evals.models.local import (
    LocalModel,
    gguf_folder,
    require_weights,
)
from finllm_utils.evals.models.prompts import (
    Asked,
    Failure,
    Mark,
    Prompt,
    as_reply,
    run_suite,
    user_prompt,
)
from finllm_utils.evals.models.recorded import Recorded, write_prompts
from finllm_utils.evals.models.table import (
    ModelSpec,
    default_models,
    open_model,
    parse_models,
    read_models,
)
from finllm_utils.evals.statistics.item_results import ItemResult
from finllm_utils.model.embeddings import new_llama
from finllm_utils.model.load import load_model, save_model
from finllm_utils.records import ChatTurn
from finllm_utils.train.adapters import add_adapter, save_adapter
from finllm_utils.train.sft import encode_prompt
from tests.evals.tiny import tiny_model, tiny_tokenizer
from tests.model.test_base import model_settings, write_gguf

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path):
    save_model(tiny_model(), tiny_tokenizer(), tmp_path / "plain")
    return tmp_path / "plain"


def spec(kind, where, **options):
    return ModelSpec(name="m", kind=kind, where=str(where), options=options)


def by_hand(network, tokenizer, ids, number):
    """Greedy decoding without a cache, one token at a time."""
    made = []
    while len(made) < number and tokenizer.eos_token_id not in made:
        with torch.no_grad():
            logits = network(torch.tensor([[*ids, *made]])).logits
        made.append(int(logits[0, -1].argmax()))
    return tokenizer.decode(made, skip_special_tokens=True).strip()


def test_a_folder_answers_chats_and_a_base_model_continues(folder, tmp_path):
    network, words = load_model(folder), tiny_tokenizer()
    chat = open_model(spec("folder", folder), tmp_path)
    prompts = [
        user_prompt("a", "银行贷款利率是多少"),
        user_prompt("b", "问", continues=True),
    ]
    for prompt, answer in zip(prompts, chat.answers(prompts, 5), strict=True):
        ids = encode_prompt(words, prompt.messages)
        assert answer == by_hand(network, words, ids, 5)
    base = open_model(spec("folder", folder, chat=False), tmp_path)
    refused, continued = base.answers(prompts, 5)
    assert "no chat template that it was taught" in refused.reason
    ids = words("问")["input_ids"]
    assert continued == by_hand(network, words, ids, 5) != ""
    assert require_weights(base) is base


def test_what_cannot_be_put_to_a_model_fails_alone(folder, tmp_path):
    words = tiny_tokenizer()
    words.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}"
        "{% endif %}" + words.chat_template
    )
    model = LocalModel("m", load_model(folder), words)
    system = (
        ChatTurn(role="system", content="客"),
        ChatTurn(role="user", content="问"),
    )
    long, told, good = model.answers(
        [user_prompt("a", "银" * 90), Prompt("b", system), user_prompt("c", "问")], 5
    )
    assert "a prompt of 94 tokens and 5 new ones do not fit the context of 96" in (
        long.reason
    )
    assert "refuses the prompt: no system role" in told.reason
    assert isinstance(good, str)


def test_a_network_and_a_tokenizer_must_fit(folder):
    words = tiny_tokenizer()
    words.add_tokens(["新"])
    with pytest.raises(
        ValueError, match="m: the tokenizer has 68 tokens, the model rows for 67"
    ):
        LocalModel("m", load_model(folder), words)
    words = tiny_tokenizer()
    words.chat_template = None
    with pytest.raises(ValueError, match="chat=true, but its tokenizer has no"):
        LocalModel("m", load_model(folder), words, chat=True)
    broken = load_model(folder)
    with torch.no_grad():
        broken.lm_head.weight[3, 0] = float("nan")
    with pytest.raises(ValueError, match="m: lm_head.weight holds NaN"):
        LocalModel("m", broken, tiny_tokenizer())


def test_an_adapter_is_merged_onto_its_base(folder, tmp_path):
    tuned = add_adapter(load_model(folder), rank=2, train_embeddings=False)
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    adapter = tmp_path / "adapter"
    save_adapter(tuned, folder, "lora", adapter)
    ids = torch.arange(7, 20)[None]
    with torch.no_grad():
        expected = tuned.eval()(ids).logits
    for options in ({"base": str(folder)}, {}):  # peft notes the folder itself
        model = open_model(spec("adapter", adapter, **options), tmp_path)
        with torch.no_grad():
            assert torch.allclose(model.network(ids).logits, expected, atol=1e-4)
    (adapter / "base.json").unlink()  # as another program would leave it
    with pytest.raises(ValueError, match="no adapter saved by notebook 06"):
        open_model(spec("adapter", adapter, base=str(folder)), tmp_path)
    model = open_model(
        spec("adapter", adapter, base=str(folder), trust_base=True), tmp_path
    )
    with torch.no_grad():
        assert torch.allclose(model.network(ids).logits, expected, atol=1e-4)


def test_an_adapter_needs_its_base(folder, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    with pytest.raises(ValueError, match="model 'm'.*no adapter_config.json"):
        open_model(spec("adapter", adapter), tmp_path)
    (adapter / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "somebody/llama"}', encoding="utf-8"
    )
    with pytest.raises(
        ValueError, match="base 'somebody/llama' of this adapter is not"
    ):
        open_model(spec("adapter", adapter), tmp_path)


def test_a_gguf_file_is_dequantised_once(tmp_path, folder, monkeypatch):
    made = new_llama(model_settings(), 96, seed=0).eval()
    write_gguf(made, tmp_path / "tiny.gguf", gguf.GGMLQuantizationType.F32)
    table = spec("gguf", tmp_path / "tiny.gguf", tokenizer=str(folder))
    cache = tmp_path / "cache"
    model = open_model(table, cache)
    ids = torch.arange(24)[None] * 3
    with torch.no_grad():
        assert torch.equal(model.network(ids).logits, made(ids).logits)
    (kept,) = cache.iterdir()
    assert kept.name.startswith("tiny-") and (kept / "model.safetensors").is_file()
    monkeypatch.setattr(
        "finllm_utils.evals.models.local.load_base_model",
        lambda name: pytest.fail("read again"),
    )
    assert gguf_folder(tmp_path / "tiny.gguf", cache) == kept
    open_model(table, cache)


def test_recorded_outputs_are_replayed_and_gaps_told(tmp_path):
    prompts = [user_prompt(name, f"问{name}") for name in "abcd"]
    write_prompts(tmp_path / "prompts.jsonl", prompts)
    asked = [json.loads(line) for line in (tmp_path / "prompts.jsonl").open()]
    assert asked[0]["messages"] == [{"role": "user", "content": "问a"}]
    path = tmp_path / "out.jsonl"
    rows = [
        {"id": "a", "text": "A", "prompt_sha256": asked[0]["prompt_sha256"]},
        {"id": "b", "text": "B", "prompt_sha256": asked[0]["prompt_sha256"]},
        {"id": "c", "text": None},
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    model = open_model(spec("recorded", path), tmp_path)
    answer, *failures = model.answers(prompts, 1)
    assert answer == "A"
    assert [one.reason[:30] for one in failures] == [
        "the recorded output answers an",
        "the recorded output is empty",
        "no output recorded for this it",
    ]
    with pytest.raises(ValueError, match="m: its weights are not here"):
        require_weights(model)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "a", "text": "B"}', "line 2: id 'a' stands at .*line 1"),
        ('{"id": "b", "output": "B"}', "line 2: fields id, output; a record has"),
        ('{"id": "b", "text": 7}', "line 2: id and text must be text"),
        ("{", "line 2: broken JSON"),
    ],
)
def test_a_broken_record_is_named(tmp_path, line, said):
    path = tmp_path / "out.jsonl"
    path.write_text('{"id": "a", "text": "A"}\n' + line, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        Recorded("m", path)


def test_a_suite_without_failures_stops_at_one(folder, tmp_path):
    chat = open_model(spec("folder", folder), tmp_path)
    talk = [ChatTurn(role="user", content="银行贷款利率")]
    reply = as_reply(chat, 5)
    assert reply([talk]) == greedy_answers(chat.network, chat.tokenizer, [talk], 5)
    long = [ChatTurn(role="user", content="银" * 90)]
    with pytest.raises(RuntimeError, match="m: 1 of 2 answers.*a prompt of 94 tokens"):
        reply([talk, long])


def test_a_suite_never_marks_a_failure_as_wrong(tmp_path):
    path = tmp_path / "out.jsonl"
    rows = [
        {"id": "a", "text": "7"},
        {"id": "b", "text": "8"},
        {"id": "c", "text": "?"},
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    def mark(answer):
        if not answer.isdigit():
            return Failure("no number in it")
        return Mark(float(answer == "7"), given=answer)

    asked = [
        Asked(user_prompt(name, "3+4=?"), mark, group="sums", expected="7")
        for name in "abcd"
    ]
    fixed = {"suite": "s", "model": "m", "group": "sums", "expected": "7"}
    missing = f"no output recorded for this item in {path}"
    assert run_suite(Recorded("m", path), "s", asked, 4) == [
        ItemResult(item="a", credit=1.0, given="7", **fixed),
        ItemResult(item="b", credit=0.0, given="8", **fixed),
        ItemResult(item="c", credit=0, given="?", status="failed",
                   detail="no number in it", **fixed),
        ItemResult(item="d", credit=0, status="failed", detail=missing, **fixed),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="s: an item's id stands twice"):
        run_suite(Recorded("m", path), "s", asked[:1] * 2, 4)


TABLE = """
[[models]]
name = "own"
kind = "folder"
where = "plain"
chat = false

[[models]]
name = "云端"
kind = "endpoint"
where = "http://localhost:8000/v1"
served_as = "qwen"
api_key_env = ""
extra = {enable_thinking = false}
"""


def test_tables_are_read_from_toml_json_and_dicts(folder, tmp_path):
    (tmp_path / "models.toml").write_text(TABLE, encoding="utf-8")
    own, cloud = read_models(tmp_path / "models.toml")
    assert (own.where, own.options) == (str(folder), {"chat": False})
    assert isinstance(open_model(cloud, tmp_path / "cache"), Endpoint)
    rows = [{"name": "own", "kind": "folder", "where": "plain", "chat": False}]
    (tmp_path / "models.json").write_text(json.dumps(rows), encoding="utf-8")
    assert read_models(tmp_path / "models.json") == [own]
    assert parse_models(rows, tmp_path) == [own]
    stages = default_models({"stage2": folder, "sft2": folder})
    assert [one.options["chat"] for one in stages[:2]] == [False, True]


GOOD = {"name": "m", "kind": "endpoint", "where": "http://x/v1", "served_as": "q"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "openai"}, "unknown kind 'openai'; use folder, adapter, gguf"),
        ({"kind": ""}, "kind is missing"),
        ({"name": "a/b"}, "a name has letters"),
        ({"api_key": "sk-1"}, "keys do not stand in settings"),
        ({"retries": 3}, "unknown setting 'retries'; kind endpoint takes served_as"),
        ({"timeout_s": 0}, "timeout_s=0"),
        ({"concurrency": "4"}, "'<' not supported|concurrency"),
        ({"kind": "folder"}, "unknown setting 'served_as'"),
    ],
)
def test_a_bad_entry_is_named(tmp_path, change, said):
    rows = [GOOD | {"name": "first"}, GOOD | change]
    with pytest.raises(ValueError, match=f"models, entry 2.*({said})") as error:
        parse_models(rows, tmp_path)
    assert "sk-1" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"kind": "folder", "where": "none"}, "none: no such folder"),
        ({"kind": "gguf", "where": "none.gguf"}, "none.gguf: no such file"),
        ({"kind": "gguf", "where": "plain/config.json"}, "a GGUF file ends in .gguf"),
        ({"kind": "recorded", "where": "none.jsonl"}, "none.jsonl: no such file"),
        ({"kind": "folder", "where": "plain", "tokenizer": "x"}, "tokenizer=.*no such"),
        ({"kind": "folder", "where": "plain", "chat": "yes"}, "chat='yes' is no bool"),
    ],
)
def test_what_is_not_there_is_told_before_anything_runs(folder, tmp_path, row, said):
    with pytest.raises(ValueError, match=f"entry 1: model 'm'.*{said}"):
        parse_models([{"name": "m"} | row], tmp_path)


def test_files_and_folders_without_a_model_are_told(folder, tmp_path):
    (tmp_path / "m.toml").write_text("[[models]\n", encoding="utf-8")
    with pytest.raises(ValueError, match="m.toml: not valid TOML"):
        read_models(tmp_path / "m.toml")
    (tmp_path / "m.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="expected a JSON list"):
        read_models(tmp_path / "m.json")
    with pytest.raises(ValueError, match="give an existing .toml or .json"):
        read_models(tmp_path / "m.yaml")
    twice = {"name": "m", "kind": "folder", "where": str(folder)}
    with pytest.raises(ValueError, match="entry 2: the name 'm' stands twice"):
        parse_models([twice, twice])
    with pytest.raises(ValueError, match="models: no model in it"):
        parse_models([])
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="model 'm'.*not a tokenizer folder"):
        open_model(spec("folder", folder), tmp_path)
