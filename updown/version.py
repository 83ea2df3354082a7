"""The version, alone so that nothing else need be imported to print it."""

VERSION = "0.1.0"
