"""Character F1 for short Chinese answers: the overlap of two texts, order left out.

SQuAD's F1 with characters for words (Rajpurkar et al., arXiv 1606.05250, section 6.1):
precision and recall of the multiset of characters after NFKC, in lower case, without
blanks and punctuation. Differs from CMRC 2018 (arXiv 1810.07366), whose F1 takes the
longest common substring: "丙乙甲" scores 1 against "甲乙丙" here.
"""

import collections
import re
import unicodedata

import datasets
import evaluate


class CharacterF1(evaluate.Metric):
    """predictions and references: texts; the result is the mean over the pairs.

    Two empty texts agree (1); an empty one against another gives 0.
    Example: "年利率3.5%" against "利率为3.5%" shares 利率35, of 5 characters each: 0.8.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description=type(self).__doc__,
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.Value("string"),
                }
            ),
        )

    def _compute(
        self, predictions: list[str], references: list[str]
    ) -> dict[str, float]:
        scores = [
            self._f1(self._characters(given), self._characters(wanted))
            for given, wanted in zip(predictions, references, strict=True)
        ]
        return {"character_f1": sum(scores) / len(scores)}

    @staticmethod
    def _characters(text: str) -> collections.Counter:
        whole = unicodedata.normalize("NFKC", text).lower()
        return collections.Counter(re.sub(r"[\W_]", "", whole))

    @staticmethod
    def _f1(given: collections.Counter, wanted: collections.Counter) -> float:
        total = given.total() + wanted.total()
        return 2 * (given & wanted).total() / total if total else 1.0
