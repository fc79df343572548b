# SPDX-License-Identifier: Apache-2.0
"""Every number of the token gate, in one frozen value that a bundle may carry."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from edge_vlm.errors import BundleError

SIGNALS = ("both", "frames", "events")


@dataclass(frozen=True)
class SttfConfig:
    """Sparse temporal token fusion (paper S); the defaults work without calibration.

    Scores are in noise units: 1 is the change that sensor noise alone makes.

    threshold_on, threshold_off: score from which a patch is recomputed, and under which it stops being
        recomputed once it was. ``threshold_on = 0`` recomputes everything.
    noise_min_levels, noise_max_levels: bounds of the estimated noise floor, in grey levels (0..255) RMS;
        ``threshold_on * noise_min_levels`` is the smallest change that is ever seen.
    noise_window_frames: samples in the running median that estimates the noise floor; after the first it takes one
        in four frames.
    light_gain_max, light_offset_max: strongest change of lighting that is still taken for lighting and not for
        content: gain per colour channel, and offset in grey levels at mid grey.
    event_on_per_pixel: events per sensor pixel of a patch, over what noise explains, that score ``threshold_on``.
    max_age_s: a token that was not computed at full depth for that long is due.
    age_batch_fraction: tokens that are due by age alone wait until that fraction of all tokens is due.
    dilation: neighbours (0, 4 or 8) of a changed patch that are recomputed with it.
    keyframe_fraction: above that fraction of changed patches everything is recomputed.
    budget_tokens: most tokens computed in one frame that is no keyframe (0: no limit); the rest stays due.
    max_wait_s: changes may wait so long to be computed together, as long as less than ``fresh_fraction`` of the
        patches are newly changed: every call of the encoder has a fixed cost. At frame rates under
        ``2 / max_wait_s`` nothing waits.
    fresh_fraction: see ``max_wait_s``.
    crowd_fraction: nor do changes wait once so many patches have changed, as a part of all: the fixed cost is small
        against theirs, and so much of the picture must not be late.
    settle_frames: quiet frames after which tokens last computed at shallow depth are computed at full depth.
    context_debt_max: a token carries, by attention, the context of patches that have changed since it was computed;
        the context is out of date once so many patches have changed, as a part of all patches. Such tokens are
        computed anew when the scene has settled.
    context_share: while the scene keeps changing, so many of them per changed patch are computed along with it.
    signals: what tells change: ``both`` frames and events (the larger score), ``frames`` or ``events`` alone. Where
        there are no events the frames tell.
    scene_distance: relative distance of the fused scene embedding (see ``fusion``) that asks for a new caption.
    """

    threshold_on: float = 6.0
    threshold_off: float = 4.0
    noise_min_levels: float = 0.8
    noise_max_levels: float = 3.0
    noise_window_frames: int = 31
    light_gain_max: float = 1.25
    light_offset_max: float = 20.0
    event_on_per_pixel: float = 0.06
    max_age_s: float = 10.0
    age_batch_fraction: float = 0.25
    dilation: int = 0
    keyframe_fraction: float = 0.6
    budget_tokens: int = 0
    max_wait_s: float = 0.14
    fresh_fraction: float = 0.08
    crowd_fraction: float = 0.3
    settle_frames: int = 2
    context_debt_max: float = 0.05
    context_share: float = 0.5
    signals: str = "both"
    scene_distance: float = 0.33

    def __post_init__(self) -> None:
        if not 0 <= self.threshold_off <= self.threshold_on:
            raise ValueError(
                f"0 <= threshold_off ({self.threshold_off}) <= threshold_on ({self.threshold_on}) is needed"
            )
        if self.dilation not in (0, 4, 8):
            raise ValueError(f"dilation is 0, 4 or 8 neighbours, not {self.dilation}")
        if not 0 < self.noise_min_levels <= self.noise_max_levels:
            raise ValueError("0 < noise_min_levels <= noise_max_levels is needed")
        if self.signals not in SIGNALS:
            raise ValueError(f"signals is one of {', '.join(SIGNALS)}, not {self.signals!r}")
        if not 0 < self.keyframe_fraction <= 1:
            raise ValueError(f"keyframe_fraction is in (0, 1], not {self.keyframe_fraction}")

    def to_json(self) -> dict[str, float | int | str]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict | None) -> SttfConfig:
        """``None`` gives the defaults; unknown or impossible values raise BundleError naming them."""
        if values is None:
            return cls()
        known = {field.name: type(field.default) for field in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise BundleError(
                f"the token gate's settings hold unknown names: {', '.join(unknown)}",
                "update edge_vlm, or write the bundle again with this version",
            )
        try:
            return cls(**{name: known[name](value) for name, value in values.items()})
        except (TypeError, ValueError) as error:
            raise BundleError(f"the token gate's settings are impossible: {error}", "write the bundle again") from error
