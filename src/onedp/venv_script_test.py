"""``scripts/venv.sh``: what it answers when the system lacks something, and what it does again after a change."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

if not (ROOT / "pyproject.toml").is_file():
    pytest.skip("not run from the source tree", allow_module_level=True)

TOOLS = ("cat", "cksum", "dirname", "grep", "head", "mv", "rm", "sed", "tr", "uname")


@dataclass
class Machine:
    """A made-up machine for ``scripts/venv.sh``: only the programs in ``bin`` exist, Python among them is real."""

    project: Path
    bin: Path
    environment: dict[str, str]

    def add(self, name: str, script: str) -> Path:
        path = self.bin / name
        path.write_text(f"#!{shutil.which('sh')}\n{script}\n")
        path.chmod(0o755)
        return path

    def hide(self, *names: str) -> None:
        """Make the loader fail for libraries, the import for modules, whose name contains one of ``names``."""
        site = self.project / "site"
        site.mkdir()
        self.environment["PYTHONPATH"] = str(site)
        (site / "sitecustomize.py").write_text(f"""
import ctypes, sys
load = ctypes.CDLL
hidden = {names!r}
def CDLL(name, *args, **kwargs):
    if any(part in (name or "") for part in hidden):
        raise OSError(name + ": cannot open shared object file: No such file or directory")
    return load(None)
ctypes.CDLL = CDLL
sys.modules.update(dict.fromkeys(hidden))  # None: ModuleNotFoundError
""")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [shutil.which("sh") or "sh", str(self.project / "scripts/venv.sh"), *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    if sys.version_info[:2] not in ((3, 11), (3, 12)):
        pytest.skip("scripts/venv.sh is for Python 3.11 and 3.12")
    project, bin_folder = tmp_path / "pro ject", tmp_path / "bin"
    for name in ("scripts/venv.sh", "requirements/lock.txt", "pyproject.toml"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    bin_folder.mkdir()
    for tool in TOOLS:
        (bin_folder / tool).symlink_to(shutil.which(tool) or tool)
    machine = Machine(project, bin_folder, {"PATH": str(bin_folder)})
    machine.add("python3", f'exec {sys.executable} "$@"')
    machine.add("readlink", f"echo {os.path.realpath(sys.executable)}")  # what runs here is the system's own Python
    machine.add("id", "echo 0")
    machine.add("apt-get", "exit 1")
    machine.add("apt-cache", "exit 1")
    machine.add("ldconfig", "echo libGL.so.1 libgthread-2.0.so.0")
    return machine


LIBGL = "  - libgl1: libGL.so.1, for OpenCV, which the Push-T simulator imports\n"
LIBGLIB = "  - libglib2.0-0: libgthread-2.0.so.0, for OpenCV, which the Push-T simulator imports\n"
VENV = "  - python3-venv: virtual environments (ensurepip) for python3\n"


def answer(missing: str, packages: str, sudo: str = "") -> str:
    line = f"    {sudo}apt-get update && {sudo}apt-get install -y {packages}\n"
    head = "onedp: .venv cannot be made yet. Missing on this system:\n"
    return f"{head}{missing}\nInstall with:\n\n{line}\nThen run it again.\n"


def test_everything_missing_is_one_apt_line(machine: Machine) -> None:
    machine.hide("libGL.so.1", "libgthread-2.0.so.0", "ensurepip")
    done = machine.run()
    assert done.stderr == answer(VENV + LIBGL + LIBGLIB, "python3-venv libgl1 libglib2.0-0")
    assert (done.returncode, done.stdout) == (2, "")
    assert not (machine.project / ".venv").exists()


@pytest.mark.parametrize(
    ("hidden", "missing", "package"),
    [
        ("libGL.so.1", LIBGL, "libgl1"),
        ("libgthread-2.0.so.0", LIBGLIB, "libglib2.0-0"),
        ("ensurepip", VENV, "python3-venv"),
    ],
)
def test_only_what_is_missing_is_named(machine: Machine, hidden: str, missing: str, package: str) -> None:
    machine.hide(hidden)
    machine.add("id", "echo 1000")
    done = machine.run()
    assert done.stderr == answer(missing, package, sudo="sudo ")
    assert done.returncode == 2


def test_missing_packages_alone_for_scripts(machine: Machine) -> None:
    machine.hide("libGL.so.1", "ensurepip")
    done = machine.run("--missing")
    assert (done.stdout, done.stderr, done.returncode) == ("python3-venv\nlibgl1\n", "", 0)


def test_nothing_is_missing(machine: Machine) -> None:
    machine.hide()
    done = machine.run("--missing")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_no_python_where_apt_has_one(machine: Machine) -> None:
    (machine.bin / "python3").unlink()
    machine.add("apt-cache", '[ "$2" = python3.11-venv ]')
    machine.add("ldconfig", "exit 0")
    done = machine.run()
    seen = "python3 is not there, python3.12 is not there, python3.11 is not there"
    python = f"  - Python 3.11 or 3.12 ({seen})\n"
    assert done.stderr == answer(python + LIBGL + LIBGLIB, "python3.11 python3.11-venv libgl1 libglib2.0-0")
    assert done.returncode == 2


@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_python_of_another_version(machine: Machine, version: str) -> None:
    machine.add("other", f"echo {version}")
    machine.environment["PYTHON"] = "other"
    done = machine.run()
    assert done.stderr == (
        "onedp: .venv cannot be made yet. Missing on this system:\n"
        f"  - Python 3.11 or 3.12 (other is {version}). Get one with uv, pyenv or conda, then: "
        "make venv PYTHON=/path/to/python3.12\n"
        "    (only the torch-free core, 'pip install .', runs on Python 3.10 to 3.13)\n"
        "Then run it again.\n"
    )
    assert done.returncode == 2


def test_a_system_without_apt(machine: Machine) -> None:
    machine.hide("libGL.so.1")
    (machine.bin / "apt-get").unlink()
    done = machine.run()
    assert "apt-get" not in done.stderr
    assert LIBGL + "Install them with your system's package manager (the names are Debian's).\n" in done.stderr
    assert done.returncode == 2


def test_interrupted_changed_and_unchanged(machine: Machine) -> None:
    """A stand-in interpreter writes down what it is asked to install; the rest of it is real."""
    log = machine.project / "log"
    machine.environment["LOG"] = str(log)
    machine.environment["ONEDP_TORCH_INDEX"] = "cpu-index"
    machine.bin.joinpath("mkdir").symlink_to(shutil.which("mkdir") or "mkdir")
    machine.bin.joinpath("cp").symlink_to(shutil.which("cp") or "cp")
    machine.add(
        "python3",
        f"""
case "$*" in
    *CDLL*) echo ok ;;
    "-m venv "*) echo new >>"$LOG"; mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
    "-m pip install --extra-index-url cpu-index -r "*/lock.txt) echo lock >>"$LOG"; [ -z "${{BREAK:-}}" ] ;;
    "-m pip install --quiet --no-build-isolation --no-deps --editable "*) echo project >>"$LOG" ;;
    *gym_pusht*) echo imports >>"$LOG" ;;
    *) exec {sys.executable} "$@" ;;
esac""",
    )

    def asked() -> tuple[int, list[str]]:
        log.write_text("")
        return machine.run().returncode, log.read_text().split()

    whole = ["new", "lock", "imports", "project"]
    machine.environment["BREAK"] = "yes"
    assert asked() == (1, ["new", "lock"])
    del machine.environment["BREAK"]
    assert asked() == (0, whole)
    assert asked() == (0, [])
    with (machine.project / "pyproject.toml").open("a") as file:
        file.write("\n")
    assert asked() == (0, ["project"])
    assert asked() == (0, [])
    with (machine.project / "requirements/lock.txt").open("a") as file:
        file.write("# new\n")
    machine.environment["BREAK"] = "yes"
    assert asked() == (1, ["lock"])  # half done: what .venv holds is not to be trusted any more
    del machine.environment["BREAK"]
    assert asked() == (0, whole)
    with (machine.project / "requirements/lock.txt").open("a") as file:
        file.write("# newer\n")
    assert asked() == (0, ["lock", "imports"])
    assert asked() == (0, [])
    machine.environment["PYTHON"] = sys.executable  # another one than it was made with: its base prefix is the same
    assert asked() == (0, [])
    (machine.project / ".venv/bin/python").unlink()
    del machine.environment["PYTHON"]
    assert asked() == (0, whole)
    shutil.move(machine.project, machine.project.with_name("moved"))
    machine.project = machine.project.with_name("moved")
    log = machine.project / "log"
    machine.environment["LOG"] = str(log)
    assert asked() == (0, whole)
