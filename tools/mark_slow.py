"""Write tests/slow.txt, the tests that plain ``pytest`` leaves out, from the durations of a whole run.

    python -m pytest -n 2 --dist loadfile -m "" --durations=0 --durations-min=0.005 -vv tests sketchlearn > run.log
    python tools/mark_slow.py run.log

The quickest tests are kept until the time of two workers is used up. A log of plain ``pytest -n 2`` refines the list: a
test that is not in it stays as it was. (What one test compiles another need not, so that leaving tests out makes others
slower: once or twice more, and two minutes are reached.)
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

BUDGET = 90.0  # seconds of two workers together; collecting, importing and compiling anew take the rest
TARGET = Path(__file__).parents[1] / "tests" / "slow.txt"


def durations(log: str) -> dict[str, float]:
    """Seconds of each test, with what its fixtures take in it."""
    found: dict[str, float] = defaultdict(float)
    for seconds, _, name in re.findall(r"^([0-9.]+)s (call|setup|teardown) +(.+)$", log, re.MULTILINE):
        found[name.strip()] += float(seconds)
    return found


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    measured = durations(Path(sys.argv[1]).read_text(encoding="utf-8"))
    before = TARGET.read_text(encoding="utf-8").split("\n") if TARGET.exists() else []
    total, slow = 0.0, [name for name in before if name and name not in measured]
    for name, seconds in sorted(measured.items(), key=lambda x: x[1]):
        total += seconds
        if total > BUDGET:
            slow.append(name)
    TARGET.write_text("\n".join(sorted(slow)) + "\n", encoding="utf-8")
    print(f"{len(slow)} tests are slow; the others take {min(total, BUDGET):.0f} s")


if __name__ == "__main__":
    main()
