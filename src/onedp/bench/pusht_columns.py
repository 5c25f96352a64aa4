"""Columns of the benchmark of a simulated task. Torch-free."""

from __future__ import annotations

from onedp.bench.frame import Column

PUSHT_COLUMNS = (
    Column("score", "Score", "mean of the best reward of an episode", plot=True),
    Column("score_low", "Score, lower", "lower end of the score's 95 % interval, mean over seeds"),
    Column("score_high", "Score, upper", "upper end of it"),
    Column("success", "Success", "share of starts solved", plot=True),
    Column("success_low", "Success, lower", "lower end of its 95 % interval"),
    Column("success_high", "Success, upper", "upper end of it"),
    Column("score_difference", "Score - teacher", "paired difference to the reference sampler of the teacher"),
    Column("score_difference_low", "Score - teacher, lower", "lower end of its 95 % interval"),
    Column("score_difference_high", "Score - teacher, upper", "upper end of it"),
    Column("success_difference", "Success - teacher", "paired difference of the success rate"),
    Column("success_difference_low", "Success - teacher, lower", "lower end of its 95 % interval"),
    Column("success_difference_high", "Success - teacher, upper", "upper end of it"),
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
