"""Put the result of a full `sketchlearn compare` into the package: python tools/store_comparison.py compare.json

Numbers are kept to eight digits, and the table of single queries, four fifths of the file, is left out.
"""

import json
import sys
from pathlib import Path

from rounding import shortened

DIGITS = 8
TARGET = Path(__file__).parents[1] / "sketchlearn" / "experiments" / "data" / "comparison.json"


found = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
if found["quick"]:
    raise SystemExit("that was a quick run, whose figures say nothing: run `sketchlearn compare` without --quick.")
worlds = {world: {k: v for k, v in report.items() if k != "per_query"} for world, report in found["worlds"].items()}
TARGET.write_text(json.dumps(shortened(worlds, DIGITS), indent=1) + "\n", encoding="utf-8")
