// SPDX-License-Identifier: Apache-2.0
// How far one small grey image is shifted against another, by phase correlation (Kuglin and Hines 1975).
#pragma once

namespace edge_vlm {

struct PhaseShift {
  float dx, dy;    // pixels; positive where the content has moved to the right and down
  float response;  // 0..1: how much of the image moved that way
};

// Both images (height, width). edge_vlm/sttf/ego_motion.py has the reference.
PhaseShift phase_shift(const float* before, const float* now, int height, int width);

}  // namespace edge_vlm
