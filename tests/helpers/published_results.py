"""The results in docs/results, and how their numbers are printed."""

import json
from statistics import mean, stdev

from commandline import ROOT

RESULTS = ROOT / "docs" / "results"
CONVERGED = {  # student of docs/ferplus.md -> results; those of later rows may be missing
    "MicroExpNet XXS, labels alone": "microexpnet-100-ce",
    "MicroExpNet XXS, from the ensemble": "microexpnet-100-distilled",
    "FerLite S, labels alone": "ferlite-s-ce",
    "FerLite S, from the ensemble": "ferlite-s-distilled",
    "FerLite M, labels alone": "ferlite-m-ce",
    "FerLite M, from the ensemble": "ferlite-m-distilled",
    "MicroExpNet XXS, labels alone, then rare classes": "microexpnet-100-ce-rare",
    "MicroExpNet XXS, from the ensemble, then rare classes": "microexpnet-100-distilled-rare",
    "FerLite S, labels alone, then rare classes": "ferlite-s-ce-rare",
    "FerLite S, from the ensemble, then rare classes": "ferlite-s-distilled-rare",
    "FerLite M, labels alone, then rare classes": "ferlite-m-ce-rare",
    "FerLite M, from the ensemble, then rare classes": "ferlite-m-rare",
    "FerLite L, 40 epochs": "ferlite-l",
    "FerLite L, 40 epochs, then rare classes": "ferlite-l-rare",
    "FerLite S, 300 epochs": "ferlite-s-distilled-300",
    "FerLite S, 300 epochs, then rare classes": "ferlite-s-rare",
    "FerLite S at 64 px, for rare classes": "ferlite-s64-rare",
    "FerLite S at 64 px, for rare classes, then 40 epochs": "ferlite-s64-more",
    "FerLite M at 64 px, for rare classes": "ferlite-m64-rare",
    "MicroExpNet XXS, then 40 epochs": "microexpnet-100-distilled-more",
    "FerLite S, from the ensemble, 8 stored views": "ferlite-s-distilled-views-8",
    "FerLite S, labels alone, 8 views": "ferlite-s-ce-8-views",
    "CERN at half width, 48 px, labels alone": "cern-mild-ce",
    "CERN at half width, 48 px, from FerLite L": "cern-mild",
    "CERN at half width, 48 px, from FerLite L, then rare classes": "cern-mild-rare",
    "MicroExpNet XXS in milder views, labels alone": "microexpnet-mild-ce",
    "MicroExpNet XXS in milder views, from FerLite M": "microexpnet-mild",
    "MicroExpNet XXS in milder views, from FerLite M, then rare classes": "microexpnet-mild-rare",
}


def seeds(name: str) -> list[dict]:
    """Return a result of docs/results and its further seeds, the first one first."""
    paths = [RESULTS / f"ferplus-{name}.json", *sorted(RESULTS.glob(f"ferplus-{name}-seed?.json"))]
    found = [json.loads(path.read_text()) for path in paths]
    first = 1 if name.endswith("8-views") else 0  # one run, made as a second seed
    assert [result["seed"] for result in found] == list(range(first, first + len(found)))
    return found


def spread(values, digits: int = 2) -> str:
    """Return a mean over seeds in percent, with the standard deviation where there are several."""
    values = [100 * value for value in values]
    return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")
