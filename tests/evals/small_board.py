"""A small board with planted changes, from item results as the suites leave them."""

from finllm_utils.evals.report.scoreboard import Entrant, Measure, Measured, Scoreboard
from finllm_utils.evals.report.scoreboard_build import build_scoreboard
from finllm_utils.evals.statistics.item_results import ItemResult
from finllm_utils.evals.statistics.paired_scores import document_scores, item_scores

RESAMPLING = {"num_bootstrap": 200, "seed": 0}
EVIL = "<script>alert('x')</script> | `a` **b** [c](http://x.example)"
NUM_ITEMS = 40

ENTRANTS = [
    Entrant(name="base", stage="base", num_parameters=9_000_000),
    Entrant(name="sft2", stage="tuning", num_parameters=9_000_000),
    Entrant(name="ppo", stage="alignment", num_parameters=9_000_000),
    Entrant(name="other", residency="cloud", price_per_1000=2.5),
]
MEASURES = [
    Measure(
        name="exam",
        title="Finance exam",
        axis="finance",
        baseline=0.25,
        baseline_name="chance",
        ceiling=1.0,
    ),
    Measure(
        name="dialogue",
        title="Dialogue rules",
        axis="dialogue",
        baseline=0.0,
        baseline_name="an empty answer",
        ceiling=1.0,
    ),
    Measure(name="english", title="English bpb", lower_is_better=True, retention=True),
]
RIGHT = {
    ("exam", "base"): 10,
    ("exam", "sft2"): 30,
    ("exam", "ppo"): 12,  # planted: 18 items lost, none gained
    ("exam", "other"): 28,
    ("dialogue", "base"): 4,
    ("dialogue", "sft2"): 30,
    ("dialogue", "ppo"): 31,
}
"""The first so many of the items are right, so changes can be counted by hand."""
NATS = {"base": 2.0, "sft2": 3.0, "ppo": 3.0}


def results(measure: str, model: str, num_right: int, num: int = NUM_ITEMS):
    """Item results: the first right, the rest wrong."""
    return [
        ItemResult(
            suite=measure,
            model=model,
            item=f"{measure}/{i:03d}",
            credit=float(i < num_right),
            given="B" if i < num_right else f"{EVIL} {model}",
            expected="B",
        )
        for i in range(num)
    ]


def failed(one: ItemResult) -> ItemResult:
    """The same item, when an endpoint did not answer."""
    return ItemResult(
        suite=one.suite, model=one.model, item=one.item, credit=0.0,
        expected=one.expected, status="failed", detail="timed out",
    )  # fmt: skip


def questions(measure: str) -> dict[str, str]:
    return {f"{measure}/{i:03d}": f"题目 {i} {EVIL}" for i in range(NUM_ITEMS)}


def small_measured(right: dict = RIGHT, nats: dict = NATS) -> list[Measured]:
    """All scores; the reference could not be asked the last two exam items."""
    measured = []
    for (measure, model), num_right in right.items():
        rows = results(measure, model, num_right)
        if model == "other":
            rows[-2:] = map(failed, rows[-2:])
        measured.append(
            Measured(
                measure=measure,
                model=model,
                scores=item_scores(rows, questions(measure)),
                command=f"score {measure} --models all",
            )
        )
    for model, per_byte in nats.items():
        sizes = [50 + i for i in range(20)]
        scores = document_scores(
            [f"heldout/{i}" for i in sizes],
            [size * (per_byte + 0.01 * (size % 3)) for size in sizes],
            sizes,
        )
        measured.append(
            Measured(measure="english", model=model, scores=scores, command="score bpb")
        )
    return measured


def small_board(measured: list[Measured] | None = None, **more) -> Scoreboard:
    return build_scoreboard(
        ENTRANTS, MEASURES, measured or small_measured(), **RESAMPLING, **more
    )
