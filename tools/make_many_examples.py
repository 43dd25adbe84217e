"""Measure many examples again and put the result into the package: python tools/make_many_examples.py FOLDER

Two to three hours on two cores. The folder keeps what was done, so an interrupted run goes on.
"""

import json
import sys
from pathlib import Path

from rounding import shortened

from sketchlearn.experiments import many_examples

DIGITS = 6
TARGET = Path(__file__).parents[1] / "sketchlearn" / "experiments" / "data" / "many_examples.json"


found = many_examples.many(sys.argv[1])
TARGET.write_text(json.dumps(shortened(found, DIGITS), indent=1) + "\n", encoding="utf-8")
