"""Files that are whole or absent, also after a writer was killed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from onedp.files import ABANDONED_SECONDS, growing_file, write_text


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path) -> None:
    """A young temporary file may belong to a writer that lives, and one of another name is not looked at."""
    names = {"old": ".a.txt.1.tmp", "young": ".a.txt.2.tmp", "other": ".b.txt.1.tmp"}
    for each, name in names.items():
        (tmp_path / name).write_text("half")
        if each != "young":
            long_ago = time.time() - ABANDONED_SECONDS - 60
            os.utime(tmp_path / name, (long_ago, long_ago))
    write_text(tmp_path / "a.txt", "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", names["young"], names["other"]}
    assert (tmp_path / "a.txt").read_text() == "whole"


@pytest.mark.parametrize("fails", [False, True])
def test_folders_are_made_for_a_file_and_not_for_nothing(tmp_path: Path, fails: bool) -> None:
    def write() -> None:
        with growing_file(tmp_path / "new" / "folder" / "a.txt") as temporary:
            temporary.write_text("whole")
            if fails:
                raise KeyboardInterrupt

    if fails:
        with pytest.raises(KeyboardInterrupt):
            write()
        assert list(tmp_path.iterdir()) == []
    else:
        write()
        assert (tmp_path / "new" / "folder" / "a.txt").read_text() == "whole"
