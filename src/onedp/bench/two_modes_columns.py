"""Columns of the benchmark ``two-modes``. Torch-free."""

from __future__ import annotations

from onedp.bench.frame import Column

TWO_MODES_COLUMNS = (
    Column("valid", "Valid", "share of chunks on one of the two paths (truth 1)", plot=True),
    Column("left_positive", "Left, o > 0", "share of chunks on the left path for a positive first coordinate (0.7)"),
    Column("left_negative", "Left, o < 0", "the same for the other observations (truth 0.3)"),
    Column("share_error", "Share error", "largest difference of these shares to the reference teacher's", plot=True),
    Column("sliced_wasserstein", "SW to truth", "sliced Wasserstein distance to the exact distribution", 4, True),
    Column("precision", "Precision", "root-mean-square distance of valid chunks to their path (truth 0.03)", 4),
    Column("spread", "Spread", "standard deviation over noise within a mode (truth 0.03)", 4),
    Column("sliced_wasserstein_to_teacher", "SW to teacher", "sliced Wasserstein distance to the reference", 4),
    Column("energy_distance_to_teacher", "Energy distance", "energy distance to the reference's chunks", 4),
    Column("out_of_range", "Out of range", "share of normalised actions beyond [-1, 1] before the clip", 4),
    Column("nfe", "Passes", "network passes a chunk", 0),
    Column("parameters", "Weights", "weights of the policy", 0),
    Column("steps", "Steps", "training steps", 0),
    Column("passes_ratio", "Passes / teacher", "training passes, counted, over the teacher's"),
    Column("cpu_ratio", "Time / teacher", "processor seconds of the training over the teacher's"),
    Column("wall_ratio", "Wall-clock / teacher", "wall-clock of the training over the teacher's"),
    Column("wall_seconds", "Wall-clock [s]", "of the training, beside whatever else the machine did", 0),
    Column("latency_ms_p50", "ms", "median of one chunk, batch 1, one thread, all policies taking turns", 2),
)
