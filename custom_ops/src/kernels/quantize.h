// SPDX-License-Identifier: Apache-2.0
// Activations to int8, as they are or normalised. Included by each instruction set.
#pragma once
#include "kernels.h"
#include "pointwise.h"
#include "vector8.h"
#include "vector_wide.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

// A row as it is, and as Norm makes it: kWide values from input k on, of which `count` exist; the others are 0. What a row
// gives is computed whenever it is asked for: the normalised row is never written, and its bits are those that Norm writes.
struct PlainRow {
  const float* x;
  __attribute__((always_inline)) f32w at(int k, int count) const { return wide_load_first(x + k, count, 0.0f); }
};

struct NormalisedRow {
  NormArgs args;  // of which y is not used
  const float* x;
  RowMoments moments;
  __attribute__((always_inline)) f32w at(int k, int count) const { return normalised(args, x, moments, k, count); }
};

template <typename Row>
static float row_peak(const Row& row, int width) {
  constexpr int kAhead = 512;  // rows follow one another, from memory or a far cache
  f32w peaks = wide_splat(0.0f);
  for (int k = 0; k < width; k += kWide) {
    __builtin_prefetch(row.x + k + kAhead);
    const f32w next = wide_magnitude(row.at(k, width - k));
    peaks = next > peaks ? next : peaks;
  }
  float peak = 0.0f;
  for (int lane = 0; lane < kWide; lane++) peak = peaks[lane] > peak ? peaks[lane] : peak;
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

// Inputs start..stop-1 of a row to codes; what a vector holds beyond becomes 0. Returns the sum of the codes.
// x * factor is at most 127 in magnitude after rounding, by the choice of factor; NaN becomes -127.
template <typename Row>
static int32_t quantize_stretch(const Row& row, int start, int stop, float factor, int8_t* codes, size_t step) {
  int32_t total = 0;
  Integers sums = {};
  for (int k = start; k < stop; k += kWide) {
    const f32w scaled = row.at(k, stop - k) * factor, lowest = wide_splat(-127.0f);
    const Integers q = wide_round(scaled > lowest ? scaled : lowest);
    sums += q;
    put_codes(codes, step, k, wide_narrow(q));  // the stride leaves room for a whole vector
  }
  for (int lane = 0; lane < kWide; lane++) total += sums[lane];
  return total;
}

// Row number `index` of a call: q = clip(round_half_even(x * (127 / amax)), -127, 127), scale = amax / 127. A row without a
// usable amax (all zero, or so small that 127 / amax overflows) is zero.
template <typename Row>
static void quantize_row(const Row& row, int index, int width, const QuantizedRows& out) {
  const int panel_rows = out.panel_rows > 1 ? out.panel_rows : 1;
  const int group_size = out.group_size == 0 ? width : out.group_size;
  const size_t step = 4 * static_cast<size_t>(panel_rows);
  const float peak = row_peak(row, width), inverse = 127.0f / peak;
  const bool usable = peak > 0.0f && inverse <= 3.4028235e38f;
  const float factor = usable ? inverse : 0.0f;
  const size_t within = index % panel_rows, first = index - within;
  int8_t* codes = out.codes + first * out.stride + within * 4;
  int32_t* sums = out.sum + first * out.groups + within;
  for (int group = 0; group < out.groups; group++) {
    const int start = group * group_size, stop = width - start < group_size ? width : start + group_size;
    sums[static_cast<size_t>(group) * panel_rows] = quantize_stretch(row, start, stop, factor, codes, step);
  }
  for (int k = static_cast<int>(round_up(width, kWide)); k < static_cast<int>(out.stride); k += 4)
    std::memset(codes + k / 4 * step, 0, 4);
  out.scale[index] = usable ? peak / 127.0f : 0.0f;
}

static void quantize(const float* x, int rows, int width, const QuantizedRows& out) {
  for (int row = 0; row < rows; row++, x += width) quantize_row(PlainRow{x}, row, width, out);
}

static void norm_quantize(const NormArgs& args, const QuantizedRows& out) {
  const float* x = args.x;
  for (int row = 0; row < args.rows; row++, x += args.width)
    quantize_row(NormalisedRow{args, x, row_moments(args, x)}, row, args.width, out);
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
