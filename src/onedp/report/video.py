"""Roll-outs side by side on the same start, as one MP4 that every browser plays."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import matplotlib
import numpy as np
from av.video.stream import VideoStream
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFont

from onedp.errors import OneDPError
from onedp.evaluate.results import EvaluationResult

BACKGROUND = (23, 26, 31)
INK = (236, 238, 241)
MUTED = (150, 158, 168)
TRACK = (52, 58, 67)
PROGRESS = (111, 183, 242)
SUCCESS = (74, 200, 120)
SUCCESS_INK = (8, 40, 20)
HOLD_AT_END_S = 1.5
X264 = {"crf": "28", "preset": "medium", "threads": "1", "x264-params": "mbtree=0"}
"""One thread and no macroblock tree: with either, the same pictures give other bytes each time."""


@dataclass(frozen=True)
class RecordedEpisode:
    """One episode of one policy as pictures."""

    name: str
    """Shown above the picture, e.g. ``onedp-s one-step``."""
    passes: int
    """Network passes per chunk."""
    frames: list[ndarray]
    """RGB, uint8 (H, W, 3), one per control step; all episodes of a video have the same H and W."""
    scores: list[float]
    """Reward, or best reward so far, at each frame."""
    success: bool

    def __post_init__(self) -> None:
        if not self.frames or len(self.frames) != len(self.scores):
            raise OneDPError(
                f"The recording of {self.name} has {len(self.frames)} frames and {len(self.scores)} scores; expected "
                "the same number of both and at least one."
            )
        shapes = {frame.shape for frame in self.frames}
        kinds = {str(frame.dtype) for frame in self.frames}
        if len(shapes) != 1 or kinds != {"uint8"} or len(self.frames[0].shape) != 3 or self.frames[0].shape[2] != 3:
            raise OneDPError(
                f"The recording of {self.name} has frames of shape {sorted(shapes)} and type {sorted(kinds)}; expected "
                "one shape (H, W, 3) and uint8."
            )


@dataclass(frozen=True)
class RolloutClip:
    """A finished video of one start with what a reader must know of it."""

    seed: int
    rules: tuple[str, ...]
    """Why this start is shown."""
    mp4: bytes
    poster: bytes
    """JPEG of the last frame, for paper and for readers without video."""
    outcomes: tuple[str, ...]
    """One sentence per policy; together the text alternative of the video."""


@dataclass(frozen=True)
class ChosenStart:
    """A start to show, and the rules that picked it."""

    seed: int
    rules: tuple[str, ...]


def choose_starts(candidate: EvaluationResult, reference: EvaluationResult, name: str) -> list[ChosenStart]:
    """Three starts by fixed rules: the first, the candidate's median, the candidate's worst against the reference.

    Ties go to the lower seed; a start that several rules pick appears once, with all of them. ``name`` is what the
    rules call the candidate.
    """
    reference_scores = {row.seed: row.score for row in reference.per_episode}
    common = [row for row in candidate.per_episode if row.seed in reference_scores]
    if not common:
        raise OneDPError(f"{candidate.label} and {reference.label} have no start in common to show.")
    by_score = sorted(common, key=lambda row: (row.score, row.seed))
    worst = min(common, key=lambda row: (row.score - reference_scores[row.seed], row.seed))
    picked = [
        (common[0].seed, "the first start"),
        (by_score[(len(common) - 1) // 2].seed, f"the start with the median score of {name}"),
        (worst.seed, f"the start where {name} falls furthest behind the reference"),
    ]
    seeds = list(dict.fromkeys(seed for seed, _ in picked))
    return [ChosenStart(seed, tuple(rule for picked_seed, rule in picked if picked_seed == seed)) for seed in seeds]


def make_clip(start: ChosenStart, episodes: Sequence[RecordedEpisode], fps: int = 20) -> RolloutClip:
    """Video, poster and text alternative of the recordings of one start."""
    poster = io.BytesIO()
    Image.fromarray(_compose(episodes, max(len(episode.frames) for episode in episodes) - 1)).save(
        poster, "JPEG", quality=82
    )
    outcomes = tuple(
        f"{episode.name}: {'solved' if episode.success else 'not solved'} after {len(episode.frames)} steps, "
        f"score {max(episode.scores):.3f}"
        for episode in episodes
    )
    return RolloutClip(start.seed, start.rules, side_by_side_video(episodes, fps), poster.getvalue(), outcomes)


def side_by_side_video(episodes: Sequence[RecordedEpisode], fps: int = 20) -> bytes:
    """MP4 (H.264, yuv420p): a panel per policy with a caption, its score so far and its success.

    A finished episode keeps its last frame until the longest one ends. The same input gives the same bytes.
    """
    shapes = {episode.frames[0].shape for episode in episodes}
    if len(shapes) != 1:
        raise OneDPError(f"A video needs recordings of one size, got {sorted(shapes)}.")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        try:
            stream = container.add_stream("libx264", rate=fps, options=X264)
        except ValueError as error:
            raise OneDPError(
                f"This PyAV cannot encode H.264 ({error}). Install its wheel: pip install --force-reinstall av"
            ) from error
        assert isinstance(stream, VideoStream)
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = _compose(episodes, 0).shape[:2]
        for picture in _pictures(episodes, fps):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _pictures(episodes: Sequence[RecordedEpisode], fps: int) -> Iterator[ndarray]:
    last = max(len(episode.frames) for episode in episodes) - 1
    for index in range(last):
        yield _compose(episodes, index)
    final = _compose(episodes, last)
    for _ in range(max(1, round(HOLD_AT_END_S * fps))):
        yield final


def _compose(episodes: Sequence[RecordedEpisode], index: int) -> ndarray:
    """All panels at frame ``index``, in rows of at most three (four are two by two), padded to whole macroblocks."""
    columns = 2 if len(episodes) == 4 else min(3, len(episodes))
    panels = [_panel(episode, index) for episode in episodes]
    height, width = panels[0].height, panels[0].width
    gap = max(2, width // 64)
    rows = math.ceil(len(panels) / columns)
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    padded = (16 * math.ceil(size[0] / 16), 16 * math.ceil(size[1] / 16))
    canvas = Image.new("RGB", padded, BACKGROUND)
    left, top = (padded[0] - size[0]) // 2, (padded[1] - size[1]) // 2
    for place, panel in enumerate(panels):
        canvas.paste(panel, (left + (place % columns) * (width + gap), top + (place // columns) * (height + gap)))
    return np.asarray(canvas)


def _panel(episode: RecordedEpisode, index: int) -> Image.Image:
    """Caption bar, picture, score bar; the score bar turns green on success."""
    over = index >= len(episode.frames) - 1
    index = min(index, len(episode.frames) - 1)
    picture = episode.frames[index]
    height, width = picture.shape[:2]
    unit = width / 256
    bar = round(26 * unit)
    panel = Image.new("RGB", (width, height + 2 * bar), BACKGROUND)
    panel.paste(Image.fromarray(picture), (0, bar))
    draw = ImageDraw.Draw(panel)
    middle, foot, side = bar / 2, height + 1.5 * bar, 7 * unit
    right = f"{episode.passes} pass" if episode.passes == 1 else f"{episode.passes} passes"
    room = width - 3 * side - draw.textlength(right, _font(12 * unit))
    bold = _font(13 * unit, bold=True)
    draw.text((side, middle), _fitted(draw, episode.name, bold, room), INK, bold, "lm")
    draw.text((width - side, middle), right, MUTED, _font(12 * unit), "rm")

    score = max(episode.scores[: index + 1])
    solved = over and episode.success
    filled = round(width * float(np.clip(score, 0.0, 1.0)))
    top = height + bar
    draw.rectangle((0, top, width, top + bar), SUCCESS if solved else TRACK)
    if not solved:
        draw.rectangle((0, top + bar - round(4 * unit), filled, top + bar), MUTED if over else PROGRESS)
    ink = SUCCESS_INK if solved else INK
    state = "solved, " if solved else "not solved, " if over else ""
    draw.text((side, foot - unit), f"score {score:.2f}", ink, _font(12 * unit, bold=True), "lm")
    draw.text((width - side, foot - unit), f"{state}step {index + 1}", ink, _font(12 * unit), "rm")
    if solved:
        draw.rectangle((0, bar, width - 1, top), outline=SUCCESS, width=max(2, round(3 * unit)))
    return panel


def _fitted(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """``text``, cut with an ellipsis where it is wider than ``room``."""
    if draw.textlength(text, font) <= room:
        return text
    while text and draw.textlength(text + "…", font) > room:
        text = text[:-1]
    return text.rstrip() + "…"


_fonts: dict[tuple[int, bool], ImageFont.FreeTypeFont] = {}


def _font(size: float, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that ships with matplotlib, so a video does not depend on what the machine has installed."""
    key = (max(6, round(size)), bold)
    if key not in _fonts:
        name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
        _fonts[key] = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), key[0])
    return _fonts[key]
