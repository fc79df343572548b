// SPDX-License-Identifier: Apache-2.0
// The integer product with NEON's dot product (Armv8.2): one block is four registers of 4 output rows x 4 inputs, and
// sdot adds four products of signed bytes straight into int32. Sixteen activations are loaded at once and picked by lane.
#pragma once
#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "layout.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr int kBlockTile = 1;
constexpr int kRowTile = 4;   // 16 accumulators + 4 weights + 4 activations + temporaries: 32 registers
constexpr int kQuarters = 4;  // registers of a block

template <int ROWS>
struct Totals {
  int32x4_t of[ROWS][kQuarters];
};

// One plane of codes: bits SHIFT.. of each byte, against activations 4 LANE .. 4 LANE + 3.
template <int BITS, int SHIFT, int LANE, int ROWS>
static inline void add_plane(const uint8x16_t* packed, const int8x16_t* x, Totals<ROWS>& total) {
  const uint8x16_t mask = vdupq_n_u8((1 << BITS) - 1);
  for (int quarter = 0; quarter < kQuarters; quarter++) {
    uint8x16_t codes = packed[quarter];
    if constexpr (SHIFT > 0) codes = vshrq_n_u8(codes, SHIFT);
    const int8x16_t w = vreinterpretq_s8_u8(vandq_u8(codes, mask));
    for (int row = 0; row < ROWS; row++)
      total.of[row][quarter] = vdotq_laneq_s32(total.of[row][quarter], w, x[row], LANE);
  }
}

// Four planes from bit FIRST on, against the sixteen activations at x.
template <int BITS, int FIRST, int ROWS>
static inline void add_planes(const uint8x16_t* packed, const int8_t* codes, size_t stride, Totals<ROWS>& total) {
  int8x16_t x[ROWS];
  for (int row = 0; row < ROWS; row++) x[row] = vld1q_s8(codes + row * stride);
  add_plane<BITS, FIRST, 0>(packed, x, total);
  add_plane<BITS, FIRST + BITS, 1>(packed, x, total);
  add_plane<BITS, FIRST + 2 * BITS, 2>(packed, x, total);
  add_plane<BITS, FIRST + 3 * BITS, 3>(packed, x, total);
}

template <int ROWS>
static inline void add_int8(const uint8x16_t* packed, const int8_t* codes, size_t stride, Totals<ROWS>& total) {
  for (int row = 0; row < ROWS; row++) {
    int32_t four;
    std::memcpy(&four, codes + row * stride, sizeof four);
    const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(four));
    for (int quarter = 0; quarter < kQuarters; quarter++)
      total.of[row][quarter] = vdotq_s32(total.of[row][quarter], vreinterpretq_s8_u8(packed[quarter]), x);
  }
}

template <int ROWS>
static void accumulate_rows(WeightFormat format, const uint8_t* weights, int blocks, const int8_t* codes, size_t stride,
                            const int32_t* sums, int32_t acc[][kBlockRows]) {
  Totals<ROWS> total;
  for (int row = 0; row < ROWS; row++)
    for (int quarter = 0; quarter < kQuarters; quarter++) total.of[row][quarter] = vdupq_n_s32(0);
  const int width = block_width(format);
  for (int block = 0; block < blocks; block++, weights += kBlockBytes, codes += width) {
    uint8x16_t packed[kQuarters];
    for (int quarter = 0; quarter < kQuarters; quarter++) packed[quarter] = vld1q_u8(weights + 16 * quarter);
    if (format == WeightFormat::kTernary) {
      add_planes<2, 0>(packed, codes, stride, total);
    } else if (format == WeightFormat::kBinary) {
      add_planes<1, 0>(packed, codes, stride, total);
      add_planes<1, 4>(packed, codes + 16, stride, total);
    } else {
      add_int8(packed, codes, stride, total);
    }
  }
  // stored code: ternary w + 1, binary (w + 1) / 2, int8 w
  const int32_t factor = format == WeightFormat::kBinary ? 2 : 1, offset = format == WeightFormat::kInt8 ? 0 : 1;
  for (int row = 0; row < ROWS; row++)
    for (int quarter = 0; quarter < kQuarters; quarter++) {
      const int32x4_t scaled = vmulq_n_s32(total.of[row][quarter], factor);
      vst1q_s32(acc[row] + 4 * quarter, vsubq_s32(scaled, vdupq_n_s32(offset * sums[row])));
    }
}

// See accumulate_scalar.h; 1 <= rows <= kRowTile.
static inline void accumulate(WeightFormat format, const uint8_t* weights, int /*tiles*/, int blocks,
                              const int8_t* codes, size_t stride, const int32_t* sums, int rows, int32_t acc[][kBlockRows]) {
  switch (rows) {
    case 1: return accumulate_rows<1>(format, weights, blocks, codes, stride, sums, acc);
    case 2: return accumulate_rows<2>(format, weights, blocks, codes, stride, sums, acc);
    case 3: return accumulate_rows<3>(format, weights, blocks, codes, stride, sums, acc);
    default: return accumulate_rows<4>(format, weights, blocks, codes, stride, sums, acc);
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
