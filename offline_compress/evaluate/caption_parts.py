# SPDX-License-Identifier: Apache-2.0
"""Which parts of a caption of the rendered scenes are right: their grammar is closed, so words can be read back."""

from __future__ import annotations

import re
from collections.abc import Sequence

from offline_compress.models.scenes.vocabulary import ACTORS, COLOURS, KINDS, SURFACES

_SINGULAR = {"boxes": "box", **{f"{kind}s": kind for kind in KINDS}}
_NOUN = re.compile(rf"\b(an?|two|three|four) ({'|'.join(COLOURS)}) ({'|'.join([*_SINGULAR, *KINDS])})\b")
_ACTION = {"standing": "standing", "stands": "standing", "open": "open", "holding": "holding", "holds": "holding",
           "reaching": "reaching", "reaches": "reaching"}  # fmt: skip
_FORWARD, _BACKWARD = re.compile(r"\b(left of|in front of)\b"), re.compile(r"\b(right of|behind)\b")
_RELATION = {"left of": "left", "right of": "left", "in front of": "front", "behind": "front"}

PARTS = ("objects", "kinds", "colours", "counts", "relation", "surface", "actor")


def caption_parts(text: str) -> dict[str, object]:
    """What the caption says, the same for all phrasings of a scene; objects in reading order."""
    actor = next((name for name in ACTORS if re.search(rf"\b{name}\b", text)), None)
    body, clause = text, ""
    if actor:
        cut = re.search(r"\b(and|while|with|under|below) an? (open )?(gripper|person|cart)\b", text)
        body, clause = (text[: cut.start()], text[cut.start() :]) if cut else (text, text)
    nouns = [
        (count.replace("an", "a"), colour, _SINGULAR.get(kind, kind)) for count, colour, kind in _NOUN.findall(body)
    ]
    backward = _BACKWARD.search(body)
    relation = backward or _FORWARD.search(body)
    return {
        "objects": tuple(reversed(nouns)) if backward else tuple(nouns),
        "kinds": sorted(noun[2] for noun in nouns),
        "colours": sorted(noun[1] for noun in nouns),
        "counts": sorted(noun[0] for noun in nouns),
        "relation": _RELATION[relation.group(1)] if relation else None,
        "surface": next((surface for surface in SURFACES if surface in body), None),
        "actor": (actor, action_of(clause), tuple(_NOUN.findall(clause))) if actor else None,
    }


def action_of(clause: str) -> str | None:
    words = clause.split()
    named = next((_ACTION[word] for word in words if word in _ACTION), None)
    return named or next((word for word in words if word in ("left", "right")), None)


def part_accuracy(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Share of captions whose part equals the first reference's, for every part; `all`: nothing is wrong."""
    said = [caption_parts(text) for text in hypotheses]
    true = [caption_parts(texts[0]) for texts in references]
    equal = [{part: ours[part] == theirs[part] for part in PARTS} for ours, theirs in zip(said, true, strict=True)]
    accuracy = {part: sum(row[part] for row in equal) / len(equal) for part in PARTS}
    return accuracy | {"all": sum(all(row.values()) for row in equal) / len(equal)}
