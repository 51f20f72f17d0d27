"""Functions started in this process and on two real gloo processes."""

import pytest

from finllm_utils import launch


def double(number: int) -> int:
    return 2 * number


TARGETS = '''"""Functions that other processes can import."""

import torch
import torch.distributed as dist


def add_ranks(base: float) -> dict:
    """The sum over all ranks of base + rank, from rank 0."""
    value = torch.tensor(base + dist.get_rank())
    dist.all_reduce(value)
    print(f"rank {dist.get_rank()} of {dist.get_world_size()}", flush=True)
    return {"sum": value.item()}


def fail() -> None:
    """Fails on one rank only."""
    if dist.get_rank() == 1:
        raise RuntimeError("the second rank lost its data")
'''


@pytest.fixture
def targets(tmp_path, monkeypatch):
    (tmp_path / "launch_targets.py").write_text(TARGETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "launch_targets"


def test_one_process_is_a_call():
    assert launch.run(double, {"number": 4}) == 8
    assert launch.run("finllm_utils.launch:_resolve", {"target": "math:sqrt"})(9) == 3


def test_two_gloo_processes_agree_and_the_log_is_kept(targets, tmp_path, capfd):
    log = tmp_path / "logs" / "train.log"
    result = launch.run(f"{targets}:add_ranks", {"base": 10.0}, nproc=2, log_path=log)
    assert result == {"sum": 21.0}
    text = log.read_text()  # two ranks may write into one line
    assert "rank 0 of 2" in text and "rank 1 of 2" in text


def test_a_failing_rank_raises_with_the_last_lines(targets, tmp_path):
    with pytest.raises(RuntimeError, match="the second rank lost its data") as caught:
        launch.run(f"{targets}:fail", nproc=2, log_path=tmp_path / "a.log")
    assert "failed on 2 processes" in str(caught.value)
    assert str(tmp_path / "a.log") in str(caught.value)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("math", {}, 'write "module:function"'),
        ("math:no_such", {}, "no attribute 'no_such'"),
        ("no_such_module:x", {}, "No module named 'no_such_module'"),
        (double, {"nproc": 0}, "use 1 .this process. or more"),
        (lambda: 1, {"nproc": 2}, "put it into a module"),
        (
            "math:sqrt",
            {"nproc": 2, "kwargs": {"x": object()}},
            "arguments must be JSON",
        ),
    ],
)
def test_wrong_targets_are_explained(target, options, message):
    with pytest.raises(ValueError, match=message):
        launch.run(target, **options)
