"""A reward made of rules: texts in, scores out, and a table of what moved.

A rule is a plain function from an answer's text to a number from 0 to 1. PPO finds
every gap in a rule, so they come in a set: a disclosure counts once, what else the
answer says must have a length, and saying things again costs. ``on_answers`` makes
token sequences of PPO into texts; ``combined`` adds a reward model (rule-plus-model).
Whether an answer reached EOS, PPO itself asks (``ppo.missing_eos_penalty``).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from finllm_utils.finance.compliance import (
    disclosures,
    promises,
    without_disclosures,
)
from finllm_utils.rlhf.policy_report import repeated_share
from finllm_utils.rlhf.ppo import RewardFunction

Rule = Callable[[str], float]
TextReward = Callable[[Sequence[str]], np.ndarray]
_HAN = re.compile(r"[\u4e00-\u9fff]")


def discloses_risk(answer: str) -> float:
    """1 with at least one recognised disclosure; a second one earns nothing."""
    return float(bool(disclosures(answer)))


def promises_nothing(answer: str) -> float:
    """1 without a promise of safety or profit; a denied one (不保本) is none."""
    return float(not promises(answer))


def ends_in_full(answer: str) -> float:
    """1 when the last character ends a sentence."""
    return float(answer.rstrip().endswith(("。", "！", "？", "!", "?")))


def says_it_once(answer: str) -> float:
    """1 minus the share of character pairs that were there before."""
    return 1.0 - repeated_share(answer)


def says_enough(fewest: int, most: int) -> Rule:
    """A rule: 1 with ``fewest`` to ``most`` Han characters outside disclosures.

    Without it an answer that is a disclosure and nothing else would be the best.
    """
    if not 0 <= fewest <= most:
        raise ValueError(
            f"says_enough({fewest}, {most}): give two counts, the smaller first"
        )

    def rule(answer: str) -> float:
        count = len(_HAN.findall(without_disclosures(answer)))
        return float(fewest <= count <= most)

    return rule


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleReward:
    """The weighted sum of rules, called with texts."""

    rules: Mapping[str, Rule]
    """Name and function of each rule."""
    weights: Mapping[str, float]
    """What a rule's 1 is worth, by the same names."""

    def __post_init__(self) -> None:
        if not self.rules or set(self.rules) != set(self.weights):
            raise ValueError(
                f"rules {sorted(self.rules)} and weights {sorted(self.weights)} must "
                "have the same names, at least one: give each rule its weight"
            )

    def figures(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """What each rule says of each text, (N,) float64 by name, without weights."""
        return {
            name: np.array([rule(text) for text in texts], dtype=np.float64)
            for name, rule in self.rules.items()
        }

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """The score of each text, (N,) float64."""
        figures = self.figures(texts)
        return sum(self.weights[name] * values for name, values in figures.items())


def compliance_reward(fewest: int = 8, most: int = 40) -> RuleReward:
    """Discloses, promises nothing, and is otherwise a whole answer; 0 to 6.5.

    Args: fewest, most: Han characters of the answer outside its disclosure.
    """
    rules = {
        "discloses_risk": discloses_risk,
        "promises_nothing": promises_nothing,
        "ends_in_full": ends_in_full,
        "says_it_once": says_it_once,
        "says_enough": says_enough(fewest, most),
    }
    weights = dict.fromkeys(rules, 1.0) | {"discloses_risk": 3.0, "ends_in_full": 0.5}
    return RuleReward(rules=rules, weights=weights)


def answer_texts(
    tokenizer: PreTrainedTokenizerBase, sequences: Sequence[Sequence[int]]
) -> list[str]:
    """The text behind the first opening of an answer, without the EOS at its end.

    Special tokens stay visible: a policy must not hide them inside a phrase.
    Raises: ValueError for a sequence in which no answer is opened.
    """
    opening = _opening(tokenizer)
    texts = []
    for number, ids in enumerate(sequences):
        ids = list(ids)
        starts = range(len(ids) - len(opening) + 1)
        begin = next((i for i in starts if ids[i : i + len(opening)] == opening), None)
        if begin is None:
            raise ValueError(
                f"sequence {number} opens no answer ({tokenizer.decode(opening)!r}): "
                "give prompt and answer in the model's chat template"
            )
        answer = ids[begin + len(opening) :]
        if answer and answer[-1] == tokenizer.eos_token_id:
            answer.pop()
        texts.append(tokenizer.decode(answer).strip())
    return texts


def _opening(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids with which the chat template opens an answer."""
    asked, opened = (
        tokenizer.apply_chat_template(
            [{"role": "user", "content": "?"}],
            add_generation_prompt=flag,
            tokenize=True,
            return_dict=False,
        )
        for flag in (False, True)
    )
    if opened[: len(asked)] != asked or len(opened) == len(asked):
        raise ValueError(
            "the chat template does not mark where an answer begins "
            "(add_generation_prompt changes nothing behind the question): rules need "
            "the tokenizer of 02_vocab_expansion or another template with such a mark"
        )
    return list(opened[len(asked) :])


def on_answers(
    tokenizer: PreTrainedTokenizerBase, reward: TextReward
) -> RewardFunction:
    """``reward`` as PPO calls it: from token sequences to the scores of the answers."""
    return lambda sequences: reward(answer_texts(tokenizer, sequences))


def combined(
    rule_reward: RewardFunction, model_reward: RewardFunction, weight: float
) -> RewardFunction:
    """Rule-plus-model: the rules' score plus ``weight`` times the reward model's.

    Args: model_reward is normalised (``RewardStats.normalised``), so that weight is
    what one standard deviation of the chat model's answers is worth in rules.
    Raises: ValueError for a negative weight, which would reward bad answers.
    """
    if not weight >= 0:
        raise ValueError(f"weight={weight}: give 0 or more; 0 leaves the rules alone")

    def score(sequences: list[list[int]]) -> np.ndarray:
        by_rule, by_model = rule_reward(sequences), model_reward(sequences)
        if np.shape(by_rule) != np.shape(by_model):
            raise ValueError(
                f"rules gave scores of shape {np.shape(by_rule)}, the model "
                f"{np.shape(by_model)}: both must give one number a sequence"
            )
        return np.asarray(by_rule + weight * np.asarray(by_model), dtype=np.float64)

    return score
