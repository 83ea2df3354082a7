"""Where tests with real kernels and daemons run: each release's root, on its own kernel or another's; and what runs in each."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tests import TOP
from tests.vm import files, ground, guest, releases, roots, strongswan
from tests.vm.jobs import FULL_SILENCE_SECONDS, LEAN, SILENCE_SECONDS, Job, width
from tests.vm.printed import say
from tests.vm.releases import Release
from tests.vm.roots import Root

ELSEWHERE = {"daemon": "daemon/*", "kernel": "kernel/recordings"}
"""What of a layer other releases run than this machine's, where no file is asked for."""
BRIEFLY = {"daemon": "daemon/demonstration", "kernel": "kernel/recordings"}
RECORDED = {"trixie": "libreswan-5.2 or strongswan-6.0.1"}
"""In a run of all releases that is not the full one, and has 45 minutes: the demonstration, and of the recordings those of
the release's own daemons."""
ALONE_IN_A_GUEST = ("test_three_sites",)  # with two processors
REAL = ("kernel", "daemon", "bench")  # need a kernel with VTI and IPsec


@dataclass(frozen=True)
class Place:
    root: Root
    kernel: Root | None = None
    """Another whose kernel the guest boots."""
    brief: bool = False
    """Whether only what each run has room for runs there."""

    @property
    def main(self) -> bool:
        """Whether it is this machine's root and kernel, where everything runs."""
        return self.root.own and self.kernel is None


def places(
    layers: Sequence[str], full: bool, only: Sequence[str] | None, kernel: str | None, chosen: files.Chosen
) -> list[Place]:
    """Those of a run, this machine's first; their roots and kernels, and what their guests need, are there then."""
    if not set(layers) & set(REAL):
        return []
    found = [roots.prepare(release) for release in chosen_releases(full, only, chosen)]
    kernels = roots.prepare(releases.named(kernel)) if kernel else None
    result = pairs(found, full and not only and not chosen, kernels)
    if not (full or only or chosen):
        result = [replace(place, brief=not place.main) for place in result]
    _make_ready(layers, result)
    return result


def pairs(found: Sequence[Root], every: bool, kernel: Root | None = None) -> list[Place]:
    """Each root on its own kernel, or on this one; or each on every other's as well."""
    if kernel:
        return [Place(root, None if root == kernel else kernel) for root in found]
    others = [Place(root, other) for root in found for other in found if root != other and every]
    return [*(Place(root) for root in found), *others]


def chosen_releases(full: bool, only: Sequence[str] | None, chosen: files.Chosen) -> list[Release]:
    """Asked for; else this machine's, and where no file is asked for those of each run, or of a full one."""
    if only:
        return [releases.named(name) for name in dict.fromkeys(only)]
    return [one for one in releases.known() if one == releases.own() or ((one.always or full) and not chosen)]


def _make_ready(layers: Sequence[str], all_of_them: Sequence[Place]) -> None:
    for place in all_of_them:
        if "daemon" in layers:
            strongswan.prepare(place.root)
        if not place.main or ground.missing():
            (place.kernel or place.root).parts()
        roots.compiled(place.root, "updown", "tests")
    if not ground.missing() and all(place.main for place in all_of_them):
        say("setup", "no virtual machine: this kernel has all that is needed")
    else:
        say("setup", f"virtual machines by {guest.accelerator()}{f', since {ground.missing()}' if ground.missing() else ''}")


def real_jobs(layers: Sequence[str], place: Place, full: bool, chosen: files.Chosen) -> list[Job]:
    """Guests that share the files, one for each processor; one process for a layer where no guest is wanted."""
    silence = FULL_SILENCE_SECONDS if full else SILENCE_SECONDS
    command = [place.root.python, *pytest_command(full), *_chosen_tests(place), "-v", "--durations=5"]
    one = Job("guests", "1", partial(list, command), real=True, root=place.root, kernel=place.kernel, silence=silence)
    found = []
    shared: dict[str, list[str]] = {}
    for layer in layers:
        runs = partial(_runs, layer, place, chosen)
        tests = {path: its for path, its in _collect(place, layer, full).items() if its and runs(files.short_name(path))}
        if not one.in_guest:
            found += [replace(one, layer=layer, name="all", command=partial(list, [*command, *tests]))] if tests else []
            continue
        for path in sorted(tests, key=lambda path: -len(tests[path])):
            if Path(path).stem in ALONE_IN_A_GUEST:
                words: Callable[[], Sequence[str]] = partial(list, [*command, path])
                found.append(replace(one, layer=layer, name=Path(path).stem, command=words, processors=2))
            else:
                shared[path] = tests[path]
        if layer == "daemon" and not place.root.own and not place.kernel and runs("daemon/demonstration"):
            words = partial(list, ["contrib/demo", "--release", place.root.release.name])
            found.append(Job(layer, "demonstration", words, tests=False, root=place.root, silence=silence))
    count = min(width(), sum(len(tests) for tests in shared.values()))
    return found + [replace(one, name=str(number + 1), shares=shared) for number in range(count)]


def _runs(layer: str, place: Place, chosen: files.Chosen, short: str) -> bool:
    others = BRIEFLY if place.brief else ELSEWHERE
    return chosen.has(short) if chosen or place.main else files.Chosen([others[layer]]).has(short)


def _chosen_tests(place: Place) -> list[str]:
    """pytest's words for what of the recordings runs in a place."""
    words = RECORDED.get(place.root.release.name, "") if place.brief else ""
    return ["-k", words] if words else []


def _collect(place: Place, layer: str, full: bool) -> dict[str, list[str]]:
    """The tests of each file of a layer; its name for one that cannot be read, which its own run will tell.

    Collecting natively also leaves behind what pytest compiles, which takes a guest 20 times as long."""
    found: dict[str, list[str]] = {str(path.relative_to(TOP)): [] for path in sorted(TOP.glob(f"tests/{layer}/test_*.py"))}
    root, words = place.root, _chosen_tests(place) if layer == "kernel" else []
    command, variables = root.natively(*pytest_command(full), *words, "-q", "--collect-only", f"tests/{layer}")
    environment = {**os.environ, **LEAN, **variables, releases.SAID: root.release.name}
    said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    for line in said.stdout.splitlines():
        if line.partition("::")[0] in found:  # a complaint may have such colons too
            found[line.partition("::")[0]].append(line)
    return {path: tests or ([path] if said.returncode else []) for path, tests in found.items()}


def pytest_command(full: bool) -> list[str]:
    return ["-m", "pytest", "--tb=short", *([] if full else ["-m", "not slow"])]
