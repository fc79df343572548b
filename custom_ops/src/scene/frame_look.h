// SPDX-License-Identifier: Apache-2.0
// How far each patch of a frame is from what is remembered of it, where the light has not changed: most frames, in one
// pass. edge_vlm/sttf/change.py and illumination.py have the references.
#pragma once
#include <cstdint>

namespace edge_vlm {

// One frame. custom_ops/frame_look.py has the same fields. Grey levels throughout; a descriptor is 4 x 4 cells of three
// colours, a sample the three colours of every `sample_step`-th cell, colour by colour.
struct FrameLook {
  int32_t struct_bytes, height, width, rows, cols, sample_step;
  float noise_levels, gain_max, offset_max;
  float light[6];          // of the frame before: gain and offset of each colour
  const uint8_t* image;    // (height, width, 3)
  const float* reference;  // descriptors at each patch's last refresh, and the light they were seen under:
  const float *gain, *offset;       // (rows * cols, 3)
  const float *previous;            // descriptors of the frame before, or null
  const float *expected, *sampled;  // samples: as this light would show them, and of the frame before; or null
  float *descriptors, *sample;      // found: of this frame
  float *change, *step;  // found where the light is steady: RMS per patch against `reference` and against `previous`
  float mean_level;
  int32_t as_expected, as_before;  // whether the light is that of `expected`, and whether that of `sampled`
};

int samples_of(int cells, int step);

void look(FrameLook& frame);

}  // namespace edge_vlm
