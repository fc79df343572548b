# SPDX-License-Identifier: Apache-2.0
"""Caption metrics of a whole set, by pycocoevalcap: BLEU-1..4, ROUGE-L, CIDEr, and METEOR where Java is installed.

The COCO tokenizer needs Java; captions are plain words, so lower case without punctuation gives the same tokens.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence

from edge_vlm.errors import InputError
from offline_compress.pairs.captioned_images import words

METEOR_NOTE = "METEOR needs Java (apt install default-jre-headless)"
# METEOR's process never answers to a text without words; these two match nothing, nor each other.
_EMPTY_CAPTION, _EMPTY_REFERENCE = "zzcaption", "zzreference"


def caption_metrics(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], meteor: bool = True
) -> dict[str, float | str | None]:
    """bleu_1..bleu_4, rouge_l, cider, and meteor: None where it cannot be computed, with why under "meteor_note".

    CIDEr weighs n-grams by how rare they are among these references (Vedantam et al. 2015), so it needs many scenes
    and depends on which. Raises InputError where there is nothing to compare.
    """
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    truth, said = tokenised(hypotheses, references)
    bleu, _ = Bleu(4).compute_score(truth, said, verbose=0)
    metrics: dict[str, float | str | None] = {f"bleu_{n}": float(value) for n, value in enumerate(bleu, start=1)}
    metrics["rouge_l"] = float(Rouge().compute_score(truth, said)[0])
    metrics["cider"] = float(Cider().compute_score(truth, said)[0])
    if not meteor:
        return metrics
    return metrics | meteor_score(truth, said)


def meteor_score(truth: dict[int, list[str]], said: dict[int, list[str]]) -> dict[str, float | str | None]:
    if shutil.which("java") is None:
        return {"meteor": None, "meteor_note": METEOR_NOTE}
    from pycocoevalcap.meteor.meteor import Meteor

    try:
        meteor = Meteor()
    except OSError as error:
        return {"meteor": None, "meteor_note": f"{METEOR_NOTE}; the one here failed ({error})"}
    truth = {i: [text or _EMPTY_REFERENCE for text in texts] for i, texts in truth.items()}
    said = {i: [text or _EMPTY_CAPTION for text in texts] for i, texts in said.items()}
    try:
        return {"meteor": float(meteor.compute_score(truth, said)[0])}
    except (OSError, ValueError) as error:  # a Java that ends at once, or answers something else than a number
        return {"meteor": None, "meteor_note": f"{METEOR_NOTE}; the one here failed ({error})"}
    finally:
        if meteor.lock.locked():  # compute_score keeps it where it fails or is interrupted, and __del__ waits for it
            meteor.lock.release()
        with contextlib.suppress(OSError):
            meteor.meteor_p.stdin.close()


def tokenised(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """What pycocoevalcap takes: {scene: references} and {scene: [hypothesis]}, as words with single spaces."""
    if not hypotheses or len(hypotheses) != len(references):
        raise InputError(
            f"{len(hypotheses)} captions for {len(references)} sets of references", "give one caption for each set"
        )
    if not all(references):
        raise InputError("an image has no reference caption", "give at least one for each")
    truth = {i: [" ".join(words(text)) for text in texts] for i, texts in enumerate(references)}
    return truth, {i: [" ".join(words(text))] for i, text in enumerate(hypotheses)}
