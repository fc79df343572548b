// SPDX-License-Identifier: Apache-2.0
// Products with NEON's dot product (Armv8.2): sdot adds four products of signed bytes straight into int32. Included by the
// headers of the instruction sets that have it.
#pragma once
#include "blocks_neon.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

static inline void prefetch(const uint8_t* weights) { __builtin_prefetch(weights + 1024); }

// See linear_row.h.
template <WeightFormat FORMAT, int TILES>
static inline void row_product(const uint8_t* weights, size_t /*tile_bytes*/, int blocks, const int8_t* codes, Integers* sums) {
  static_assert(TILES == 1, "one block at a time");
  constexpr int kPlanes = block_width(FORMAT) / 4;
  int32x4_t total[kQuarters] = {};
  for (int block = 0; block < blocks; block++, weights += block_bytes(FORMAT), codes += 4 * kPlanes) {
    prefetch(weights);
    for (int plane = 0; plane < kPlanes; plane++) {
      const int8x16_t a = broadcast4(codes + 4 * plane);
      for (int quarter = 0; quarter < kQuarters; quarter++)
        total[quarter] = vdotq_s32(total[quarter], plane_codes<FORMAT>(weights + 16 * quarter, plane), a);
    }
  }
  give_sums<FORMAT>(total, sums);
}

// Int8 weights as they are packed, times a few rows that lie one after the other. See accumulate_scalar.h.
template <int ROWS>
static void accumulate_rows(const uint8_t* weights, int blocks, const int8_t* codes, size_t stride, TileSums* acc) {
  int32x4_t total[ROWS][kQuarters] = {};
  for (int block = 0; block < blocks; block++, weights += kBlockBytes, codes += 4) {
    int8x16_t w[kQuarters];
    for (int quarter = 0; quarter < kQuarters; quarter++) w[quarter] = load_signed(weights + 16 * quarter);
    for (int row = 0; row < ROWS; row++) {
      const int8x16_t a = broadcast4(codes + row * stride);
      for (int quarter = 0; quarter < kQuarters; quarter++) total[row][quarter] = vdotq_s32(total[row][quarter], w[quarter], a);
    }
  }
  for (int row = 0; row < ROWS; row++)
    for (int quarter = 0; quarter < kQuarters; quarter++) vst1q_s32(acc[row] + 4 * quarter, total[row][quarter]);
}

static inline void accumulate(WeightFormat /*format*/, const uint8_t* weights, int /*tiles*/, int blocks, const int8_t* codes,
                              size_t stride, const int32_t* /*sums*/, int rows, TileSums* acc) {
  switch (rows) {
    case 1: return accumulate_rows<1>(weights, blocks, codes, stride, acc);
    case 2: return accumulate_rows<2>(weights, blocks, codes, stride, acc);
    case 3: return accumulate_rows<3>(weights, blocks, codes, stride, acc);
    default: return accumulate_rows<4>(weights, blocks, codes, stride, acc);
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
