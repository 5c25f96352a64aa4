"""The project's own packaging: the lock, torch-free imports, the wheel."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
GPU_PACKAGE = re.compile(r"nvidia-|cuda-|triton$")

if not (ROOT / "pyproject.toml").is_file():
    pytest.skip("not run from the source tree", allow_module_level=True)


def read_pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def read_lock() -> dict[str, str]:
    lines = (ROOT / "requirements/lock.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def locked_requirements() -> list[Requirement]:
    project = read_pyproject()
    extras = [
        project["optional-dependencies"][name]
        for name in ("train", "data", "pusht", "report", "robot", "openvino", "export", "hub", "dev")
    ]
    return [Requirement(line) for line in sum(extras, project["dependencies"])]


# --- the lock


def test_every_line_of_the_lock_is_one_plain_pin() -> None:
    for line in (ROOT / "requirements/lock.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[a-z0-9-]+==\d[a-z0-9.]*", line), line
        assert "://" not in line


def test_lock_leaves_the_gpu_libraries_to_torch() -> None:
    assert not [name for name in read_lock() if GPU_PACKAGE.match(name)]


def test_lock_satisfies_the_project() -> None:
    lock = read_lock()
    for requirement in locked_requirements():
        assert requirement.specifier.contains(Version(lock[canonicalize_name(requirement.name)])), str(requirement)


def test_lock_is_complete() -> None:
    """Everything that the extras bring along, followed through the installed packages, is pinned."""
    lock = read_lock()
    todo, seen = locked_requirements(), set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen or GPU_PACKAGE.match(name):
            continue
        seen.add(key)
        assert name in lock, f"{requirement} is not in requirements/lock.txt"
        for line in importlib.metadata.requires(name) or ():
            needed = Requirement(line)
            environments = [{"extra": extra} for extra in ("", *requirement.extras)]
            if needed.marker is None or any(needed.marker.evaluate(environment) for environment in environments):
                todo.append(needed)
    unneeded = sorted(set(lock) - {name for name, _ in seen} - {"setuptools"})  # torch wants it from Python 3.12 on
    assert unneeded == []


@pytest.mark.parametrize("tests", [False, True], ids=["code", "tests"])
def test_every_import_is_declared(tests: bool) -> None:
    """What our modules import is a dependency of ours by name, not by luck through another package."""
    project = read_pyproject()
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + extras["train"] + extras["pusht"] + extras["report"] + extras["robot"]
    lines += extras["openvino"] + extras["export"] + extras["data"] + extras["hub"]
    lines += extras["robosuite"] + extras["metaworld"] + extras["ray"]
    declared = {canonicalize_name(Requirement(line).name) for line in lines + (extras["dev"] if tests else [])}
    distributions = importlib.metadata.packages_distributions()
    for path in (ROOT / "src/onedp").rglob("*.py"):
        if path.name.endswith(("_test.py", "conftest.py")) != tests:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"onedp"}:
                owners = {canonicalize_name(owner) for owner in distributions.get(name, [name])}
                assert owners & declared, f"{path.relative_to(ROOT)} imports {name}, which pyproject.toml does not name"


def test_the_version_is_the_same_everywhere() -> None:
    version = read_pyproject()["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


# --- torch-free


def modules_loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after ``code``."""
    code += "\nimport sys; print('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


HEAVY = {"torch", "accelerate", "scipy", "zarr", "gymnasium", "gym_pusht", "pygame", "cv2", "matplotlib", "av"}
HEAVY |= {"mujoco", "robosuite", "metaworld", "h5py", "pyarrow", "ray"}


TORCH_FREE = (
    "errors", "types", "observations", "files", "machine", "artifact", "shipped", "tasks", "tasks.demonstrations",
    "data.readers",
    "seen_frames", "data.normalize", "data.windows", "data.lerobot_export", "data.frame_cache", "data.goals",
    "tasks.recorded", "cli.convert", "methods.config", "methods.presets", "methods.table", "nets.config",
    "nets.encoder_choice",
    "train.config", "train.metrics", "evaluate.rollout", "serve.run", "serve.client", "cli.serve", "runtime.loop",
    "cli.main",
    "cli.import_checkpoint", "importers.options", "backends", "backends.manifest", "backends.policy",
    "backends.runtimes", "evaluate.machine_speed", "evaluate.latency", "cli.export", "cli.latency", "cli.latency_table",
    "hub", "hub_card", "cli.push", "cli.pull",
    "tasks.robosuite", "tasks.metaworld", "collect.run", "collect.experts", "collect.episode", "cli.collect",
    "cli.bench", "bench.cells", "bench.contestants", "bench.two_modes",
    "runtime.execution", "runtime.resampled", "evaluate.timing", "evaluate.shipment", "evaluate.comparison",
    "tasks.options", "tasks.pusht_moving", "tasks.robosuite_moving", "tasks.robosuite_ways", "tasks.robosuite_paths",
    "tasks.robosuite_object", "cli.live", "live.server", "live.stage",
)  # fmt: skip


def test_core_imports_are_torch_free() -> None:
    loaded = modules_loaded_by("\n".join(f"import onedp.{name}" for name in TORCH_FREE))
    assert "onedp" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.skipif(importlib.util.find_spec("onedp.cli.main") is None, reason="the command line is not written yet")
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["train"],
        ["import"],
        ["distill"],
        ["evaluate"],
        ["compare"],
        ["inspect"],
        ["serve"],
        ["demo"],
        ["export"],
        ["latency"],
        ["push"],
        ["pull"],
        ["convert"],
        ["bench"],
        ["collect"],
        ["live"],
    ],
)
def test_help_is_torch_free(arguments: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["onedp", *{arguments!r}, "--help"]
from onedp.cli.main import main
try:
    code = main()
except SystemExit as stop:
    code = stop.code
assert not code, code
"""
    assert modules_loaded_by(code) & HEAVY == set()


# --- the wheel


@pytest.mark.slow
def test_wheel_has_the_data_and_no_tests(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    source = ROOT / "src"
    shipped = {path for path in (source / "onedp/shipped").rglob("*") if path.is_file()}
    pages = {
        path
        for folder in ("report", "live")
        for pattern in ("*.html*", "*.css", "*.js")
        for path in (source / "onedp" / folder).rglob(pattern)
    }
    modules = set((source / "onedp").rglob("*.py"))
    expected = {
        path.relative_to(source).as_posix()
        for path in shipped | pages | modules
        if not path.name.endswith("_test.py") and path.name != "conftest.py" and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.startswith("onedp/")} >= expected
    assert not [name for name in names if name.endswith(("_test.py", "conftest.py", ".pyc"))]
    (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
    assert f"{info}/licenses/LICENSE" in names


# --- programs outside the package


@pytest.mark.parametrize(
    "program",
    sorted(path for folder in ("scripts", "benchmarks", "examples") for path in (ROOT / folder).glob("*.py")),
    ids=lambda path: path.name,
)
def test_programs_find_what_they_import(program: Path) -> None:
    """They are run seldom, so a name that moved would be noticed late."""
    for node in ast.walk(ast.parse(program.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("onedp"):
            module = importlib.import_module(node.module or "")
            missing = [
                each.name
                for each in node.names
                if not hasattr(module, each.name) and importlib.util.find_spec(f"{module.__name__}.{each.name}") is None
            ]
            assert not missing, f"{module.__name__} has no {missing}"
