"""The Pythons at hand, and virtual environments of them with what the tests need."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import TOP
from tests.vm import cache
from tests.vm.debian import Missing

ASK = "import platform, sys; print(*sys.version_info[:3], sys.version_info[3], platform.python_implementation())"
STAMP = "tests-have"


@dataclass(frozen=True, order=True)
class Python:
    version: tuple[int, ...]
    path: str

    @property
    def name(self) -> str:
        return ".".join(str(number) for number in self.version)


def oldest_supported() -> tuple[int, ...]:
    wanted = _setup()["options"]["python_requires"]
    return tuple(int(number) for number in wanted.lstrip(">=").split("."))


def requirements(*extras: str) -> list[str]:
    """What setup.cfg asks for, as it asks for it."""
    setup = _setup()
    texts = [setup["options"]["install_requires"]] + [setup["options.extras_require"][extra] for extra in extras]
    return [line for text in texts for line in text.split("\n") if line]


def oldest_pyroute2() -> str:
    """setup.cfg's lower bound, as a requirement of just that version."""
    (wanted,) = [line for line in requirements() if line.startswith("pyroute2")]
    found = re.search(r">=\s*([0-9.]+)", wanted)
    if found is None:
        raise Missing("setup.cfg names no oldest pyroute2 (pyroute2>=...)")
    return f"pyroute2=={found.group(1)}"


def at_hand() -> list[Python]:
    """The released CPythons here that we support, oldest first, one of each minor version."""
    found: dict[tuple[int, ...], Python] = {}
    for path in _candidates():
        python = _ask(path)
        if python and python.version >= oldest_supported():
            found.setdefault(python.version[:2], python)
    return sorted(found.values())


def default() -> Python:
    """The Python for .venv: Debian's own where it will do, else the first on PATH."""
    for path in ("/usr/bin/python3", "python3"):
        python = _ask(path)
        if python and python.version >= oldest_supported():
            return python
    raise Missing("no Python of a version that setup.cfg supports: apt-get install python3 python3-venv")


def environment(folder: Path, python: Python, wanted: Sequence[str]) -> str:
    """The interpreter of a virtual environment in folder that has what is wanted; made or completed when needed."""
    interpreter = folder / "bin/python"
    stamp = folder / STAMP
    content = "\n".join([python.name, *sorted(wanted)]) + "\n"
    if stamp.exists() and stamp.read_text() == content and interpreter.exists():
        return str(interpreter)
    print(f"making {folder} with Python {python.name}: {', '.join(wanted)}", flush=True)
    existing = _ask(str(interpreter)) if interpreter.exists() else None
    if existing is None or existing.version != python.version:
        _call([python.path, "-m", "venv", "--clear", str(folder)], "can Debian's python3-venv be installed?")
    pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", *wanted]
    _call(pip, "is this machine offline?")
    stamp.write_text(content)
    return str(interpreter)


def kept(python: Python, pyroute2: str) -> str:
    """The interpreter of a virtual environment in the cache: this Python with this pyroute2."""
    name = re.sub(r"[^a-z0-9.]+", "-", f"python{python.name}-{pyroute2}")
    (cache.folder() / "venvs").mkdir(exist_ok=True)
    with cache.locked(name):
        others = [line for line in requirements("test") if not line.startswith("pyroute2")]
        return environment(cache.folder() / "venvs" / name, python, [*others, pyroute2])


def _candidates() -> list[str]:
    names = [f"python3.{minor}" for minor in range(30)]
    folders = [Path(folder) for folder in os.environ.get("PATH", "/usr/bin").split(":") if folder]
    root = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    pyenv = sorted(str(path) for path in Path(root).glob("versions/*/bin/python3"))
    plain = [str(folder / name) for folder in folders if "shims" not in folder.parts for name in names]
    return [default().path, *(path for path in plain if os.access(path, os.X_OK)), *pyenv]


def _ask(path: str) -> Python | None:
    """What the interpreter says it is; None for one that does not work, is no CPython or not released."""
    try:
        said = subprocess.run([path, "-I", "-c", ASK], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        return None
    words = said.stdout.split()
    if said.returncode or words[3:] != ["final", "CPython"]:
        return None
    return Python(tuple(int(word) for word in words[:3]), path)


def _setup() -> configparser.ConfigParser:
    setup = configparser.ConfigParser()
    setup.read(TOP / "setup.cfg")
    return setup


def _call(command: Sequence[str], question: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        print(done.stdout, flush=True)
        raise Missing(f"`{' '.join(command)}` ended with status {done.returncode} (its output is above): {question}")
