"""The pictures of a sweep's report as files: SVG that stands alone, and PNG."""

from __future__ import annotations

import re
from typing import Any

from qrft.report.sweep.page import sheets

DRAWN = re.compile(r"svg [.t]|\.(axis|curve|dot|ring|whisker|fit|member|absent|link|bar)\b")
FONTS = "Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"


def standalone_svg(svg: str) -> str:
    """Return a picture that stands alone, on white, with the light colours and the rules of the style sheets inside."""
    svg = str(svg)
    without_comments = re.sub(r"/\*.*?\*/", "", str(sheets()), flags=re.S)
    without_media = re.sub(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*\s*\}", "", without_comments)
    colours = dict(re.findall(r"--(\w+):\s*(#\w+);", without_media))
    kept = [rule for rule in re.findall(r"[^{}]+\{[^{}]*\}", without_media) if DRAWN.match(rule.strip())]
    rules = re.sub(r"var\(--(\w+)\)", lambda match: colours[match[1]], "".join(kept)).replace("svg .", ".")
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="{FONTS}"'
    white = f'<style>{rules.strip()}</style><rect width="{width}" height="{height}" fill="#ffffff"/>'
    return svg.replace("<svg", head, 1).replace(">", f">{white}", 1)


def can_draw_png() -> bool:
    """Return whether resvg-py is installed, which `pip install 'qrft[png]'` brings."""
    from importlib.util import find_spec

    return find_spec("resvg_py") is not None


def png(svg: str) -> bytes:
    """Return a standalone SVG as PNG at twice its size. Needs resvg-py."""
    import resvg_py

    drawn: Any = resvg_py.svg_to_bytes(svg_string=svg, zoom=2)
    return bytes(drawn)
