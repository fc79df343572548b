// SPDX-License-Identifier: Apache-2.0
// The integer product with the NEON of every Armv8 CPU (Cortex-A72 of the Raspberry Pi 4): smlal multiplies bytes into
// int16, where sums stay for as long as they cannot wrap.
#pragma once
#include "blocks_neon.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

// Quads whose products fit into int16, pairs of them added: |activation| <= 127, codes up to c. 1 where not even two do.
constexpr int flush_quads(int largest_code) { return 32767 / (2 * 127 * largest_code); }

constexpr int largest_stored(WeightFormat format) {
  return format == WeightFormat::kInt4 ? 15 : format == WeightFormat::kInt3 ? 7 : format == WeightFormat::kInt8 ? 127 : 3;
}

constexpr int largest_weight(WeightFormat format) {
  return format == WeightFormat::kInt4 ? 8 : format == WeightFormat::kInt3 ? 4 : format == WeightFormat::kInt8 ? 127 : 2;
}

// int16 sums of a quarter block's products: outputs 0 and 1, outputs 2 and 3, four inputs each.
struct Pairs {
  int16x8_t low, high;
};

static inline Pairs no_pairs() { return {vdupq_n_s16(0), vdupq_n_s16(0)}; }

static inline void add_products(Pairs& pairs, int8x16_t w, int8x16_t a) {
  pairs.low = vmlal_s8(pairs.low, vget_low_s8(w), vget_low_s8(a));
  pairs.high = vmlal_high_s8(pairs.high, w, a);
}

static inline int32x4_t widened(int32x4_t sum, const Pairs& pairs) {
  return vpadalq_s16(sum, vpaddq_s16(pairs.low, pairs.high));
}

// See linear_row.h.
template <WeightFormat FORMAT, int TILES>
static inline void row_product(const uint8_t* weights, size_t /*tile_bytes*/, int blocks, const int8_t* codes, Integers* sums) {
  constexpr int kPlanes = block_width(FORMAT) / 4, kFlush = flush_quads(largest_stored(FORMAT)) / kPlanes;
  static_assert(TILES == 1 && kFlush >= 1, "one block at a time");
  int32x4_t total[kQuarters] = {};
  for (int start = 0; start < blocks; start += kFlush) {
    const int stop = start + kFlush < blocks ? start + kFlush : blocks;
    Pairs pairs[kQuarters] = {no_pairs(), no_pairs(), no_pairs(), no_pairs()};
    for (int block = start; block < stop; block++, weights += block_bytes(FORMAT), codes += 4 * kPlanes)
      for (int plane = 0; plane < kPlanes; plane++) {
        const int8x16_t a = broadcast4(codes + 4 * plane);
        for (int quarter = 0; quarter < kQuarters; quarter++)
          add_products(pairs[quarter], plane_codes<FORMAT>(weights + 16 * quarter, plane), a);
      }
    for (int quarter = 0; quarter < kQuarters; quarter++) total[quarter] = widened(total[quarter], pairs[quarter]);
  }
  give_sums<FORMAT>(total, sums);
}

// Signed weights times rows whose quads lie `step` bytes apart and which themselves lie `stride` apart. Two rows at a
// time: 16 registers of sums in int16.
template <int FLUSH, int ROWS>
static void multiply_rows(const uint8_t* strip, int quads, const int8_t* x, size_t stride, size_t step, TileSums* acc) {
  std::memset(acc, 0, sizeof(TileSums) * ROWS);
  for (int start = 0; start < quads; start += FLUSH) {
    const int stop = start + FLUSH < quads ? start + FLUSH : quads;
    Pairs pairs[ROWS][kQuarters];
    for (int row = 0; row < ROWS; row++)
      for (int quarter = 0; quarter < kQuarters; quarter++) pairs[row][quarter] = no_pairs();
    for (int quad = start; quad < stop; quad++, strip += kBlockBytes, x += step)
      for (int row = 0; row < ROWS; row++) {
        const int8x16_t a = broadcast4(x + row * stride);
        for (int quarter = 0; quarter < kQuarters; quarter++)
          add_products(pairs[row][quarter], load_signed(strip + 16 * quarter), a);
      }
    for (int row = 0; row < ROWS; row++)
      for (int quarter = 0; quarter < kQuarters; quarter++) {
        int32_t* at = acc[row] + 4 * quarter;
        vst1q_s32(at, widened(vld1q_s32(at), pairs[row][quarter]));
      }
  }
}

template <int FLUSH>
static void multiply_any(const uint8_t* strip, int quads, const int8_t* x, size_t stride, size_t step, int rows, TileSums* acc) {
  int row = 0;
  for (; row + 2 <= rows; row += 2) multiply_rows<FLUSH, 2>(strip, quads, x + row * stride, stride, step, acc + row);
  if (row < rows) multiply_rows<FLUSH, 1>(strip, quads, x + row * stride, stride, step, acc + row);
}

// See linear_many.h.
template <WeightFormat FORMAT>
static void multiply(const uint8_t* strip, int quads, const int8_t* panel, int rows, TileSums* acc) {
  multiply_any<flush_quads(largest_weight(FORMAT))>(strip, quads, panel, 4, 4 * kRowTile, rows, acc);
}

// See accumulate_scalar.h; 1 <= rows <= kRowTile.
static inline void accumulate(WeightFormat /*format*/, const uint8_t* weights, int /*tiles*/, int blocks, const int8_t* codes,
                              size_t stride, const int32_t* /*sums*/, int rows, TileSums* acc) {
  multiply_any<flush_quads(127)>(weights, blocks, codes, stride, 4, rows, acc);
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
