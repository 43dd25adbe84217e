"""The command line: ``sketchlearn demo | figure 1|2|3 | sketch | predict | plan | compare | doctor``."""

from __future__ import annotations

import argparse
import json
import sys

from sketchlearn.cli import compare, demo, doctor, figure, plan, predict, sketch
from sketchlearn.cli.arguments import add_printing
from sketchlearn.cli.output import VERSION, plain
from sketchlearn.errors import StoreError, UnsupportedPrimitive
from sketchlearn.runtime.paths import directory

COMMANDS = (demo, figure, plan, sketch, predict, compare, doctor)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return 2
    try:
        if hasattr(args, "out"):
            args.out = directory("--out", args.out)  # before the computation, not after it
        report = args.run(args)
    except (ValueError, TypeError, OSError, LookupError, FloatingPointError, StoreError, UnsupportedPrimitive) as error:
        # a KeyError prints its message in quotes
        print(f"sketchlearn: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(report, indent=1, default=plain))
    return 0 if report.get("ok", True) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sketchlearn", description="Sketch a training run; predict any deletion.")
    parser.add_argument("--version", action="version", version=f"sketchlearn {VERSION}")
    commands = parser.add_subparsers(dest="command")
    for command in COMMANDS:
        add_printing(command.add(commands))
    return parser
