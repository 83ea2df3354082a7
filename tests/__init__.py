"""The tests; where the checkout is."""

from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
