from __future__ import annotations

import io

import av
import numpy as np
import pytest
from PIL import Image

from onedp.errors import OneDPError
from onedp.evaluate.fake_results_test import REFERENCE, STUDENT, fake_comparison, fake_evaluation
from onedp.evaluate.results import EpisodeResult
from onedp.report.video import (
    HOLD_AT_END_S,
    SUCCESS,
    ChosenStart,
    RecordedEpisode,
    choose_starts,
    make_clip,
    side_by_side_video,
)

FPS = 10


def recording(name: str, steps: int, success: bool, size: int = 64, brightness: int = 200) -> RecordedEpisode:
    frames = [np.full((size, size, 3), brightness, dtype=np.uint8) for _ in range(steps)]
    for step, frame in enumerate(frames):
        frame[:, : 1 + step * size // steps] //= 2
    return RecordedEpisode(name, 1, frames, list(np.linspace(0.1, 1.0 if success else 0.6, steps)), success)


def pictures(mp4: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(mp4), "r") as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_video_is_what_browsers_play_and_lasts_as_the_longest_episode():
    mp4 = side_by_side_video([recording("teacher", 12, True), recording("student", 20, False)], FPS)
    with av.open(io.BytesIO(mp4)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == FPS
        assert (stream.width % 16, stream.height % 16) == (0, 0)
        assert stream.width >= 2 * 64
    assert len(pictures(mp4)) == 19 + round(HOLD_AT_END_S * FPS)


def test_success_turns_green_only_when_it_happens():
    shown = pictures(side_by_side_video([recording("student", 10, True, size=128)], FPS))
    foot = [picture[-12, 64].astype(int) for picture in shown]
    assert np.abs(foot[-1] - SUCCESS).max() < 40
    assert np.abs(foot[3] - SUCCESS).max() > 40
    failed = pictures(side_by_side_video([recording("student", 10, False, size=128)], FPS))
    assert np.abs(failed[-1][-12, 64].astype(int) - SUCCESS).max() > 40


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 2, 2), (5, 3, 2)])
def test_panels_are_laid_out_for_a_phone(count, columns, rows):
    height, width = pictures(side_by_side_video([recording("p", 2, True)] * count, FPS))[0].shape[:2]
    assert columns * 64 <= width < (columns + 1) * 64
    assert rows * 64 <= height < (rows + 1) * 96


def test_the_same_recordings_give_the_same_bytes():
    episodes = [recording("a", 30, True, size=80), recording("b" * 60, 25, False, size=80)]
    assert side_by_side_video(episodes, FPS) == side_by_side_video(episodes, FPS)


def test_clip_has_poster_and_words():
    clip = make_clip(ChosenStart(7, ("the first start",)), [recording("teacher", 8, True), recording("s", 9, False)])
    assert clip.outcomes == (
        "teacher: solved after 8 steps, score 1.000",
        "s: not solved after 9 steps, score 0.600",
    )
    assert Image.open(io.BytesIO(clip.poster)).format == "JPEG"
    assert (clip.seed, clip.rules) == (7, ("the first start",))


def test_recordings_that_do_not_fit_are_refused():
    frame = np.zeros((8, 8, 3), dtype=np.uint8)
    with pytest.raises(OneDPError, match="x has 2 frames and 1 scores; expected the same number"):
        RecordedEpisode("x", 1, [frame, frame], [0.5], False)
    with pytest.raises(OneDPError, match="x has 0 frames"):
        RecordedEpisode("x", 1, [], [], False)
    with pytest.raises(OneDPError, match="expected one shape"):
        RecordedEpisode("x", 1, [frame.astype(np.float32)], [0.5], False)
    with pytest.raises(OneDPError, match="recordings of one size"):
        side_by_side_video([recording("a", 2, True, size=64), recording("b", 2, True, size=32)])


def test_starts_are_chosen_by_rule_and_ties_go_to_the_lower_seed():
    def scored(policy: str, scores: list[float]):
        full = fake_evaluation(policy, "one-step", episodes=len(scores))
        rows = [EpisodeResult(seed, score, False, 300) for seed, score in zip(full.seeds, scores, strict=True)]
        about = {key: value for key, value in vars(full).items() if key not in COMPUTED}
        return type(full).from_episodes(rows, **about)

    student, reference = scored("s", [0.9, 0.5, 0.7, 0.2, 0.7]), scored("r", [0.9, 1.0, 0.7, 0.7, 0.7])
    starts = choose_starts(student, reference, "s")
    assert starts == [
        ChosenStart(100_000, ("the first start",)),
        ChosenStart(100_002, ("the start with the median score of s",)),
        ChosenStart(100_001, ("the start where s falls furthest behind the reference",)),
    ]
    one = choose_starts(scored("s", [0.3, 0.5]), scored("r", [0.9, 0.9]), "s")
    assert [len(start.rules) for start in one] == [3]


COMPUTED = ("episodes", "first_seed", "score_mean", "score_ci95", "success_rate", "success_ci95", "per_episode")


def test_starts_are_among_those_both_were_run_on():
    comparison = fake_comparison()
    starts = choose_starts(comparison.result(STUDENT), comparison.result(REFERENCE), "student")
    assert {start.seed for start in starts} <= set(comparison.result(REFERENCE).seeds)
    with pytest.raises(OneDPError, match="no start in common to show"):
        choose_starts(fake_evaluation(first_seed=5), fake_evaluation(first_seed=100), "x")
