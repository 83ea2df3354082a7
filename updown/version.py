"""The version, alone so that nothing else need be imported to print it."""

from __future__ import annotations

VERSION = "0.1.0"
