"""An export is a policy like others: the verbs that judge and describe policies take its folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from onedp.cli.main import main
from onedp.evaluate.heldout_test import make_policy, write_data
from onedp.export.export import export_policy
from onedp.files import write_text
from onedp.policy import save_policy
from onedp.runtime.latency import HistogramLatency, parse_latency

LEROBOT = "is no graph for a runtime but a policy for LeRobot, which runs it; or make a policy of it with: onedp import"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the policy ``p``, its export ``ex``, and the data ``data.npz``."""
    folder = tmp_path_factory.mktemp("exports")
    save_policy(folder / "p", make_policy())
    export_policy(folder / "p", "onnx", folder / "ex")
    write_data(folder / "data.npz")
    return folder


@pytest.fixture
def damaged(folder, tmp_path) -> Path:
    """A copy of the export, to be damaged."""
    return Path(shutil.copytree(folder / "ex", tmp_path / "ex"))


def refused(capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("order", [("p", "ex"), ("ex", "p")])
def test_compare_on_held_out_observations(folder, tmp_path, order):
    arguments = ["compare", *(str(folder / name) for name in order), "--data", str(folder / "data.npz")]
    main([*arguments, "--observations", "6", "--draws", "3", "--out", str(tmp_path / "out")])
    rows = json.loads((tmp_path / "out/heldout.json").read_text())["rows"]
    assert [row["policy"].startswith("p-onnxruntime-float32") for row in rows] == [name == "ex" for name in order]
    assert rows[0]["weights_digest"] == rows[1]["weights_digest"]
    # the same network and units, whichever is the yardstick; noises of a row are its own
    for metric in ("spread", "demonstration_error", "seam_jump"):
        low, high = rows[0]["metrics"][metric]["ci95"]
        assert 0.5 * low < rows[1]["metrics"][metric]["mean"] < 2 * high


def test_units_do_not_depend_on_which_of_the_two_is_the_reference(folder, tmp_path):
    found = []
    for order in (("p", "ex"), ("ex", "p")):
        arguments = ["compare", *(str(folder / name) for name in order), "--data", str(folder / "data.npz")]
        main([*arguments, "--observations", "6", "--draws", "3", "--out", str(tmp_path / "out")])
        found.append(json.loads((tmp_path / "out/heldout.json").read_text())["rows"][1]["metrics"])
    for metric, first in found[0].items():
        assert first["mean"] == pytest.approx(found[1][metric]["mean"], rel=1e-3, abs=1e-6)


def test_compare_on_episodes(folder, tmp_path):
    arguments = ["compare", str(folder / "p"), str(folder / "ex"), "--episodes", "2", "--workers", "1"]
    main([*arguments, "--out", str(tmp_path / "out")])
    results = json.loads((tmp_path / "out/comparison.json").read_text())["results"]
    assert [result["policy"] for result in results] == ["p", "p-onnxruntime-float32"]
    assert [result["passes_counted"] for result in results] == [3, None]
    assert (tmp_path / "out/report.html").stat().st_size > 10_000


def test_compare_refuses_what_it_would_ignore(folder, tmp_path, capsys):
    two = ["compare", folder / "p", folder / "ex", "--out", tmp_path / "out"]
    data = ["--data", folder / "data.npz"]
    message = refused(capsys, *two, *data, "--ray", "auto", "--episodes", 100, "--workers", 2, "--first-seed", 7)
    assert "so --episodes and --first-seed and --workers and --ray would change nothing" in message
    message = refused(capsys, *two, "--observations", 6, "--draws", 16)
    assert "--observations and --draws belong to --data, which is not given" in message
    message = refused(capsys, *two, "--skip-bad-episodes")
    assert "--skip-bad-episodes belongs to --data, which is not given" in message
    assert "appears twice" in refused(capsys, "compare", folder / "ex", f"{folder / 'ex'}@ddim:3", *data)
    assert "its sampler is part of it" in refused(capsys, "compare", folder / "p", f"{folder / 'ex'}@ddim:2", *data)
    assert not (tmp_path / "out").exists()


def test_inspect_says_what_an_export_is(folder, capsys):
    main(["inspect", str(folder / "ex")])
    text = capsys.readouterr().out
    manifest = json.loads((folder / "ex/manifest.json").read_text())
    for expected in (
        f"export of         p, weights with the digest {manifest['weights_digest'][:16]}...",
        "sampler           ddim:3, part of the graph",
        "network passes    3 a chunk",
        "precision         float32",
        "digests           all files are those that were exported",
        "accepted 0.001; far outside the training data",
        "timing at 10 Hz (step 0 is the newest observation): 2 observed, 16 predicted, 8 executed",
    ):
        assert expected in text
    assert "DAMAGED" not in text
    assert json.loads(text[text.index("{") :]) == manifest["provenance"]


def test_inspect_of_a_damaged_export_says_so_at_the_end_too(damaged, capsys):
    (damaged / "policy.onnx").write_bytes(b"other")
    with pytest.raises(SystemExit) as stop:
        main(["inspect", str(damaged)])
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert "digests           NOT as exported" in printed.out
    assert "policy.onnx is not the file that was exported" in printed.err
    (damaged / "policy.onnx").unlink()
    assert "policy.onnx is missing" in refused(capsys, "inspect", damaged)
    (damaged / "parity.json").write_text('{"rows": 3}')
    assert "parity.json is not the report of onedp export" in refused(capsys, "inspect", damaged)


def test_inspect_shows_the_gate(damaged, capsys):
    manifest = json.loads((damaged / "manifest.json").read_text())
    manifest |= {"precision": "bfloat16", "gate": {"measure": "score lost", "value": -0.01}}
    (damaged / "manifest.json").write_text(json.dumps(manifest))
    main(["inspect", str(damaged)])
    text = capsys.readouterr().out
    assert "Gate of the reduced precision" in text
    assert '"measure": "score lost"' in text
    assert "a policy, which has a task of its own" in refused(capsys, "inspect", damaged, "--task", "pusht-state")


def test_latency_of_an_export_with_a_sampler(folder, capsys):
    message = refused(capsys, "latency", f"{folder / 'ex'}@ddim:2")
    assert f"{folder / 'ex'} is an export: its sampler is part of it. Export again with --sampler ddim:2" in message


def test_a_policy_for_lerobot_is_run_there(damaged, capsys):
    (damaged / "policy.onnx").rename(damaged / "model.safetensors")
    manifest = json.loads((damaged / "manifest.json").read_text())
    manifest |= {"model": "model.safetensors", "files": {"model.safetensors": manifest["files"]["policy.onnx"]}}
    (damaged / "manifest.json").write_text(json.dumps(manifest))
    for verb in (["latency"], ["serve"], ["evaluate"], ["compare", damaged]):
        assert LEROBOT in refused(capsys, *verb, damaged)
    main(["inspect", str(damaged)])
    assert "runs in           LeRobot" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["fp32", "float32"])
def test_precisions_have_two_spellings(folder, tmp_path, name):
    arguments = ["latency", str(folder / "p"), "--runtimes", "onnxruntime", "--precisions", name, "--rounds", "2"]
    for stays_or_goes in ("mine.json", "7--old--torch--float32--1.json"):
        write_text(tmp_path / "out/recorded" / stays_or_goes, "{}")
    main([*arguments, "--out", str(tmp_path / "out")])
    rows = json.loads((tmp_path / "out/latency.json").read_text())["rows"]
    assert [row["precision"] for row in rows] == ["float32"]
    recorded, mine = sorted((tmp_path / "out/recorded").iterdir())
    assert mine.name == "mine.json"
    # what evaluate --latency FILE reads
    charged = parse_latency(str(recorded), nfe=1, measure=list)
    assert isinstance(charged, HistogramLatency)
    assert sum(charged.counts) == 2
    assert charged.quantile(0.5) == pytest.approx(rows[0]["p50_ms"] / 1000)


@pytest.mark.parametrize("name", ["bf16", "bfloat16"])
def test_export_takes_the_spellings_of_latency(folder, tmp_path, capsys, name):
    arguments = ["export", folder / "p", "--to", "lerobot", "--out", tmp_path / "out", "--precision"]
    assert "LeRobot's policies are float32" in refused(capsys, *arguments, name)
    message = refused(capsys, *arguments, "fp33")
    assert "Unknown precision 'fp33'. Did you mean 'fp32'? Valid: bf16, bfloat16, float32, fp32, int8" in message
