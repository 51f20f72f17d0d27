"""Exact match of letter sets: an answer to a multi-select item is right as a whole."""

import re
import unicodedata

import datasets
import evaluate


class ExactLetterSet(evaluate.Metric):
    """predictions and references: letters of chosen options, as "ABD" or "b、 a".

    Order, repetition, case, blanks and punctuation do not count; anything else beside
    the letters A to H makes a prediction wrong, so read free text into letters first.
    Example: "D, A" for "AD" is right, "A" and "ABD" are not.
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
        wanted = [self._letters(text) for text in references]
        for text, letters in zip(references, wanted, strict=True):
            if not letters or letters - set("ABCDEFGH"):
                raise ValueError(f"reference {text!r}: give letters from A to H")
        right = [
            self._letters(text) == letters
            for text, letters in zip(predictions, wanted, strict=True)
        ]
        return {"exact_letter_set": sum(right) / len(right)}

    @staticmethod
    def _letters(text: str) -> set[str]:
        whole = unicodedata.normalize("NFKC", text).upper()
        return set(re.sub(r"[\W_]", "", whole))
