"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_out(command: argparse.ArgumentParser) -> None:
    """Where a command writes its picture and its numbers."""
    command.add_argument("--out", type=Path, default=Path("."), help="directory for the files (default: here)")


def add_microgpt(command: argparse.ArgumentParser) -> None:
    """Which microgpt is trained, and what is asked of it."""
    command.add_argument("--names", help="a file of names, or 'paper' to download the paper's list")
    command.add_argument("--examples", type=int, default=1000, help="training names and steps (default 1000)")
    command.add_argument("--query", default="max", help="the test name (default max)")
    command.add_argument("--seed", type=int, default=0)


def add_program(command: argparse.ArgumentParser) -> None:
    """Which program is trained: microgpt, or one that the user names."""
    command.add_argument("--names", help="a file of names, or 'paper' to download the paper's list")
    command.add_argument("--examples", type=int, help="training examples (default 1000 for microgpt)")
    command.add_argument(
        "--train",
        metavar="MODULE:NAME",
        help="your own training program in place of microgpt: weights -> parameters",
    )


def add_printing(command: argparse.ArgumentParser) -> None:
    """How a command prints."""
    command.add_argument("--json", action="store_true", help="print the numbers as JSON")
    command.add_argument("--quiet", action="store_true", help="no progress bars, no estimates beforehand")
