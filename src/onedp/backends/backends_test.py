"""Backends refuse what was changed, pass over runtimes that answer otherwise, and complain as the torch policy does."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from onedp.backends import load_backend
from onedp.backends import runtimes as runtimes_module
from onedp.backends.manifest import LARGEST_TOLERANCE, read_export
from onedp.backends.runtimes import RUNTIMES, check_threads, open_model, usable_runtimes
from onedp.cli.serve import open_policy
from onedp.data.normalize import fit_normalizer
from onedp.diffusion.samplers import OneStep
from onedp.diffusion.schedule import CosineDdpm
from onedp.errors import ArtifactError, OneDPError, SpecError
from onedp.export.export import export_policy
from onedp.export.parity import tolerance
from onedp.nets.build import build_denoiser
from onedp.nets.config import MlpConfig
from onedp.policy import TorchPolicy, load_policy, save_policy
from onedp.types import FieldSpec, Policy, PolicySpec, episode_noise

SPEC = PolicySpec(
    observations=(FieldSpec("where", (3,), "m"), FieldSpec("grip", (1,), "m")),
    action=FieldSpec("action", (2,), "m"),
    action_low=(-1.0, -1.0),
    action_high=(1.0, 0.5),
    rate_hz=10.0,
    horizon=8,
    n_obs_steps=2,
    n_action_steps=4,
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with ``policy`` and its ONNX export ``out``."""
    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.normal(0, 1, (50, size)).astype(np.float32)
        for name, size in {"where": 3, "grip": 1, "action": 2}.items()
    }
    network = MlpConfig(width=16, blocks=1, step_embed_dim=8)
    denoiser = build_denoiser(network, SPEC, CosineDdpm(), "x0").requires_grad_(False).eval()
    policy = TorchPolicy(
        name="p", spec=SPEC, task="my-task", denoiser=denoiser, sampler=OneStep(65.0), network=network,
        normalizer=fit_normalizer(arrays, SPEC), provenance={}, device=torch.device("cpu"),
    )  # fmt: skip
    save_policy(folder / "policy", policy)
    export_policy(folder / "policy", "onnx", folder / "out")
    return folder


@pytest.fixture
def out(exported, tmp_path):
    """A copy that a test may damage."""
    shutil.copytree(exported / "out", tmp_path / "out")
    return tmp_path / "out"


def inputs(batch=2):
    obs = SPEC.fake_observation(batch, np.random.default_rng(0))
    return obs, np.stack([episode_noise(row, 0, (1, 8, 2)) for row in range(batch)])


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_every_runtime_is_a_policy_and_answers_as_pytorch(exported, runtime):
    pytest.importorskip(RUNTIMES[runtime].package)
    backend = load_backend(exported / "out", runtime, threads=2)
    assert isinstance(backend, Policy)
    assert (backend.spec, backend.noise_shape, backend.nfe) == (SPEC, (1, 8, 2), 1)
    assert (backend.runtime, backend.threads) == (runtime, 2)
    policy = load_policy(exported / "policy")
    for batch in (1, 2, 7):
        chunk = backend.infer(*inputs(batch))
        np.testing.assert_allclose(chunk, policy.infer(*inputs(batch)), atol=1e-5)
    kept = backend.infer(*inputs(1))
    before = kept.copy()
    backend.infer(inputs(1)[0], np.ones((1, 1, 8, 2), dtype=np.float32))
    np.testing.assert_array_equal(kept, before)  # an answer is the caller's: the runtime's memory is not


def test_input_errors_are_those_of_the_torch_policy(exported):
    backend, policy = load_backend(exported / "out"), load_policy(exported / "policy")
    obs, noise = inputs()
    bad = [
        ({"where": obs["where"]}, noise, r"missing \['grip'\]"),
        ({**obs, "grip": obs["grip"][0]}, noise, "Add the batch axis"),
        (obs, noise[:, :, :4], r"Noise has shape \(2, 1, 4, 2\), expected \(2, 1, 8, 2\)"),
        ({**obs, "grip": np.full_like(obs["grip"], np.nan)}, noise, "Observation 'grip' has NaN or infinity"),
    ]
    for wrong, with_noise, message in bad:
        errors = []
        for each in (backend, policy):
            with pytest.raises(SpecError, match=message) as caught:
                each.infer(wrong, with_noise)
            errors.append(str(caught.value))
        assert errors[0] == errors[1]


def test_the_server_opens_an_export_by_its_folder(exported):
    name, policy = open_policy(str(exported / "out"), device="cpu", threads=1)
    assert name == "out"
    obs, noise = inputs()
    np.testing.assert_array_equal(policy.infer(obs, noise), load_backend(exported / "out").infer(obs, noise))
    with pytest.raises(OneDPError, match=r"its sampler is part of it\. Export again with --sampler ddim:2"):
        open_policy(f"{exported / 'out'}@ddim:2", device="cpu", threads=1)


def test_arrays_of_other_types_are_converted(exported):
    policy = load_backend(exported / "out")
    obs, noise = inputs()
    wide = policy.infer({name: values.astype(np.float64) for name, values in obs.items()}, noise.tolist())
    np.testing.assert_array_equal(wide, policy.infer(obs, noise))


def test_a_changed_graph_is_refused(out):
    data = bytearray((out / "policy.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (out / "policy.onnx").write_bytes(data)
    with pytest.raises(ArtifactError, match=r"policy.onnx is not the file that was exported: its SHA-256 is"):
        load_backend(out)
    (out / "policy.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"policy.onnx is missing. Restore it"):
        load_backend(out)


def change(out, **entries):
    path = out / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"format": "onedp.export/9"}, "has the format 'onedp.export/9', this package reads 'onedp.export/2'"),
        ({"extra": 1}, r"unknown entries \['extra'\]"),
        ({"spec": {}}, "is not readable: The manifest has no entry 'spec.observations'"),
        (
            {"files": ["policy.onnx"]},
            r"The manifest: 'files' is \[\"policy.onnx\"\], expected an object",
        ),
        ({"reference_chunk": {"a": 1}}, "is not readable: The manifest holds an object where a list of others belongs"),
        ({"input_ranges": {}}, "input_ranges has no two ends of the shape"),
        ({"input_ranges": {"where": ["low", "high"]}}, "input_ranges has no two ends of the shape"),
        ({"reference_seed": "first"}, "'reference_seed' is \"first\", expected a whole number"),
        ({"reference_seed": -1}, "reference_seed is -1, expected 0 to"),
        ({"reference_seed": 2**70}, r"reference_seed is 1180591620717411303424, expected 0 to 2\*\*63 - 1"),
        (
            {"noise_shape": [10**9, 8, 2], "nfe": 10**9},
            "one chunk would take 16,000,000,008 numbers, at most 134,217,728",
        ),
        ({"tolerance": 1e9}, r"tolerance is 1e\+09, at most 0.001 is right for float32"),
        ({"tolerance": 2.5, "precision": "int8", "gate": {}}, "tolerance is 2.5, at most 1 is right for int8"),
        ({"action_width": [0, 1]}, "tolerance or action_width does not fit"),
        ({"noise_shape": [10**9, 3, 2]}, "noise_shape .* does not fit the spec"),
        ({"noise_shape": [1, 4, 2]}, "noise_shape .* does not fit the spec"),
        ({"model": "../policy.onnx"}, "'files' must hold plain names"),
        ({"encoders": {"where": "policy.onnx"}}, r"encoders .* must name pictures \[\] and files"),
        ({"precision": "int8"}, "precision 'int8' is unknown, or its gate is missing"),
        ({"tolerance": 0}, "tolerance or action_width does not fit"),
        ({"reference_chunk": [[0.0]]}, "reference_chunk does not fit"),
    ],
)
def test_a_wrong_manifest_is_refused(out, entries, message):
    change(out, **entries)
    with pytest.raises(ArtifactError, match=message):
        read_export(out)


def test_what_is_no_export_is_named(tmp_path, exported):
    with pytest.raises(
        ArtifactError, match=r"is no exported policy: it has no manifest.json. Make one with: onedp export"
    ):
        load_backend(tmp_path)
    with pytest.raises(OneDPError, match=r"Unknown runtime 'onnxruntme'\. Did you mean 'onnxruntime'"):
        load_backend(exported / "out", "onnxruntme")
    with pytest.raises(OneDPError, match=r"'onnxruntime' computes in float32 and int8, not in bfloat16"):
        open_model("onnxruntime", exported / "out" / "policy.onnx", 1, "bfloat16")


@pytest.mark.parametrize("threads", ["2", 1.5, 0, -1, 10**9, True, None])
def test_threads_are_a_whole_number_that_a_machine_can_have(threads):
    with pytest.raises(OneDPError, match=rf"^threads is {threads!r}, expected a whole number from 1 to \d+ on this"):
        check_threads(threads)
    assert check_threads(np.int64(1)) == 1


@pytest.mark.parametrize("threads", [0, 10**9])
def test_threads_are_checked_once_before_any_runtime(exported, threads):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no runtime is blamed
        with pytest.raises(OneDPError, match=rf"^threads is {threads}, expected a whole number"):
            load_backend(exported / "out", threads=threads)


def test_no_rows_are_no_observation(exported):
    obs = {name: values[:0] for name, values in inputs()[0].items()}
    for policy in (load_backend(exported / "out"), load_policy(exported / "policy")):
        with pytest.raises(SpecError, match=r"The observation has no rows \(batch size 0\)"):
            policy.infer(obs, np.zeros((0, 1, 8, 2), dtype=np.float32))


def test_what_exports_accept_as_rounding_their_loader_accepts_too():
    assert max(tolerance(nfe) for nfe in (1, 2, 100)) == LARGEST_TOLERANCE


def wrong_runtime(monkeypatch, name):
    """Make the runtime ``name`` answer 1 % off, as a broken kernel would."""
    original = RUNTIMES[name]

    def opened(path, threads, precision):
        run = original.open(path, threads, precision)
        return lambda given: run(given) * np.float32(0.99)

    monkeypatch.setitem(runtimes_module.RUNTIMES, name, replace(original, open=opened))


def test_a_runtime_that_answers_otherwise_is_passed_over_with_a_warning(exported, monkeypatch):
    if usable_runtimes("policy.onnx") != ["onnxruntime", "openvino"]:
        pytest.skip("needs both runtimes")
    wrong_runtime(monkeypatch, "onnxruntime")
    message = "The first answer of the runtime 'onnxruntime' differs .* Trying the next runtime"
    with pytest.warns(RuntimeWarning, match=message):
        backend = load_backend(exported / "out")
    assert backend.runtime == "openvino"
    wrong_runtime(monkeypatch, "openvino")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(OneDPError, match=r"cannot be run: .*'onnxruntime'.*'openvino'"):
            load_backend(exported / "out")
    with pytest.raises(OneDPError, match="It would not act as it was tested"):
        load_backend(exported / "out", "openvino")  # asked for by name: no other one is taken


def test_without_runtimes_the_error_says_what_to_install(exported, monkeypatch):
    for name, runtime in RUNTIMES.items():
        monkeypatch.setitem(runtimes_module.RUNTIMES, name, replace(runtime, package="onedp_no_such_package"))
    with pytest.raises(OneDPError, match=r"No installed runtime reads policy.onnx in float32.*onedp\[robot\]"):
        load_backend(exported / "out")
    with pytest.raises(
        OneDPError, match=r"'openvino' is not installed. Install it with: pip install 'onedp\[openvino\]'"
    ):
        load_backend(exported / "out", "openvino")


def test_answers_that_are_no_numbers_never_pass(exported):
    manifest = read_export(exported / "out")
    chunk = np.asarray(manifest.reference_chunk)[None]
    assert manifest.distance(chunk, chunk) == 0
    assert manifest.distance(np.full_like(chunk, np.nan), chunk) == float("inf")
