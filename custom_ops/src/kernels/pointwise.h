// SPDX-License-Identifier: Apache-2.0
// LayerNorm, RMSNorm and SwiGLU. Included by each instruction set.
#pragma once
#include "activations.h"
#include "kernels.h"
#include "vector8.h"
#include "vector_wide.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

static float mean_of(const float* x, int width) {
  f32x8 sum = splat(0.0f);
  for (int d = 0; d < width; d += kLanes) sum += load_first(x + d, width - d, 0.0f);
  return sum_lanes(sum) / static_cast<float>(width);
}

// Mean of (x - centre)^2.
static float mean_square(const float* x, int width, float centre) {
  f32x8 sum = splat(0.0f);
  for (int d = 0; d < width; d += kLanes) {
    const f32x8 centred = load_first(x + d, width - d, centre) - centre;
    sum += centred * centred;
  }
  return sum_lanes(sum) / static_cast<float>(width);
}

struct RowMoments {
  float centre, scale;
};

static RowMoments row_moments(const NormArgs& args, const float* x) {
  const float centre = args.kind == NormKind::kLayer ? mean_of(x, args.width) : 0.0f;
  return {centre, 1.0f / __builtin_sqrtf(mean_square(x, args.width, centre) + args.epsilon)};
}

// Outputs d .. d + kWide - 1 of a row; 0 behind the last.
EDGE_VLM_INLINE f32w normalised(const NormArgs& args, const float* x, RowMoments moments, int d, int count) {
  const f32w weight = wide_load_first(args.weight + d, count, 0.0f);
  const f32w v = (wide_load_first(x + d, count, moments.centre) - moments.centre) * moments.scale * weight;
  return args.bias == nullptr ? v : v + wide_load_first(args.bias + d, count, 0.0f);
}

static void norm(const NormArgs& args) {
  const float* x = args.x;
  float* y = args.y;
  for (int row = 0; row < args.rows; row++, x += args.width, y += args.width) {
    const RowMoments moments = row_moments(args, x);
    for (int d = 0; d < args.width; d += kWide)
      wide_store_first(y + d, normalised(args, x, moments, d, args.width - d), args.width - d);
  }
}

static void swiglu(const float* x, int rows, int width, float* y) {
  for (int row = 0; row < rows; row++, x += 2 * static_cast<size_t>(width), y += width)
    for (int d = 0; d < width; d += kWide) {
      const f32w gate = wide_load_first(x + d, width - d, 0.0f), up = wide_load_first(x + width + d, width - d, 0.0f);
      wide_store_first(y + d, silu(gate) * up, width - d);
    }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
