"""What jobs that run side by side print: whole lines, each with a label."""

from __future__ import annotations

import threading

_print_lock = threading.Lock()


class Lines:
    """Prints what arrives in pieces as whole lines with a label before each."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._rest = b""

    def take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            say(self._label, line.decode(errors="replace").rstrip("\r"))

    def finish(self) -> None:
        if self._rest:
            self.take(b"\n")


def say(label: str, text: str) -> None:
    with _print_lock:
        print(f"[{label}] {text}", flush=True)
