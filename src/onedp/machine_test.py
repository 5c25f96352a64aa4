"""What provenance says of machine and command."""

from __future__ import annotations

from onedp.machine import command_line, cpu_name, usable_cores


def test_command_keeps_options_and_drops_folders_of_this_machine(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/opt/bin/onedp", "train", "--data", "/home/ann/my data.zip", "--out", "runs/a"])
    assert command_line() == "onedp train --data 'my data.zip' --out runs/a"


def test_machine_is_named():
    assert cpu_name()
    assert usable_cores() >= 1
