"""Where the program is in use, tests see none of its settings and none of its state."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests import TOP
from tests.kit.own_places import PLACES

ETC, RUN = PLACES
IN_USE = f"""
set -e
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work overlay /etc
mkdir -p {ETC}
echo 'no such line' >{ETC}/vti-updown.conf
mount -t tmpfs tmpfs /run
mkdir -p {RUN}
chmod 777 {RUN}
"""
SEES = f'cat {ETC}/vti-updown.conf && exec "$@"'
USERS = ("tests/unit/commands/test_status.py", "tests/unit/commands/test_own_settings_file.py", "tests/unit/test_hook.py")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make it look as if the program were in use")
def test_tests_pass_where_the_program_is_in_use() -> None:
    """Some that failed there; their settings are broken, and everybody may write their state."""
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", IN_USE + SEES, "sh"]
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--fork", *USERS]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [*command, *tests], cwd=TOP, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.stdout.startswith("no such line\n"), done.stdout
    assert done.returncode == 0, done.stdout[-3000:]
