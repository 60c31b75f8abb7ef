"""report.md of a sweep shows texts from data as they are."""

from __future__ import annotations

from qrft.report.sweep import page


def test_a_name_and_a_finding_bring_no_markup() -> None:
    evil = "<img src=x> [a](b) `c` *d*\n# e"
    shown = "\\<img src=x> \\[a](b) \\`c\\` \\*d\\* # e"
    text = page.text(evil, [], [], [{"sentence": evil}])
    assert text.startswith(f"# {shown}\n- {shown}\n")
