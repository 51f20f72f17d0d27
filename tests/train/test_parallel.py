"""Two and four real gloo processes against one."""

import dataclasses
import json
import multiprocessing
import warnings

import pytest
import torch

from finllm_utils import launch
from finllm_utils.board import LiveBoard
from finllm_utils.config import PretrainConfig
from finllm_utils.evals.monitor import read_alarms, read_readings
from finllm_utils.evals.pretrain_watch import WatchSettings
from finllm_utils.model.load import load_model, load_tokenizer, save_model
from finllm_utils.passes import train_saved
from finllm_utils.records import Document, write_records
from finllm_utils.train.checkpoint import whole_checkpoints
from finllm_utils.train.mixture import DOMAINS
from finllm_utils.train.parallel import World, require_divisible, rows_of_rank
from finllm_utils.train.worker import section
from tests.train import tiny

TARGET = "tests.train.tiny:rank_target"


@pytest.fixture(scope="module")
def bins(tmp_path_factory):
    return tiny.write_bins(tmp_path_factory.mktemp("bins"))


def weights(path):
    return torch.load(path, weights_only=True)


def test_ranks_read_end_to_end_what_one_process_reads():
    for size in (1, 2, 4):
        parts = [list(rows_of_rank(16, 8, World(r, size))) for r in range(size)]
        assert sum(parts, []) == list(range(16, 24))


def test_batches_that_do_not_divide_are_refused():
    require_divisible(8, 2, World(0, 4), 2)
    with pytest.raises(ValueError, match="global_batch_size=8 .* multiple of 12"):
        require_divisible(8, 4, World(0, 3), 1)
    with pytest.raises(ValueError, match="num_replicas=3 does not divide 4"):
        require_divisible(8, 2, World(0, 4), 3)


def run_group(num_ranks, store, jobs):
    """(all that was said, exit codes) of one group of gloo processes."""
    context = multiprocessing.get_context("forkserver")  # imports once for all
    context.set_forkserver_preload(["tests.train.tiny"])
    heard, said = context.Pipe(duplex=False)
    members = [
        context.Process(
            target=tiny.group_member, args=(said, rank, num_ranks, store, jobs)
        )
        for rank in range(num_ranks)
    ]
    for member in members:
        member.start()
    said.close()
    told = []
    try:
        while heard.poll(240):  # until the last member has closed its end
            told.append(heard.recv())
    except EOFError:
        pass
    finally:
        for member in members:
            member.join(20)
            member.kill()
    return told, [member.exitcode for member in members]


def on_ranks(num_ranks, folder, jobs):
    """What rank 0 returns for each job, all in one group of gloo processes.

    A group of which a member was ended by a signal is started once more, as torchrun
    would; what a member raises fails the test.
    """
    for attempt in ("first", "second"):
        store = folder / f"{attempt}_store"
        told, codes = run_group(num_ranks, store, jobs)
        if len(told) == 1 and isinstance(told[0], list):
            return told[0]
        stacks = [p.read_text() for p in sorted(folder.glob(f"{store.name}_crash_*"))]
        found = "\n".join([f"exit codes {codes}", *map(str, told), *stacks])
        if attempt == "second" or not any(code and code < 0 for code in codes):
            pytest.fail(found)
        warnings.warn(f"a process was ended by a signal: {found}", stacklevel=2)


def close(first, second, atol=1e-4):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.allclose(first[name], second[name], atol=atol), name


def both(folder, bins, jobs):
    """Results and weights of each job on one process and on two."""
    found = []
    for size in (1, 2):
        own = [
            job | {"bins": str(bins), "out": str(folder / f"{size}_{i}.pt")}
            for i, job in enumerate(jobs)
        ]
        results = (
            [tiny.rank_target(**job) for job in own]
            if size == 1
            else on_ranks(2, folder, own)
        )
        found.append(
            [(r, weights(j["out"])) for r, j in zip(results, own, strict=True)]
        )
    return list(zip(*found, strict=True))


def test_two_processes_train_as_one(bins, tmp_path):
    shared = {"tokens": 12 * 256, "eval_every": 5}
    jobs = [
        {"changes": shared},
        {"changes": shared | {"keep_gathered": True}, "tie": False},
        {"changes": shared | {"trainable": "lora", "lora_rank": 4}},
        {"changes": shared | {"trainable": "new_rows", "first_new_row": 40}},
        {"changes": shared | {"activation_checkpointing": True}},
        {"changes": shared, "dtype": "bfloat16"},
    ]
    *pairs, ((half_one, _), (half_two, _)) = both(tmp_path, bins, jobs)
    full = pairs[0][0][0]["losses"]
    for half in (half_one["losses"], half_two["losses"]):
        assert half != full and half == pytest.approx(full, rel=0.01)
    for (one, first), (two, second) in pairs:
        assert two["losses"] == pytest.approx(one["losses"], abs=1e-5)
        assert two["tokens"] == one["tokens"]
        assert len(two["scores"]) == 3  # steps 5, 10 and 12
        assert two["scores"] == pytest.approx(one["scores"], abs=1e-2)
        assert two["state_bytes"] < 0.55 * one["state_bytes"]
        close(first, second)
    start = tiny.model().state_dict()
    new_rows = pairs[3][1][1]
    for name, before in start.items():
        same = torch.equal(new_rows[name], before)
        assert same == (name not in ("model.embed_tokens.weight", "lm_head.weight"))
    rows = new_rows["model.embed_tokens.weight"], start["model.embed_tokens.weight"]
    assert torch.equal(rows[0][:40], rows[1][:40])
    assert not torch.equal(rows[0][40:], rows[1][40:])


def test_checkpoints_go_from_one_process_to_two_and_back(bins, tmp_path):
    def job(name, **options):
        folder = str(tmp_path / name)
        return {"bins": str(bins), "checkpoints": folder} | options

    whole = tiny.rank_target(str(bins), str(tmp_path / "whole.pt"))
    tiny.rank_target(**job("up", stop_at=9))
    results = on_ranks(
        2, tmp_path, [job("up", out=str(tmp_path / "up.pt")), job("down", stop_at=13)]
    )
    assert results[0]["resumed_from"] == 8
    assert [p.name for p in whole_checkpoints(tmp_path / "down")] == [
        "step_000008",
        "step_000012",
    ]
    down = tiny.rank_target(**job("down", out=str(tmp_path / "down.pt")))
    assert down["resumed_from"] == 12
    for name, result in (("up", results[0]), ("down", down)):
        assert result["losses"] == pytest.approx(whole["losses"], abs=1e-5)
        close(weights(tmp_path / "whole.pt"), weights(tmp_path / f"{name}.pt"))


def test_copies_of_a_sharded_model_on_four_processes(bins, tmp_path):
    """HSDP: two copies, each sharded over two processes."""
    one = tiny.rank_target(str(bins), str(tmp_path / "one.pt"))
    changes = {"num_replicas": 2}
    mesh = {"bins": str(bins), "changes": changes}
    files = {"checkpoints": str(tmp_path / "c")}
    jobs = [
        mesh | files | {"stop_at": 9},
        mesh | files | {"out": str(tmp_path / "four.pt")},
    ]
    _, four = on_ranks(4, tmp_path, jobs)
    assert four["resumed_from"] == 8
    assert four["losses"] == pytest.approx(one["losses"], abs=1e-5)
    assert 0.45 < four["state_bytes"] / one["state_bytes"] < 0.55
    close(weights(tmp_path / "one.pt"), weights(tmp_path / "four.pt"))


@pytest.fixture
def watch(tmp_path):
    """Settings of a watch over a corpus of which one document in a hundred is kept."""
    for domain in DOMAINS:
        documents = [
            Document(id=f"{domain}{i}", text="w5 w6 w7 " * 9, source="t", domain=domain)
            for i in range(400)
        ]
        (tmp_path / "corpus").mkdir(exist_ok=True)
        write_records(tmp_path / "corpus" / f"{domain}.jsonl", documents)
    return WatchSettings(
        corpus=str(tmp_path / "corpus"), batch_tokens=512, choice_tolerance=0.1, seed=0
    )


def test_a_setting_trains_on_two_processes_and_saves_a_model(bins, watch, tmp_path):
    start = tmp_path / "start"
    save_model(tiny.model(), tiny.tokenizer(), start)
    points = ((0.0, 0.5, 0.0), (1.0, 0.6, 0.0))
    changes = {"mixture_points": points, "tokens": 8 * 256, "eval_every": 4}
    cfg = dataclasses.replace(tiny.CFG, **changes)
    found, scores, readings = {}, {}, {}
    train_saved(
        load_model(start), start, tmp_path / "unwatched", bins, cfg, tiny.FLOAT32,
        seed=0, board=LiveBoard(notebook=False),
    )  # fmt: skip
    bands = {"bpb/english": {"tokens": [0, 9999], "low": [0, 0], "high": [1, 1]}}
    for size in (1, 2):
        runtime = dataclasses.replace(tiny.FLOAT32, num_processes=size)
        out = tmp_path / f"on_{size}" / "out"
        out.parent.mkdir()
        board = LiveBoard(prefix="s", notebook=False)
        found[size] = train_saved(
            load_model(start), start, out, bins, cfg, runtime,
            seed=0, board=board, watch=watch, peak_tflops=1.0,
            bands=bands | {"loss": bands["bpb/english"]},
        )  # fmt: skip
        readings[size] = read_readings(out.with_name("monitor"))
        (told,) = read_alarms({"s": out.with_name("monitor")})
        assert told.startswith("s, step 0: bpb/english") and "0.0000 to 1.0000" in told
        assert told.endswith("; 2 more of this score")
        scores[size] = [
            {k: v for k, v in row.items() if k.startswith(("bpb/", "score/"))}
            for row in board.rows
        ]
        assert [row["step"] for row in board.rows] == [0, 3, 7]
        assert len(load_tokenizer(out)) == 64
        assert not list(out.parent.glob("*_checkpoints/step_*"))
    one, two = found[1], found[2]
    assert two.losses == pytest.approx(one.losses, abs=1e-5)
    assert (two.num_steps, two.stopped_by) == (8, "end")
    assert two.plan.drawn_share() == one.plan.drawn_share()
    models = [load_model(tmp_path / f"on_{size}" / "out") for size in (1, 2)]
    close(*(model.state_dict() for model in models))
    unwatched = load_model(tmp_path / "unwatched").state_dict()
    assert all(torch.equal(w, unwatched[n]) for n, w in models[0].state_dict().items())
    path = tmp_path / "on_2" / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines] == [0, 3, 7] and lines[-1]["s/mfu"] > 0
    assert [len(row) for row in scores[2]] == [0, 5, 5], "four domains and a task"
    for alone, shared in zip(scores[1], scores[2], strict=True):
        assert shared == pytest.approx(alone, rel=1e-4)
    assert [r.step for r in readings[1][::5]] == [0, 3, 7], "the start, then the looks"
    assert readings[1][5].value == scores[1][1]["bpb/general_zh"]
    for alone, shared in zip(readings[1], readings[2], strict=True):
        assert (alone.step, alone.probe) == (shared.step, shared.probe)
        assert shared.value == pytest.approx(alone.value, rel=1e-4)
    assert scores[2][2]["bpb/english"] != scores[2][1]["bpb/english"]


def test_settings_from_json_are_checked():
    values = json.loads(json.dumps(dataclasses.asdict(tiny.CFG)))
    assert section(PretrainConfig, values) == tiny.CFG
    with pytest.raises(ValueError, match="PretrainConfig: .*lerning_rate"):
        section(PretrainConfig, values | {"lerning_rate": 1.0})


def test_a_rank_that_dies_is_started_again_and_resumes(bins, tmp_path, capfd):
    arguments = {
        "bins": str(bins), "checkpoints": str(tmp_path / "c"), "die_at": 9,
        "out": str(tmp_path / "weights.pt"),
    }  # fmt: skip
    log = tmp_path / "log"
    found = launch.run(TARGET, arguments, nproc=2, log_path=log, max_restarts=1)
    assert "exitcode  : 9" in log.read_text(encoding="utf-8")
    assert "a process died: all start again" in capfd.readouterr().out
    assert (tmp_path / "c" / "died").exists() and found["resumed_from"] == 8
    whole = tiny.rank_target(str(bins), str(tmp_path / "whole.pt"))
    assert found["losses"] == pytest.approx(whole["losses"], abs=1e-5)
    close(weights(tmp_path / "whole.pt"), weights(tmp_path / "weights.pt"))
