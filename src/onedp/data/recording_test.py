from __future__ import annotations

from onedp.data.recording import bad_sentences


def test_one_sentence_for_what_many_episodes_have() -> None:
    gone = "has no pictures"
    assert bad_sentences({3: "is empty", 0: gone, 1: gone, 2: gone}) == [
        "Each of the 3 episodes 0 to 2 has no pictures.",
        "Episode 3 is empty.",
    ]
    assert bad_sentences({5: gone, 1: gone, 9: gone}) == ["Each of the 3 episodes 1 ... 9 has no pictures."]
    assert bad_sentences({}) == []
