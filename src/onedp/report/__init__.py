"""The HTML report: plots, tables, videos and a verdict computed from the numbers. Needs the extra ``report``."""

from onedp.report.report import write_report
from onedp.report.video import RecordedEpisode, RolloutClip, choose_starts, make_clip, side_by_side_video

__all__ = [
    "RecordedEpisode",
    "RolloutClip",
    "choose_starts",
    "make_clip",
    "side_by_side_video",
    "write_report",
]
