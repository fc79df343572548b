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
  constexpr int kChains = 4;   // so that no maximum waits for the one before
  f32w peaks[kChains] = {};
  int k = 0;
  for (; k + kChains * kWide <= width; k += kChains * kWide)
#pragma GCC unroll 4
    for (int chain = 0; chain < kChains; chain++) {
      __builtin_prefetch(row.x + k + chain * kWide + kAhead);
      peaks[chain] = wide_larger(wide_magnitude(row.at(k + chain * kWide, kWide)), peaks[chain]);
    }
  for (; k < width; k += kWide) peaks[0] = wide_larger(wide_magnitude(row.at(k, width - k)), peaks[0]);
  return wide_max(wide_larger(wide_larger(peaks[0], peaks[1]), wide_larger(peaks[2], peaks[3])));
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

// kWide values to codes, stored and added to sums. x * factor is at most 127 in magnitude after rounding, by the choice of
// factor; NaN becomes -127.
EDGE_VLM_INLINE void quantize_values(f32w values, float factor, int8_t* codes, size_t step, int k, Integers& sums) {
  const Integers q = wide_round(wide_larger(values * factor, wide_splat(-127.0f)));
  sums += q;
  put_codes(codes, step, k, wide_narrow(q));
}

// Inputs start..stop-1 of a row to codes; what a vector holds beyond becomes 0, and the stride leaves room for it. Returns
// the sum of the codes.
template <typename Row>
static int32_t quantize_stretch(const Row& row, int start, int stop, float factor, int8_t* codes, size_t step) {
  Integers sums = {};
  int k = start;
  for (; k + kWide <= stop; k += kWide) quantize_values(row.at(k, kWide), factor, codes, step, k, sums);
  if (k < stop) quantize_values(row.at(k, stop - k), factor, codes, step, k, sums);
  return wide_total(sums);
}

// What a row is multiplied with to become q = clip(round_half_even(x * (127 / amax)), -127, 127), and the scale amax / 127
// that goes with it. A row without a usable amax (all zero, or so small that 127 / amax overflows) is zero.
struct RowFactor {
  float factor, scale;
};

template <typename Row>
EDGE_VLM_INLINE RowFactor row_factor(const Row& row, int width) {
  const float peak = row_peak(row, width), inverse = 127.0f / peak;
  const bool usable = peak > 0.0f && inverse <= 3.4028235e38f;
  return usable ? RowFactor{inverse, peak / 127.0f} : RowFactor{0.0f, 0.0f};
}

// A row by itself, of one group, with zeros up to `stride`, a multiple of kRowPadding. Returns the sum of the codes.
static int32_t quantize_row(const float* x, int width, int stride, int8_t* codes, float* scale) {
  const PlainRow row{x};
  const RowFactor found = row_factor(row, width);
  *scale = found.scale;
  const int written = static_cast<int>(round_up(width, kWide));
  std::memset(codes + written, 0, stride - written);
  return quantize_stretch(row, 0, width, found.factor, codes, 4);
}

// A panel, rows first .. first + count - 1 of a call. All rows of a stretch of inputs are written before the next: the lines
// of a panel are shared by its rows.
template <typename Row>
static void quantize_panel(const Row* row, int first, int count, int width, const QuantizedRows& out) {
  constexpr int kStretchInputs = 256;
  const size_t panel_rows = out.panel_rows, step = 4 * panel_rows;
  int8_t* codes = out.codes + first * out.stride;
  int32_t* sums = out.sum + static_cast<size_t>(first) * out.groups;
  float factor[kRowTile];
  for (int r = 0; r < count; r++) {
    const RowFactor found = row_factor(row[r], width);
    factor[r] = found.factor;
    out.scale[first + r] = found.scale;
    for (int group = 0; group < out.groups; group++) sums[group * panel_rows + r] = 0;
  }
  const int stretch = out.group_size == 0 ? kStretchInputs : out.group_size;
  for (int start = 0; start < width; start += stretch) {
    const int stop = width - start < stretch ? width : start + stretch;
    int32_t* group_sums = sums + (out.group_size == 0 ? 0 : start / stretch * panel_rows);
    for (int r = 0; r < count; r++) group_sums[r] += quantize_stretch(row[r], start, stop, factor[r], codes + 4 * r, step);
  }
  for (int k = static_cast<int>(round_up(width, kWide)); k < static_cast<int>(out.stride); k += 4)
    for (int r = 0; r < count; r++) std::memset(codes + k / 4 * step + 4 * r, 0, 4);
}

// row_of(index) gives the rows of a call.
template <typename RowOf>
static void quantize_rows(const RowOf& row_of, int rows, int width, const QuantizedRows& out) {
  decltype(row_of(0)) panel[kRowTile];
  for (int first = 0; first < rows; first += out.panel_rows) {
    const int count = rows - first < out.panel_rows ? rows - first : out.panel_rows;
    for (int r = 0; r < count; r++) panel[r] = row_of(first + r);
    quantize_panel(panel, first, count, width, out);
  }
}

static void quantize(const float* x, int rows, int width, const QuantizedRows& out) {
  quantize_rows([&](int row) { return PlainRow{x + static_cast<size_t>(row) * width}; }, rows, width, out);
}

static void norm_quantize(const NormArgs& args, const QuantizedRows& out) {
  const auto row_of = [&](int row) {
    const float* x = args.x + static_cast<size_t>(row) * args.width;
    return NormalisedRow{args, x, row_moments(args, x)};
  };
  quantize_rows(row_of, args.rows, args.width, out);
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
