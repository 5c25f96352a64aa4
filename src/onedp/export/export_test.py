"""Exports answer as the policies they come from, or are not written."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from onedp.backends import load_backend
from onedp.cli.main import main
from onedp.data.normalize import fit_normalizer
from onedp.diffusion.samplers import Ddim, Ddpm, Heun, OneStep
from onedp.diffusion.schedule import CosineDdpm, Edm
from onedp.errors import ArtifactError, DataError, OneDPError
from onedp.evaluate.scores import Scores
from onedp.export import model_files
from onedp.export.export import export_policy
from onedp.export.graph import PolicyGraph
from onedp.export.layers import FOR_OPENVINO_BF16, ConvAsMatmul, ConvTransposeAsMatmul, FastMish
from onedp.export.onnx_file import trace
from onedp.export.reference import Recorded, recorded_observations
from onedp.nets.build import build_denoiser
from onedp.nets.config import DitConfig, MlpConfig, UnetConfig
from onedp.observations import check_observation
from onedp.policy import TorchPolicy, load_policy, save_policy
from onedp.types import FieldSpec, PolicySpec, episode_noise

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
UNET = UnetConfig(channels=(8, 16), step_embed_dim=8, kernel_size=3, n_groups=4)
MLP = MlpConfig(width=16, blocks=1, step_embed_dim=8)
DIT = DitConfig(width=16, blocks=2, heads=2, step_embed_dim=8)


def make_policy(network=MLP, schedule=None, sampler=None, parameterization="eps") -> TorchPolicy:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    arrays = {
        "where": rng.normal([500, 2, 3], [0.1, 3, 3], (50, 3)).astype(np.float32),  # one range narrow beside its centre
        "grip": rng.uniform(0, 0.1, (50, 1)).astype(np.float32),
        "action": rng.uniform(-2, 2, (50, 2)).astype(np.float32),
    }
    denoiser = build_denoiser(network, SPEC, schedule or CosineDdpm(), parameterization).requires_grad_(False).eval()
    for parameter in denoiser.parameters():  # fresh residual blocks are identities and would ignore the observation
        parameter.add_(0.1 * torch.randn(parameter.shape))
    return TorchPolicy(
        name="p",
        spec=SPEC,
        task="pusht-keypoints",
        denoiser=denoiser,
        sampler=sampler or OneStep(5.0),
        normalizer=fit_normalizer(arrays, SPEC),
        network=network,
        provenance={"seed": 0},
        device=torch.device("cpu"),
    )


def inputs(policy, batch):
    rng = np.random.default_rng(batch)
    obs = {
        "where": rng.normal([500, 2, 3], [0.1, 3, 3], (batch, 2, 3)).astype(np.float32),
        "grip": rng.uniform(0, 0.1, (batch, 2, 1)).astype(np.float32),
    }
    return obs, np.stack([episode_noise(row, 0, policy.noise_shape) for row in range(batch)])


CASES = {
    "unet-one-step": (UNET, CosineDdpm(), OneStep(65.0, noise_scale=0.5, input_scale=0.25), "eps"),
    "unet-no-noise": (UNET, CosineDdpm(), OneStep(65.0, noise_scale=0.0), "eps"),
    "unet-ddim": (UNET, CosineDdpm(), Ddim(2), "eps"),
    "unet-ddim-no-noise": (UNET, CosineDdpm(), Ddim(2, noise_scale=0.0), "eps"),
    "unet-ddim-once-no-noise": (UNET, CosineDdpm(), Ddim(1, noise_scale=0.0), "x0"),
    "unet-heun": (UNET, Edm(), Heun(2), "edm"),
    "unet-edm-one-step": (UNET, Edm(), OneStep(2.5, noise_scale=0.5, input_scale=0.25), "edm"),
    "mlp-v-unclipped": (MLP, CosineDdpm(), OneStep(65.0, clip=None), "v"),
    "mlp-one-step": (MLP, CosineDdpm(), OneStep(65.0), "x0"),
    "mlp-no-noise": (MLP, Edm(), OneStep(2.5, noise_scale=0.0), "edm"),
    "mlp-ddpm": (MLP, CosineDdpm(), Ddpm(3), "eps"),
    "mlp-heun": (MLP, Edm(), Heun(2), "edm"),
    "mlp-heun-no-noise": (MLP, Edm(), Heun(2, noise_scale=0.0), "edm"),
    "dit-ddim": (DIT, CosineDdpm(), Ddim(2), "eps"),
    "dit-edm-one-step": (DIT, Edm(), OneStep(2.5, noise_scale=0.5, input_scale=0.25), "edm"),
}


@pytest.mark.parametrize("case", CASES)
def test_every_export_answers_as_the_policy(tmp_path, case):
    network, schedule, sampler, parameterization = CASES[case]
    save_policy(tmp_path / "policy", make_policy(network, schedule, sampler, parameterization))
    policy = load_policy(tmp_path / "policy")
    manifest = export_policy(tmp_path / "policy", "onnx", tmp_path / "out")
    assert manifest.nfe == policy.nfe
    exported = load_backend(tmp_path / "out", "onnxruntime")
    for batch in (1, 2, 5):
        obs, noise = inputs(policy, batch)
        expected = policy.infer(obs, noise)
        chunk = exported.infer(obs, noise)
        assert chunk.dtype == np.float32
        np.testing.assert_allclose(chunk, expected, atol=2e-4 if policy.nfe == 1 else 2e-3)
        assert np.ptp(expected) > 0.1  # not a constant
    report = json.loads((tmp_path / "out" / "parity.json").read_text())
    assert {row["batch"] for row in report["rows"]} == {1, 2, 7}
    assert report["largest_distance"] <= report["tolerance"] == (1e-4 if policy.nfe == 1 else 1e-3)
    assert report["reference"]["weights_digest"] == policy.provenance["weights_digest"]


@pytest.mark.parametrize("network", [UNET, DIT], ids=["unet", "dit"])
def test_openvino_files_answer_as_the_policy(tmp_path, network):
    pytest.importorskip("openvino")
    save_policy(tmp_path / "policy", make_policy(network))
    policy = load_policy(tmp_path / "policy")
    export_policy(tmp_path / "policy", "openvino", tmp_path / "out")
    exported = load_backend(tmp_path / "out")
    assert exported.runtime == "openvino"
    obs, noise = inputs(policy, 3)
    np.testing.assert_allclose(exported.infer(obs, noise), policy.infer(obs, noise), atol=2e-4)
    with pytest.raises(OneDPError, match=r"'onnxruntime' reads .onnx, not policy.xml"):
        load_backend(tmp_path / "out", "onnxruntime")


def test_the_graph_has_the_specs_names_and_no_float64():
    model = trace(PolicyGraph(make_policy(UNET)))
    assert [item.name for item in model.graph.input] == ["where", "grip", "noise"]
    assert [item.name for item in model.graph.output] == ["chunk"]
    assert model.opset_import[0].version == 17
    assert onnx.TensorProto.DOUBLE not in {item.data_type for item in model.graph.initializer}
    batch = [item.type.tensor_type.shape.dim[0].dim_param for item in (*model.graph.input, *model.graph.output)]
    assert batch == ["batch"] * 4
    assert not {"Sin", "Cos", "Softplus", "Conv", "ConvTranspose"} & {
        node.op_type for node in model.graph.node
    }  # folded or reshaped


def test_in_bf16s_form_convolutions_stay_and_the_numbers_too():
    policy = make_policy(UNET)
    obs, noise = inputs(policy, 3)
    arrays = [torch.from_numpy(each) for each in (*(obs[field.name] for field in policy.spec.observations), noise)]
    graph = PolicyGraph(policy, FOR_OPENVINO_BF16)
    with torch.inference_mode():
        torch.testing.assert_close(graph(*arrays), PolicyGraph(policy)(*arrays), atol=1e-4, rtol=1e-4)
    kinds = [node.op_type for node in trace(graph).graph.node]
    assert {"Conv", "ConvTranspose"} <= set(kinds)
    assert "Exp" not in kinds


def test_a_teacher_is_a_loop_over_one_network():
    sizes = {}
    for steps in (2, 50):
        model = trace(PolicyGraph(make_policy(UNET, sampler=Ddim(steps))))
        (loop,) = [node for node in model.graph.node if node.op_type == "Loop"]
        body = loop.attribute[0].g
        sizes[steps] = len(body.node), len(body.initializer)
        assert not {"Sin", "Cos", "Softplus", "Conv"} & {node.op_type for node in body.node}  # folded or reshaped
    assert sizes[2] == sizes[50]


@pytest.mark.parametrize("conv", [(3, 5, 5, 1, 2), (4, 4, 3, 2, 1), (2, 6, 1, 1, 0)])
def test_layers_in_their_fast_form_compute_the_same(conv):
    torch.manual_seed(0)
    layer = torch.nn.Conv1d(*conv)
    x = torch.randn(2, conv[0], 8)
    torch.testing.assert_close(ConvAsMatmul(layer)(x), layer(x), atol=1e-5, rtol=1e-5)
    transposed = torch.nn.ConvTranspose1d(*conv)
    torch.testing.assert_close(ConvTransposeAsMatmul(transposed)(x), transposed(x), atol=1e-5, rtol=1e-5)
    wide = torch.linspace(-100, 100, 401)
    torch.testing.assert_close(FastMish()(wide), torch.nn.functional.mish(wide), atol=1e-6, rtol=1e-5)


def test_a_graph_that_answers_otherwise_is_not_written(tmp_path, monkeypatch):
    save_policy(tmp_path / "policy", make_policy())

    class Wrong(PolicyGraph):
        def forward(self, *args):
            return super().forward(*args) * 0.99

    monkeypatch.setattr(model_files, "PolicyGraph", Wrong)
    with pytest.raises(OneDPError, match=r"The exported graph does not answer as the policy: .*Nothing was written"):
        export_policy(tmp_path / "policy", "onnx", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["policy"]


def test_recorded_observations_of_the_task_are_checked_too(tmp_path):
    save_policy(tmp_path / "policy", make_policy())
    rng = np.random.default_rng(0)
    windows = {
        "where": rng.normal(2, 3, (20, 2, 3)).astype(np.float32),
        "grip": rng.uniform(0, 0.1, (20, 2, 1)).astype(np.float32),
    }
    export_policy(tmp_path / "policy", "onnx", tmp_path / "out", recorded=Recorded("log.npz", windows))
    report = json.loads((tmp_path / "out" / "parity.json").read_text())
    assert report["recorded_observations"] == "log.npz"
    assert {row["inputs"] for row in report["rows"]} == {"random", "wide", "recorded"}
    shipped = recorded_observations("pusht-keypoints-onedp-s", None)
    assert shipped is not None
    spec = load_policy("pusht-keypoints-onedp-s").spec
    assert check_observation(spec, shipped.windows) == 256
    with pytest.raises(DataError, match="No data set at"):
        recorded_observations("pusht-keypoints-onedp-s", tmp_path / "nowhere.npz")
    with pytest.raises(DataError, match=r"has no \['grip', 'where'\] for the check"):
        recorded_observations(tmp_path / "policy", None)


def test_the_card_says_what_it_is_and_what_not_to_do(tmp_path):
    save_policy(tmp_path / "policy", make_policy())
    export_policy(tmp_path / "policy", "onnx", tmp_path / "out")
    chunk = onnx.load(tmp_path / "out" / "policy.onnx", load_external_data=False).graph.output[0]
    assert [dim.dim_value or dim.dim_param for dim in chunk.type.tensor_type.shape.dim] == ["batch", 7, 2]
    card = (tmp_path / "out" / "README.md").read_text()
    for text in ("one network pass", "where | (B, 2, 3)", "noise | (B, 1, 8, 2)", "Scores: none were given", "Do not"):
        assert text in card


def test_damaged_weights_and_foreign_folders_are_refused(tmp_path):
    save_policy(tmp_path / "policy", make_policy())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(OneDPError, match="exists and is no exported policy; it is left alone"):
        export_policy(tmp_path / "policy", "onnx", tmp_path / "mine")
    (tmp_path / "mine" / "manifest.json").write_text('{"name": "a web page"}')  # not ours either
    with pytest.raises(OneDPError, match="exists and is no exported policy; it is left alone"):
        export_policy(tmp_path / "policy", "onnx", tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    weights = tmp_path / "policy" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ArtifactError, match="is not the file that was saved"):
        export_policy(tmp_path / "policy", "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "onxx"], "Unknown export target 'onxx'. Did you mean 'onnx'?"),
        (["--sampler", "heun:3"], "The sampler 'heun:3' does not fit a policy of the process 'ddpm'"),
        (["--results", "nowhere.json"], "nowhere.json"),
    ],
)
def test_command_line_errors(tmp_path, capsys, arguments, message):
    save_policy(tmp_path / "policy", replace(make_policy(), task="my-task"))
    with pytest.raises(SystemExit) as stop:
        main(["export", str(tmp_path / "policy"), "--out", str(tmp_path / "out"), *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_scores_of_other_weights_are_refused(tmp_path):
    from onedp.evaluate.fake_results_test import fake_evaluation

    save_policy(tmp_path / "policy", make_policy())
    digest = load_policy(tmp_path / "policy").provenance["weights_digest"]
    result = Scores.of(fake_evaluation(sampler="one-step:5", digest="0" * 64))
    with pytest.raises(OneDPError, match="its scores would not be this file's"):
        export_policy(tmp_path / "policy", "onnx", tmp_path / "out", results=result)
    export_policy(tmp_path / "policy", "onnx", tmp_path / "out", results=replace(result, weights_digest=digest))
    assert f"score {result.score_mean:.3f}" in (tmp_path / "out" / "README.md").read_text()


def test_the_card_of_a_shipped_policy_has_its_scores_and_code_that_runs(tmp_path):
    manifest = export_policy("pusht-keypoints-onedp-s", "onnx", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "on 2,000 starts from seed 100000: score 0.978 [0.973, 0.982]" in card
    assert re.search(r"Latency when it was exported, batch 1, one thread of .*: onnxruntime \d+\.\d\d ms", card)
    code = card.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code.replace("FOLDER", str(tmp_path / "out")), names)
    assert names["chunk"].shape == (1, manifest.spec.chunk_length, manifest.spec.action_dim)
