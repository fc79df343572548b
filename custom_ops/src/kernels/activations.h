// SPDX-License-Identifier: Apache-2.0
// The activations of Linear and SwiGLU. Included by each instruction set.
#pragma once
#include "vector_wide.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

// 1 / (1 + exp(v)), within 2e-6 of it; v beyond +-87 counts as that.
EDGE_VLM_INLINE f32w reciprocal_of_one_more(f32w v) {
  typedef Bits<f32w>::Unsigned Unsigned;
  v = wide_larger(wide_smaller(v, wide_splat(87.0f)), wide_splat(-87.0f));
  const f32w shifted = v * 1.44269504088896341f + kRoundingMagic;
  const f32w whole = shifted - kRoundingMagic;
  const f32w r = (v - whole * 0.693359375f) - whole * -2.12194440e-4f;  // ln 2 in two parts
  f32w p = wide_splat(8.31252057e-03f);  // exp(r) within 1e-7 for |r| <= ln 2 / 2
  p = p * r + 4.18901555e-02f;
  p = p * r + 1.66671142e-01f;
  p = p * r + 4.99992311e-01f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return 1.0f / (1.0f + (f32w)((Unsigned)p + ((Unsigned)shifted << 23)));
}

EDGE_VLM_INLINE f32w silu(f32w x) { return x * reciprocal_of_one_more(-x); }

// x / 2 * (1 + tanh u) = x * sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3): no cancellation where tanh is near -1.
EDGE_VLM_INLINE f32w gelu_tanh(f32w x) {
  constexpr float kLinear = -1.59576912160573f, kCubic = kLinear * 0.044715f;
  return x * reciprocal_of_one_more(x * (kLinear + kCubic * (x * x)));
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
