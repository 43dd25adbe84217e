"""The command ``sketchlearn sketch``: fill a store, also in shards."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from sketchlearn.cli.arguments import add_program
from sketchlearn.cli.output import announce
from sketchlearn.cli.programs import program_of
from sketchlearn.deletions.base import Space
from sketchlearn.deletions.examples import Examples
from sketchlearn.deletions.groups import Groups
from sketchlearn.errors import StoreError
from sketchlearn.sketching.make import sketch
from sketchlearn.sketching.open import open_sketch


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's parser."""
    making = commands.add_parser("sketch", help="sketch a training run into a store; goes on where it was stopped")
    making.add_argument("store", type=Path, help="a directory")
    making.add_argument("--directions", type=int, default=500, help="default 500")
    making.add_argument("--degree", type=int, default=3, help="default 3")
    making.add_argument("--groups", action="store_true", help="only unions of first letters can be deleted (microgpt)")
    making.add_argument("--additive", action="store_true", help="also run every example (or group) alone")
    making.add_argument("--centre", type=float, help="expand at weights lower by this fraction")
    making.add_argument("--batch-size", type=int, help="directions at once (default: what the memory holds)")
    making.add_argument("--shard", metavar="i/N", help="only the i-th part (from 0) of N independent jobs' work")
    making.add_argument("--repair", action="store_true", help="compute damaged blocks again")
    making.add_argument("--seed", type=int, default=0)
    making.set_defaults(run=run)
    add_program(making)
    return making


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run it; returns the report."""
    program = program_of(args)
    space: Space = Examples(program.num_examples)
    if args.groups:
        if program.experiment is None:
            raise ValueError("--groups are the first letters of microgpt's names; for your own program use Python.")
        space = Groups([name[0] for name in program.experiment.names])
    announce(args, program.train, space, args.degree, args.directions)
    made = sketch(
        program.train, space, args.degree, args.directions, args.seed, args.batch_size, progress=not args.quiet,
        store=args.store, additive=args.additive, centre=args.centre, shard=_shard(args.shard), repair=args.repair,
    )  # fmt: skip
    whole = True
    try:
        open_sketch(args.store, program.train, space)
    except StoreError:
        if args.shard is None:
            raise
        whole = False
    if not args.json:
        print(made if whole else f"shard {args.shard} is done; the store waits for the others.", flush=True)
    return {"store": str(args.store), "complete": whole, "sketch": repr(made)}


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    matched = re.fullmatch(r"(\d+)/(\d+)", text)
    if not matched:
        raise ValueError(f"--shard is i/N, for instance 0/4, got {text!r}.")
    return int(matched[1]), int(matched[2])
