// SPDX-License-Identifier: Apache-2.0
// What the router is told of a scene, in one pass over arrays that the token gate has at hand. Plain arithmetic: knows
// neither TFLite nor the kernels. What each figure means is said in edge_vlm/anc/features.py, whose NumPy is the
// reference that tests hold this against.
#pragma once
#include <cstdint>

namespace edge_vlm {

// In the order and in the measures in which a router takes them.
struct SceneFigures {
  float active_fraction, fresh_fraction, mean_change, max_change, mean_shift, max_shift, edge_density, entropy_bits;
  float ego_shift_px, caption_confidence, frames_since_full, shallow_fraction, context_debt, drift;
};

// One frame. custom_ops/scene_pass.py has the same fields. A patch is `side` x `side` cells of three colours.
struct ScenePass {
  int32_t struct_bytes, rows, cols, side;  // patches of the image, cells of a patch
  int32_t image_tokens, dim;
  const float* descriptors;  // (rows * cols, side * side, 3), as are the next two
  const float* previous;     // of the frame before, or null
  const float* reference;    // at each patch's last refresh
  const float* scores;       // (rows * cols), as are the masks
  const uint8_t *active, *changed, *was_active, *shallow;
  const float* context_debt;
  const float *features_whole, *features_now;  // (image_tokens, dim), or null
  float pixels_per_cell, caption_confidence;
  int32_t frames_since_full;
  // Found; the shift in cells, 0 with response 0 where there is nothing to be seen.
  SceneFigures figures;
  float shift_x, shift_y, shift_response;
};

void measure_scene(ScenePass& pass);

}  // namespace edge_vlm
