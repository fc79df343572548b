// SPDX-License-Identifier: Apache-2.0
// Activations to int8. Included by each instruction set.
#pragma once
#include "kernels.h"
#include "vector8.h"
#include "vector_wide.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

static float row_peak(const float* x, int width) {
  constexpr int kAhead = 512;  // rows follow one another, from memory or a far cache
  f32w peaks = wide_splat(0.0f);
  int k = 0;
  for (; k + kWide <= width; k += kWide) {
    __builtin_prefetch(x + k + kAhead);
    const f32w next = wide_magnitude(wide_load(x + k));
    peaks = next > peaks ? next : peaks;
  }
  float peak = 0.0f;
  for (int lane = 0; lane < kWide; lane++) peak = peaks[lane] > peak ? peaks[lane] : peak;
  for (; k < width; k++) peak = __builtin_fabsf(x[k]) > peak ? __builtin_fabsf(x[k]) : peak;
  return peak;
}

// Vector codes to the quads from input k on; quads lie `step` bytes apart.
template <typename Bytes>
EDGE_VLM_INLINE void put_codes(int8_t* codes, size_t step, int k, Bytes bytes) {
  constexpr int kQuads = sizeof(Bytes) / 4;
  if (step == 4) {
    std::memcpy(codes + k, &bytes, sizeof bytes);
    return;
  }
  int32_t quads[kQuads];
  std::memcpy(quads, &bytes, sizeof bytes);
  for (int quad = 0; quad < kQuads; quad++) std::memcpy(codes + (k / 4 + quad) * step, &quads[quad], 4);
}

// Inputs start..stop-1 of a row to codes; what a vector holds beyond `width` becomes 0. Returns the sum of the codes.
// x * factor is at most 127 in magnitude after rounding, by the choice of factor; NaN becomes -127.
static int32_t quantize_stretch(const float* x, int start, int stop, int width, float factor, int8_t* codes, size_t step) {
  int32_t total = 0;
  int k = start;
  Integers sums = {};
  for (; k + kWide <= stop; k += kWide) {
    const f32w scaled = wide_load(x + k) * factor, lowest = wide_splat(-127.0f);
    const Integers q = wide_round(scaled > lowest ? scaled : lowest);
    sums += q;
    put_codes(codes, step, k, wide_narrow(q));
  }
  for (int lane = 0; lane < kWide; lane++) total += sums[lane];
  for (; k < stop; k += kLanes) {
    const i32x8 q = round_to_integer(larger(load_first(x + k, width - k, 0.0f) * factor, splat(-127.0f)));
    for (int lane = 0; lane < kLanes; lane++) total += q[lane];
    put_codes(codes, step, k, narrow(q));  // the stride leaves room for a whole vector
  }
  return total;
}

// q = clip(round_half_even(x * (127 / amax)), -127, 127), scale = amax / 127. A row without a usable amax (all zero, or
// so small that 127 / amax overflows) is zero.
static void quantize(const float* x, int rows, int width, const QuantizedRows& out) {
  const int panel_rows = out.panel_rows > 1 ? out.panel_rows : 1;
  const int group_size = out.group_size == 0 ? width : out.group_size;
  const size_t step = 4 * static_cast<size_t>(panel_rows);
  for (int row = 0; row < rows; row++, x += width) {
    const float peak = row_peak(x, width), inverse = 127.0f / peak;
    const bool usable = peak > 0.0f && inverse <= 3.4028235e38f;
    const float factor = usable ? inverse : 0.0f;
    int8_t* codes = out.codes + (row - row % panel_rows) * out.stride + row % panel_rows * 4;
    for (int group = 0; group < out.groups; group++) {
      const int start = group * group_size, stop = width - start < group_size ? width : start + group_size;
      out.sum[static_cast<size_t>(row) * out.groups + group] =
          quantize_stretch(x, start, stop, width, factor, codes, step);
    }
    for (int k = static_cast<int>(round_up(width, kLanes)); k < static_cast<int>(out.stride); k += 4)
      std::memset(codes + k / 4 * step, 0, 4);
    out.scale[row] = usable ? peak / 127.0f : 0.0f;
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
