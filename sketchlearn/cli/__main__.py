"""``python -m sketchlearn.cli``: the command line."""

from sketchlearn.cli.main import main

raise SystemExit(main())
