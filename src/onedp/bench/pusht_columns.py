"""Columns of the benchmark of a simulated task. Torch-free."""

from __future__ import annotations

from onedp.bench.frame import Column

PUSHT_COLUMNS = (
    Column("score", "Score", "mean of the best reward of an episode", plot=True, interval=True),
    Column("success", "Success", "share of starts solved", plot=True, interval=True),
    Column(
        "score_difference", "Score - teacher", "paired difference to the teacher's reference sampler", interval=True
    ),
    Column("success_difference", "Success - teacher", "paired difference of the success rate", interval=True),
    Column("energy_distance", "Energy distance", "to the teacher's chunks on held-out observations", 4, True),
    Column("sliced_wasserstein", "SW", "sliced Wasserstein distance to the teacher's chunks, held-out", 4),
    Column("spread", "Spread", "standard deviation of a chunk over noise, normalised units", 4),
    Column("at_limits", "At limits", "share of executed actions at the action limits", 4),
    Column("out_of_range", "Out of range", "share of normalised actions beyond [-1, 1] before the clip", 4),
    Column("seam_jump", "Seam jump", "root-mean-square jump where a chunk ends and the next begins", 4),
    Column("last_step_error", "Error", "distance of the chunk to the teacher's exact solution from the same noise", 4),
    Column("acting_noise", "Noise", "factor on the noise that it acts with", 2),
    Column("nfe", "Passes", "network passes a chunk", 0),
    Column("latency_ms_p50", "ms", "median of one chunk, batch 1, one thread, all policies taking turns", 2),
    Column("hz", "Hz", "chunks a second at that median", 1),
    Column("parameters", "Weights", "weights of the policy", 0),
    Column("steps", "Steps", "training steps", 0),
    Column("passes_ratio", "Passes / teacher", "training passes, counted, over the teacher's"),
    Column(
        "cpu_ratio",
        "Time / teacher",
        "processor seconds of the training over the teacher's, whose step is timed before and after it",
    ),
    Column("wall_ratio", "Wall-clock / teacher", "wall-clock of the training over the teacher's (on its machine)"),
    Column("wall_seconds", "Wall-clock [s]", "of the training, beside whatever else the machine did", 0),
)
