"""Copy chapter 1's picture of one direction from its stored outputs to where the README shows it.

``python tools/readme_picture.py``, after chapter 1 was run again.
"""

import base64
import json
from pathlib import Path

ROOT = Path(__file__).parent.parent
FIGURE = "fig-one-direction"


def picture() -> bytes:
    """The stored PNG of the figure."""
    cells = json.loads((ROOT / "notebooks/01_delete_the_x_names.ipynb").read_text(encoding="utf-8"))["cells"]
    (cell,) = (c for c in cells if c["metadata"].get("mystnb", {}).get("figure", {}).get("name") == FIGURE)
    (data,) = (o["data"]["image/png"] for o in cell["outputs"] if "image/png" in o.get("data", {}))
    return base64.b64decode(data)


if __name__ == "__main__":
    (ROOT / "book/_static/one_direction.png").write_bytes(picture())
