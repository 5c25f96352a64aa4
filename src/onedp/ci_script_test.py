"""``.ci/run``: what cannot be installed is an error, since its tests would be skipped and nobody would know."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

if not (ROOT / ".ci" / "run").is_file():
    pytest.skip("not run from the source tree", allow_module_level=True)

TOOLS = ("dirname", "sh")
END = 77
"""Exit code of the first step after the installations."""


def run_ci(folder: Path, failing: str, user: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """On a made-up machine that has nothing; the installation of ``failing`` fails."""
    for name in (".ci/run", "scripts/venv.sh"):
        (folder / name).parent.mkdir(exist_ok=True)
    shutil.copy(ROOT / ".ci/run", folder / ".ci/run")
    (folder / "scripts/venv.sh").write_text("")
    tools = folder / "bin"
    tools.mkdir()
    for tool in TOOLS:
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    fail = f'case "$*" in *{failing}*) echo "no network" >&2; exit 1 ;; esac'
    scripts = {
        "id": f"echo {user}",
        "ldconfig": f'if [ -f "{folder}/osmesa" ]; then echo libOSMesa.so.8; fi',
        "apt-get": f'{fail}; case "$*" in *libosmesa6*) : >"{folder}/osmesa" ;; esac',
        "make": f'{fail}; echo "made $1"; if [ "$1" = wheel ]; then exit {END}; fi',
        "mktemp": f"echo {folder}/work",
        "rm": "",
    }
    for name, script in scripts.items():
        (tools / name).write_text(f"#!{shutil.which('sh')}\n{script}\n")
        (tools / name).chmod(0o755)
    command = [shutil.which("bash") or "bash", str(folder / ".ci/run")]
    return subprocess.run(command, env={"PATH": str(tools), **environment}, capture_output=True, text=True, check=False)


PARTS = {"ray": "Ray", "chromium": "A browser", "libosmesa6": "Off-screen rendering", "simulators": "The simulators"}


def test_where_all_can_be_installed_the_checks_go_on(tmp_path):
    done = run_ci(tmp_path, failing="nothing")
    assert done.returncode == END, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("made")] == [
        *("made venv", "made simulators", "made ray", "made wheel")
    ]


@pytest.mark.parametrize("part", PARTS)
def test_what_cannot_be_installed_is_an_error(tmp_path, part):
    done = run_ci(tmp_path, failing=part)
    assert done.returncode == 1
    assert f"{PARTS[part]} " in done.stderr
    assert "could not be installed" in done.stderr
    assert "ONEDP_CI_PARTIAL=1" in done.stderr
    assert "made wheel" not in done.stdout


@pytest.mark.parametrize("part", PARTS)
def test_a_partial_run_says_what_it_lacks(tmp_path, part):
    done = run_ci(tmp_path, failing=part, ONEDP_CI_PARTIAL="1")
    assert done.returncode == END, done.stderr
    assert done.stdout.count("could not be installed") == 1
    assert f"{PARTS[part]} " in done.stdout
    assert ("made simulators" in done.stdout) == (part not in ("libosmesa6", "simulators"))


def test_who_is_not_root_is_told_what_is_missing(tmp_path):
    done = run_ci(tmp_path, failing="nothing", user=1000)
    assert done.returncode == 1
    assert "A browser could not be installed; the reason is above, or this is not root" in done.stderr
