"""Benchmark ``evals``: is the evaluation exact, fast, and right about what changed?

``python -m tests.benchmarks.evals`` needs a finished toy course (``make course``, up to
06) and SmolLM2-135M (``finllm corpora --small``). It scores the same items with ours
and with lm-eval's HFLM at its best batch size in turn (``lm_eval``), counts how often
models of equal ability are called different (``false_alarms``), trains a stage on wrong
answers (``planted_regression``) and on exam items (``leak``), and describes the exam
(``exam``) and Bradley-Terry (``bradley_terry``). It writes ``results/evals.json``;
``--quick`` tries everything on a slice and writes nothing; ``--parts`` chooses.
"""

import os
import sys
from pathlib import Path
from statistics import mean

import numpy as np

from finllm_utils.evals.exam.items import (
    chance_level,
    read_exam,
    read_paraphrases,
    rule_results,
)
from finllm_utils.profiles import load_profile
from tests.benchmarks.evals_arms import LOWER_IS_BETTER, PLANTED, SMOLLM2, told
from tests.benchmarks.evals_checks import bradley_terry_difference, false_alarms
from tests.benchmarks.harness import alternate, call_in, print_table, timing
from tests.benchmarks.runner import Found, course_options, publish, run_parts

PARTS = (
    "lm_eval", "false_alarms", "planted_regression", "leak", "exam", "bradley_terry",
)  # fmt: skip
GOALS = {
    "max_diff_to_lm_eval": "<= 0.0001", "ratio_to_lm_eval": ">= 1.5",
    "false_alarm_rate": "<= 0.065", "planted_regression_caught": ">= 1",
    "honest_stage_called_worse": "<= 0", "leaked_flagged": ">= 1",
    "exam_items": ">= 360", "exam_longest_over_chance": "<= 0.05",
    "bradley_terry_max_diff_to_choix": "<= 0.000001",
}  # fmt: skip
LM_EVAL_BATCHES = (1, 8, 32)
"""Its "auto" looks for the largest that fits, which is slow on a CPU."""
SHORT_NAMES = {"sft2": "sft2", SMOLLM2: "smollm2"}


class Bench:
    """The parts; each returns figures and how they came about."""

    def __init__(self, folder: Path, profile: str, quick: bool) -> None:
        self.folder, self.profile, self.quick = folder, profile, quick
        self.batch_tokens = load_profile(profile).evals.batch_tokens

    def call(self, function: str, *args: object) -> dict:
        """One arm in a process of its own, with all cores."""
        cores = str(os.cpu_count())
        return call_in(
            sys.executable, f"tests.benchmarks.evals_arms:{function}",
            self.folder, *args,
            OMP_NUM_THREADS=cores, MKL_NUM_THREADS=cores, HF_HUB_OFFLINE="1",
        )  # fmt: skip

    def lm_eval(self) -> Found:
        """Two models; ``ratio_to_lm_eval`` is the smaller of the two ratios."""
        figures, notes = {}, {"batch_tokens_ours": self.batch_tokens}
        plans = {
            "sft2": ("mixed", 8 if self.quick else 66, 1 if self.quick else 5),
            SMOLLM2: ("four", 2 if self.quick else 24, 1 if self.quick else 5),
        }
        for name, (kind, number, rounds) in plans.items():
            found, said = self._against(name, kind, number, rounds)
            figures |= {f"{key}_{SHORT_NAMES[name]}": v for key, v in found.items()}
            notes[name] = said
        whole = 4 if self.quick else 1_000
        row = self.call("score", SMOLLM2, "ours", "four", whole, self.batch_tokens)
        notes["whole"] = {
            "items": whole,
            "wall_s": row["wall_s"],
            "cpu_s": row["cpu_s"],
        }
        both = list(SHORT_NAMES.values())
        return figures | {
            "max_diff_to_lm_eval": max(figures[f"max_diff_{n}"] for n in both),
            "ratio_to_lm_eval": min(figures[f"ratio_{n}"] for n in both),
            "items_per_s_smollm2": whole / row["wall_s"],
            "seconds_1000_items_smollm2": row["wall_s"] * 1_000 / whole,
        }, notes  # fmt: skip

    def _against(self, name: str, kind: str, number: int, rounds: int) -> Found:
        """Ours and lm-eval in turn, after lm-eval has tried its batch sizes."""
        tried = LM_EVAL_BATCHES[:1] if self.quick else LM_EVAL_BATCHES
        args = (kind, number)
        speeds = {
            batch: self.call("score", name, "lm_eval", *args, batch)["items_per_s"]
            for batch in tried
        }
        best = max(speeds, key=speeds.__getitem__)
        batches = {"ours": self.batch_tokens, "lm_eval": best}
        rows = alternate(
            {
                who: lambda who=who: self.call("score", name, who, *args, batches[who])
                for who in batches
            },
            rounds,
        )
        rates = {who: timing(found, "items_per_s") for who, found in rows.items()}
        gaps = [
            np.abs(np.subtract(ours, theirs)).max()
            for ours, theirs in zip(
                *(rows[who][0]["nats"] for who in batches), strict=True
            )
        ]
        figures = {
            "max_diff": float(max(gaps)),
            "ratio": rates["ours"].median / rates["lm_eval"].median,
        }
        return figures, {
            "items": len(gaps), "kind": kind, "rounds": rounds,
            "lm_eval_batch": best, "lm_eval_tried": speeds,
            **{who: list(rate.values) for who, rate in rates.items()},
        }  # fmt: skip

    def false_alarms(self) -> Found:
        """On the credits of three stages; the largest of the four rates counts."""
        models = ("sft1", "sft2") if self.quick else ("sft1", "sft2", SMOLLM2)
        number, repeats = (24, 40) if self.quick else (396, 2_000)
        rows = {m: self.call("credits", m, number, self.batch_tokens) for m in models}
        shared = set.intersection(*(set(r["credits"]) for r in rows.values()))
        credits = {
            m: [r["credits"][i] for i in sorted(shared)] for m, r in rows.items()
        }
        rates = false_alarms(credits, repeats, seed=0)
        notes = {m: {"mean": mean(c)} for m, c in credits.items()}
        notes |= {"items": len(shared), "repeats": repeats}
        figures = {f"false_alarms.{name}": rate for name, rate in rates.items()}
        return figures | {"false_alarm_rate": max(rates.values())}, notes

    def planted_regression(self) -> Found:
        """Stage 2 as it is and with each fault, against sft1 and against each other."""
        arms = {
            planted: self.call("regression", self.profile, planted, self.quick)
            for planted in PLANTED
        }
        figures, notes = {}, {}
        for planted, arm in arms.items():
            words = arm["words"]
            notes[planted] = {"steps": arm["steps"], **words}
            for measure in LOWER_IS_BETTER:
                change = words[measure]["change"]
                figures[f"regression.{planted}.{measure}"] = change
            figures[f"regression.{planted}.worse"] = float(
                words["answers"]["word"] == "worse"
            )
            if planted != "honest":
                notes[f"{planted} against honest"] = told(
                    arms["honest"]["scores"], arm["scores"]
                )
        return figures | {
            "planted_regression_caught": figures["regression.labels.worse"],
            "honest_stage_called_worse": figures["regression.honest.worse"],
        }, notes

    def leak(self) -> Found:
        """Items, paraphrases and other items before and after the leak."""
        row = self.call("leak", self.profile, self.quick)
        shares = {
            f"leak.{key}": value
            for key, value in row.items()
            if key.endswith(("_before", "_after"))
        }
        notes = {key: row[key] for key in ("said", "epochs", "rows", "items")}
        return shares | {"leaked_flagged": float(row["flagged"])}, notes

    def exam(self) -> Found:
        """Size, chance and what rules of form earn."""
        items = read_exam()
        single = [one for one in items if one.type == "single"]
        longest = mean(r.credit for r in rule_results(items, "longest option"))
        figures = {
            "exam_items": len(items),
            "exam_single": len(single),
            "exam_multiple": sum(one.type == "multiple" for one in items),
            "exam_true_false": sum(one.type == "true_false" for one in items),
            "exam_paraphrases": len(read_paraphrases(items)),
            "exam_chance": chance_level(items),
            "exam_longest_over_chance": longest - chance_level(single),
        }
        return figures, {"subjects": len({one.subject for one in items})}

    def bradley_terry(self) -> Found:
        """Largest difference of a log strength to choix."""
        models, trials = 5, 2 if self.quick else 20
        found = bradley_terry_difference(models, trials, seed=0)
        notes = {"models": models, "tables": trials, "wins a pair": "1 to 29"}
        return {"bradley_terry_max_diff_to_choix": found}, notes


def main() -> None:
    """Runs the parts and writes the result file."""
    asked = course_options(__doc__, PARTS, "06_sft/sft2")
    bench = Bench(asked.run, asked.profile, asked.quick)
    figures, runs = run_parts(bench, asked.parts)
    print_table(figures, GOALS)
    if asked.quick:
        print(runs)
        return
    packages = ("torch", "transformers", "lm-eval", "choix")
    publish("evals", (figures, runs), packages, beside=True)


if __name__ == "__main__":
    main()
