"""Bits per byte from log-likelihoods: nats of all texts / their UTF-8 bytes / ln 2."""

import math

import datasets
import evaluate


class BitsPerByte(evaluate.Metric):
    """predictions: nats of each text (minus its log-likelihood); references: the texts.

    Texts count by their bytes: a long one weighs more than a short one.
    Example: 8 ln 2 nats on "ab" and none on "中" (3 bytes) give 8 / 5.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description=type(self).__doc__,
            features=datasets.Features(
                {
                    "predictions": datasets.Value("float64"),
                    "references": datasets.Value("string"),
                }
            ),
        )

    def _compute(
        self, predictions: list[float], references: list[str]
    ) -> dict[str, float]:
        num_bytes = sum(len(text.encode("utf-8")) for text in references)
        if num_bytes == 0:
            raise ValueError("the references hold no text: nothing to divide by")
        return {"bits_per_byte": math.fsum(predictions) / num_bytes / math.log(2)}
