# SPDX-License-Identifier: Apache-2.0
"""A run as one picture, drawn with OpenCV: frames with their captions and computed patches, and a timeline."""

from __future__ import annotations

import cv2
import numpy as np

from edge_vlm.meters import summarize
from edge_vlm.replay.read_results import RunResults
from edge_vlm.replay.record import mask_from_hex

WIDTH, MARGIN, COLUMNS, MAX_TILES = 1280, 20, 4, 12
TILE_WIDTH = (WIDTH - MARGIN * (COLUMNS + 1)) // COLUMNS
TEXT_LINES = 3
_PAPER, _INK, _FAINT = (250, 250, 250), (40, 40, 40), (190, 190, 190)
_COMPUTED = (60, 200, 90)
# Colours are RGB throughout; the file is written as BGR at the very end.
BRANCH_COLOURS = {"reuse": (90, 190, 110), "shallow": (80, 170, 210), "sparse": (240, 180, 60), "full": (220, 80, 70)}
_OTHER = (150, 150, 150)


def draw(results: RunResults) -> np.ndarray:
    """RGB uint8 (height, 1280, 3)."""
    places = chosen_places(results.records, MAX_TILES)
    images = results.images(set(places))
    tiles = [_tile(results.records[place], images.get(place)) for place in places]
    parts = [_heading(results), _sheet(tiles), _timeline(results.records)]
    return np.concatenate(parts, axis=0)


def chosen_places(records: list[dict], count: int) -> list[int]:
    """Where to look: places spread evenly over the run, each moved to the nearest new caption in its share."""
    if len(records) <= count:
        return list(range(len(records)))
    share = len(records) / count
    refreshed = [place for place, record in enumerate(records) if record.get("caption_refreshed")]
    chosen = []
    for number in range(count):
        low, high = int(number * share), int((number + 1) * share)
        inside = [place for place in refreshed if low <= place < high]
        chosen.append(inside[0] if inside else (low + high) // 2)
    return chosen


def _blank(height: int, width: int = WIDTH) -> np.ndarray:
    return np.full((height, width, 3), _PAPER, np.uint8)


def _put(image: np.ndarray, text: str, x: int, y: int, scale: float = 0.45, colour=_INK, weight: int = 1) -> None:
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, weight, cv2.LINE_AA)


def _wrapped(text: str, width: int, scale: float, lines: int) -> list[str]:
    rows, row = [], ""
    for word in text.split():
        longer = f"{row} {word}".strip()
        if row and cv2.getTextSize(longer, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] > width:
            rows.append(row)
            row = word
        else:
            row = longer
    rows.append(row)
    return rows if len(rows) <= lines else [*rows[: lines - 1], rows[lines - 1] + " ..."]


def _heading(results: RunResults) -> np.ndarray:
    image = _blank(78)
    records, summary = results.records, results.summary or {}
    total = sum(record["tokens_total"] for record in records)
    reused = 1 - sum(record["tokens_computed"] for record in records) / total if total else 0.0
    latency = summarize(record["measured"]["total_ms"] for record in records)
    joules = [record["measured"]["joules"] for record in records]
    measured = [value for value in joules if value is not None]
    energy = f"{sum(measured):.1f} J ({records[0]['measured']['energy_source']})" if measured else "energy unavailable"
    _put(image, str(summary.get("source", results.folder)), MARGIN, 32, 0.75, weight=2)
    line = f"{len(records)} frames   {100 * reused:.0f} % of visual tokens reused   {latency.p50_ms:.0f} ms p50   "
    _put(image, line + f"{latency.p95_ms:.0f} ms p95   {energy}", MARGIN, 60, 0.5)
    return image


def _tile(record: dict, picture: np.ndarray | None) -> np.ndarray:
    """One frame with what was computed of it in green, and its caption below."""
    height = TILE_WIDTH * 3 // 4
    if picture is None:
        shown = np.full((height, TILE_WIDTH, 3), _FAINT, np.uint8)
    else:
        height = max(1, round(TILE_WIDTH * picture.shape[0] / picture.shape[1]))
        shown = cv2.resize(picture, (TILE_WIDTH, height), interpolation=cv2.INTER_AREA)
    mask = mask_from_hex(record["active"], tuple(record["grid"])).astype(np.uint8)
    computed = cv2.resize(mask, (TILE_WIDTH, height), interpolation=cv2.INTER_NEAREST).astype(bool)
    tinted = (shown * 0.65 + np.array(_COMPUTED) * 0.35).astype(np.uint8)
    shown = np.where(computed[:, :, None], tinted, shown)
    tile = _blank(height + 26 + 18 * TEXT_LINES, TILE_WIDTH)
    tile[:height] = shown
    colour = BRANCH_COLOURS.get(record["branch"], _OTHER)
    cv2.rectangle(tile, (0, height), (TILE_WIDTH - 1, height + 5), colour, cv2.FILLED)
    state = f"{record['frame']}  {record['branch']}  {record['tokens_computed']}/{record['tokens_total']}"
    _put(tile, state, 0, height + 20, 0.4, (110, 110, 110))
    for number, line in enumerate(_wrapped(record["caption"] or "(no caption)", TILE_WIDTH, 0.45, TEXT_LINES)):
        _put(tile, line, 0, height + 38 + 18 * number)
    return tile


def _sheet(tiles: list[np.ndarray]) -> np.ndarray:
    rows = []
    for start in range(0, len(tiles), COLUMNS):
        row_tiles = tiles[start : start + COLUMNS]
        row = _blank(max(tile.shape[0] for tile in row_tiles))
        for number, tile in enumerate(row_tiles):
            x = MARGIN + number * (TILE_WIDTH + MARGIN)
            row[: tile.shape[0], x : x + TILE_WIDTH] = tile
        rows.append(row)
    return np.concatenate(rows, axis=0)


def _timeline(records: list[dict]) -> np.ndarray:
    """Three strips over the frames: branch, tokens computed, milliseconds (bars end at the 99th percentile, as one slow
    frame would flatten all others); ticks where a caption was decoded."""
    image = _blank(300)
    left, right = MARGIN + 70, WIDTH - MARGIN
    edges = np.linspace(left, right, len(records) + 1)
    milliseconds = np.array([record["measured"]["total_ms"] for record in records])
    tokens = np.array([record["tokens_computed"] / max(record["tokens_total"], 1) for record in records])
    top_ms = max(float(np.percentile(milliseconds, 99)), 1e-3)
    _put(image, "branch", MARGIN, 34)
    _put(image, "tokens", MARGIN, 76)
    _put(image, f"{records[0]['tokens_total']} max", MARGIN, 94, 0.35, (110, 110, 110))
    _put(image, "ms", MARGIN, 176)
    _put(image, f"p99 {top_ms:.0f}", MARGIN, 194, 0.35, (110, 110, 110))
    for place, record in enumerate(records):
        x0, x1 = int(edges[place]), max(int(edges[place + 1]) - 1, int(edges[place]))
        colour = BRANCH_COLOURS.get(record["branch"], _OTHER)
        cv2.rectangle(image, (x0, 20), (x1, 42), colour, cv2.FILLED)
        cv2.rectangle(image, (x0, 150 - round(90 * tokens[place])), (x1, 150), colour, cv2.FILLED)
        bar = round(80 * min(1.0, milliseconds[place] / top_ms))
        cv2.rectangle(image, (x0, 250 - bar), (x1, 250), (130, 140, 170), cv2.FILLED)
        if record.get("caption_refreshed"):
            cv2.line(image, (x0, 12), (x0, 18), _INK, 1)
    for y in (150, 250):
        cv2.line(image, (left, y), (right, y), _FAINT, 1)
    _legend(image, left, 280, records)
    return image


def _legend(image: np.ndarray, x: int, y: int, records: list[dict]) -> None:
    used = {record["branch"] for record in records}
    for name in [*BRANCH_COLOURS, *sorted(used - set(BRANCH_COLOURS))]:
        share = sum(record["branch"] == name for record in records) / len(records)
        cv2.rectangle(image, (x, y - 10), (x + 12, y + 2), BRANCH_COLOURS.get(name, _OTHER), cv2.FILLED)
        _put(image, f"{name} {100 * share:.0f} %", x + 18, y)
        x += 140
    seconds = (records[-1]["stamp_ns"] - records[0]["stamp_ns"]) * 1e-9
    _put(image, f"{len(records)} frames, {seconds:.1f} s; ticks: caption decoded; green: computed", x, y)
