"""Put the result of a full `sketchlearn compare` into the package: python tools/store_comparison.py compare.json

Numbers are kept to eight digits, and the table of single queries, four fifths of the file, is left out.
"""

import json
import sys
from pathlib import Path

DIGITS = 8
TARGET = Path(__file__).parents[1] / "sketchlearn" / "experiments" / "data" / "comparison.json"


def shortened(value):
    if isinstance(value, dict):
        return {key: shortened(v) for key, v in value.items() if key != "per_query" or not isinstance(v, list)}
    if isinstance(value, list):
        return [shortened(v) for v in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


found = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
if found["quick"]:
    raise SystemExit("that was a quick run, whose figures say nothing: run `sketchlearn compare` without --quick.")
TARGET.write_text(json.dumps(shortened(found["worlds"]), indent=1) + "\n", encoding="utf-8")
