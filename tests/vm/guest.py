"""Boot a guest over this machine's own root file system or another's, run one command in it and return its exit status.

The root is shown read-only (9p) below an overlay in the guest's memory: every program installed here runs there, the
guest may write anywhere, and nothing it writes reaches this machine, shared folders excepted. /proc, /sys, /dev, /run
and $TMPDIR are its own, modules load on demand, and "lo" is its only network device. Of a root of another release it sees
what that has, and of this machine the folders that it is shown.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable

from tests import TOP
from tests.vm import cache, parts, roots, speed
from tests.vm.cpio import Archive
from tests.vm.roots import Root

TIMED_OUT = 124
PASSED_ON = ("PATH", "HOME", "XDG_CACHE_HOME", "TERM", "LANG", "LC_ALL", "CI")
PROBE_SECONDS = 6.0
HERE = Path(__file__).resolve().parent
READ_ONLY = ",readonly=on"
CHANNELS = ("out", "err", "status")
# without erms, since an emulator copies byte by byte what is told to be fast: a fork takes half the time
EMULATED = ["-cpu", "max,la57=off,smap=off,smep=off,erms=off", "-accel", "tcg,thread=multi,tb-size=256"]
VIRTUALISED = ["-cpu", "host", "-accel", "kvm"]
KERNEL_WORDS = (
    "console=ttyS0 quiet loglevel=4 panic=-1 reboot=t mitigations=off nokaslr apparmor=0 audit=0 cryptomgr.notests "
    "no_timer_check nowatchdog nmi_watchdog=0 random.trust_cpu=on rcupdate.rcu_expedited=1 page_alloc.shuffle=0 "
    "init_on_alloc=0 8250.nr_uarts=1 net.ifnames=0 cgroup_disable=memory "
    "norandmaps"  # an emulator translates a program's code anew at each new address: processes start twice as fast
)

Sink = Callable[[bytes], object]


class GuestFailed(Exception):
    """The guest itself did not work; the text has the end of its console."""


@dataclass(frozen=True)
class Settings:
    folder: Path
    """Where the command runs."""
    memory: int = 1024
    processors: int = 1
    root: Root = field(default_factory=roots.own)
    kernel: Root | None = None
    """The root whose release's kernel it boots; None: its own's."""
    silence: float = 0
    """Seconds without a word after which it hangs, on the machine that limits are made for; 0: for ever."""
    shares: Sequence[Path] = ()
    """Folders of this machine that the guest may write, at the same place."""
    copies: Sequence[Path] = ()
    """Folders that the guest has in its memory: a file of this machine's takes it a millisecond to open."""
    environment: Mapping[str, str] = field(default_factory=dict)
    kvm: bool | None = None
    """None: where it works."""


def run(command: Sequence[str], settings: Settings, out: Sink, err: Sink) -> int:
    """The command's exit status, or TIMED_OUT; what it prints goes to out and err while it runs."""
    ready = (settings.kernel or settings.root).parts()
    if settings.kvm is None:
        settings = replace(settings, kvm=kvm_works())
    with tempfile.TemporaryDirectory(prefix="guest.") as name:
        work = Path(name)
        (work / "initramfs").write_bytes(ready.initramfs.read_bytes() + _settings_archive(command, settings, ready))
        return _boot(settings, ready, work, out, err)


def accelerator() -> str:
    return "KVM" if kvm_works() else "emulation"


def kvm_works() -> bool:
    """Whether a guest boots with KVM in time: it may be there and hang. The answer is kept until the next reboot."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    kept = cache.folder() / "kvm"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with cache.locked("kvm"):
        if not kept.exists() or not kept.read_text().startswith(boot):
            kept.write_text(f"{boot} {'yes' if _kvm_boots() else 'no'}\n")
        return kept.read_text().endswith(" yes\n")


def _kvm_boots() -> bool:
    try:
        probe = Settings(folder=Path("/"), memory=512, silence=PROBE_SECONDS, kvm=True)
        return run(["/bin/true"], probe, lambda _: None, lambda _: None) == 0
    except GuestFailed:
        return False


def _settings_archive(command: Sequence[str], settings: Settings, ready: parts.Parts) -> bytes:
    variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    if not settings.root.own:
        variables["PATH"] = roots.PATH
    variables.update({"TMPDIR": "/var/tmp/guest", speed.SAID: f"{speed.slowness():.2f}", **settings.environment})
    said = {
        "EARLY": ready.early,
        "SHARES": " ".join(str(share) for share in settings.shares),
        "SHOWN": " ".join(str(folder) for folder in _shown(settings)),
        "COPIES": " ".join(str(copy) for copy in settings.copies),
        "FOLDER": str(settings.folder),
    }
    archive = Archive()
    archive.file("guest/settings", _assignments("", said))
    archive.file("guest/environment", _assignments("export ", variables))
    archive.file("guest/command", f"#!/bin/sh\nexec {shlex.join(command)}\n".encode(), 0o755)
    archive.file("guest/second-stage", (HERE / "second-stage").read_bytes())
    archive.file("init", (HERE / "first-stage").read_bytes(), 0o755)
    return archive.finished()


def _shown(settings: Settings) -> Sequence[Path]:
    """Folders of this machine that a guest of another root sees at the same place."""
    return () if settings.root.own else (TOP, cache.folder())


def _assignments(word: str, values: Mapping[str, str]) -> bytes:
    return "".join(f"{word}{name}={shlex.quote(value)}\n" for name, value in values.items()).encode()


def _boot(settings: Settings, ready: parts.Parts, work: Path, out: Sink, err: Sink) -> int:
    pipes = {channel: os.pipe() for channel in CHANNELS}
    writers = {channel: ends[1] for channel, ends in pipes.items()}
    command = _qemu(settings, ready, work, writers)
    if shutil.which("setpriv"):  # no guest outlives us, however we end
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    with open(work / "errors", "wb") as errors:
        qemu = subprocess.Popen(
            command, pass_fds=tuple(writers.values()), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
    for writer in writers.values():
        os.close(writer)
    words: list[bytes] = []
    sinks = {pipes["out"][0]: out, pipes["err"][0]: err, pipes["status"][0]: words.append}
    try:
        in_time = relay(sinks, settings.silence * speed.slowness(), qemu.kill)
    finally:
        qemu.kill()
        for reader in sinks:
            os.close(reader)
        with contextlib.suppress(subprocess.TimeoutExpired):  # stuck inside KVM: no one can end it
            qemu.wait(timeout=5)
    said = dict(line.split(" ", 1) for line in b"".join(words).decode().splitlines())
    if "exit" in said:
        return int(said["exit"])
    if not in_time:
        return TIMED_OUT
    console = (work / "console").read_text(errors="replace") if (work / "console").exists() else ""
    raise GuestFailed(f"the guest ended without a status\n{(work / 'errors').read_text()}{console[-4000:]}")


def relay(sinks: Mapping[int, Sink], silence: float, end: Callable[[], None]) -> bool:
    """Pass on what the guest sends until there is no more, and end it once it said its exit status; False when it was
    silent for too long."""
    live = list(sinks)
    status = live[-1]
    while live:
        heard = select.select(live, [], [], silence or None)[0]
        if not heard:
            return False
        for reader in heard:
            data = os.read(reader, 65536)
            if not data:
                live.remove(reader)
                continue
            sinks[reader](data)
            if reader == status and b"exit " in data:
                end()
    return True


def _qemu(settings: Settings, ready: parts.Parts, work: Path, writers: Mapping[str, int]) -> list[str]:
    command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-M", "q35"]
    command += VIRTUALISED if settings.kvm else EMULATED
    command += ["-m", str(settings.memory), "-smp", str(settings.processors)]
    command += ["-kernel", str(ready.kernel), "-initrd", str(work / "initramfs"), "-append", KERNEL_WORDS]
    command += ["-serial", f"file:{work / 'console'}", "-device", "virtio-serial-pci"]
    for number, (channel, writer) in enumerate(writers.items(), 1):
        command += ["-add-fd", f"fd={writer},set={number}"]
        command += ["-chardev", f"file,id={channel},path=/dev/fdset/{number},append=on"]
        command += ["-device", f"virtserialport,chardev={channel},name=guest.{channel}"]
    command += _folder("root", settings.root.folder, READ_ONLY)
    command += _folder("modules", ready.modules.resolve(), READ_ONLY)
    for number, folder in enumerate(_shown(settings)):
        command += _folder(f"shown{number}", folder, READ_ONLY)
    for number, share in enumerate(settings.shares):
        command += _folder(f"share{number}", share, "")
    return command


def _folder(tag: str, path: Path, more: str) -> list[str]:
    described = f"local,id={tag},path={path},security_model=none,multidevs=remap{more}"
    return ["-fsdev", described, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
