"""Measure the map of exact orders again and put it into the package: python tools/make_reach.py

About an hour on two cores. What is measured is kept at once, so an interrupted run goes on.
"""

import json
from pathlib import Path

from rounding import shortened

from sketchlearn.experiments import reach

TARGET = Path(__file__).parents[1] / "sketchlearn" / "experiments" / "data" / "reach.json"


known = json.loads(TARGET.read_text(encoding="utf-8")) if TARGET.exists() else []
for settings in reach.SETTINGS:
    if settings not in [record["settings"] for record in known]:
        known.append(shortened(reach.reach(settings), 6))
        known.sort(key=lambda record: reach.SETTINGS.index(record["settings"]))
        TARGET.write_text("[\n" + ",\n".join(map(json.dumps, known)) + "\n]\n", encoding="utf-8")
        print(settings, reach.relative_errors(known[-1]).round(2), flush=True)
