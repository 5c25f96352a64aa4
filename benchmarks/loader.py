"""Windows a second that the loader makes of Push-T's pictures, by storage: zarr, video, frame cache.

    python benchmarks/loader.py pusht_cchi_v7_replay.zarr.zip --out results/loader.json

The same windows in the same order from each; medians over the batches. Pictures of the first episodes only, so that
writing the video takes a minute. Beside it, the rate of training when a step of the usual image policy is taken on one
thread.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from onedp.data.config import ReadingConfig
from onedp.data.lerobot_export import ExportConfig, export_lerobot
from onedp.data.normalize import fit_normalizer
from onedp.data.readers import open_recording
from onedp.diffusion.schedule import CosineDdpm
from onedp.files import write_json
from onedp.machine import command_line, cpu_name
from onedp.methods.denoising import denoising_loss
from onedp.nets.build import build_denoiser
from onedp.nets.config import NETWORK_SIZES
from onedp.nets.encoder_choice import usual_encoder
from onedp.tasks import get_task
from onedp.tasks.demonstrations import load_demonstrations
from onedp.train.windows import WindowTensors, batch_indices, window_tensors

BATCH = 64
CPU = torch.device("cpu")


def windows_of(path: Path, reading: ReadingConfig) -> WindowTensors:
    """Training windows of ``pusht-image`` from a data set of any format."""
    task = get_task("pusht-image")
    episodes = load_demonstrations(path, task, reading=reading)
    encoder = usual_encoder(task.spec)
    return window_tensors(episodes, task.spec, fit_normalizer(episodes.arrays, task.spec), encoder.training_crop)


def windows_per_s(data: WindowTensors, batches: int) -> float:
    """Median over batches, one thread, after one batch of warm-up."""
    seconds = []
    for draw in range(batches + 1):
        start = time.perf_counter()
        picks = data.training[batch_indices(len(data.training), BATCH, 0, draw)]
        data.batch(picks, CPU, np.random.default_rng(draw))
        seconds.append(time.perf_counter() - start)
    return BATCH / statistics.median(seconds[1:])


def training_windows_per_s(data: WindowTensors, steps: int) -> float:
    """Forward and backward pass of the usual image policy with the smallest U-Net, one thread."""
    spec = get_task("pusht-image").spec
    torch.manual_seed(0)
    denoiser = build_denoiser(NETWORK_SIZES["unet-small"], spec, CosineDdpm(), "eps", usual_encoder(spec))
    batch = data.batch(data.training[:BATCH], CPU, np.random.default_rng(0))
    assert batch.nactions is not None
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        denoising_loss(denoiser, batch.nactions, batch, torch.Generator().manual_seed(0)).backward()
        seconds.append(time.perf_counter() - start)
    return BATCH / statistics.median(seconds[1:])


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, help="folder to keep the video and the cache in, for another run")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = options.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    for codec in ("av1", "h264"):
        if not (work / codec).exists():
            chosen = open_recording(options.data).select(range(options.episodes))
            export_lerobot(chosen, work / codec, ExportConfig(fps=10, task="push", codec=codec))
    rates = {}
    cached = ReadingConfig(frame_cache=work / "cache")
    for name, path, reading in (
        ("frame cache", work / "av1", cached),
        ("video, AV1", work / "av1", ReadingConfig()),
        ("video, H.264", work / "h264", ReadingConfig()),
        ("zarr, 128 pictures a chunk", options.data, ReadingConfig()),
    ):
        data = windows_of(path, reading)
        rates[name] = round(windows_per_s(data, options.batches), 1)
        print(f"{name:<30} {rates[name]:>10,.1f} windows a second")
    training = round(training_windows_per_s(windows_of(work / "av1", cached), 2), 2)
    print(f"{'training, one thread':<30} {training:>10,.1f} windows a second")
    result = {
        "what": f"windows a second on one thread, {BATCH} a batch, two pictures of 96 x 96 each, cropped to 84 x 84",
        "loader": rates,
        "training": training,
        "loader_over_training": {name: round(rate / training, 1) for name, rate in rates.items()},
        "cpu": cpu_name(),
        "command": command_line(),
    }
    write_json(options.out, result)
    print(json.dumps(result["loader_over_training"]))
    if options.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
