// SPDX-License-Identifier: Apache-2.0
// The integer product with the matrix instructions of Armv8.6 (i8mm): smmla multiplies 2 outputs x 8 inputs by 2 rows x 8
// inputs, twice the products of a dot product. Single rows take the dot product.
#pragma once
#include "rows_neondot.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

// Two quads of four outputs or rows -> eight inputs of numbers 0 and 1, and of 2 and 3.
struct Eights {
  int8x16_t low, high;
};

static inline Eights eights(int8x16_t first, int8x16_t second) {
  const int32x4_t a = vreinterpretq_s32_s8(first), b = vreinterpretq_s32_s8(second);
  return {vreinterpretq_s8_s32(vzip1q_s32(a, b)), vreinterpretq_s8_s32(vzip2q_s32(a, b))};
}

// Four outputs by four rows, two by two: (outputs 0 1, rows 0 1), (0 1, 2 3), (2 3, 0 1), (2 3, 2 3).
struct Squares {
  int32x4_t of[4];
};

static inline void add_squares(Squares& sums, const Eights& w, const Eights& x) {
  sums.of[0] = vmmlaq_s32(sums.of[0], w.low, x.low);
  sums.of[1] = vmmlaq_s32(sums.of[1], w.low, x.high);
  sums.of[2] = vmmlaq_s32(sums.of[2], w.high, x.low);
  sums.of[3] = vmmlaq_s32(sums.of[3], w.high, x.high);
}

// See linear_many.h. All rows of a panel, also those that do not exist.
template <WeightFormat FORMAT>
static void multiply(const uint8_t* strip, int quads, const int8_t* panel, int /*rows*/, TileSums* acc) {
  Squares sums[kQuarters] = {};
  for (int quad = 0; quad < quads; quad += 2, strip += 2 * kBlockBytes, panel += 8 * kRowTile) {
    const bool pair = quad + 1 < quads;  // a last quad stands alone
    const int8x16_t none = vdupq_n_s8(0);
    const Eights x = eights(vld1q_s8(panel), pair ? vld1q_s8(panel + 4 * kRowTile) : none);
    for (int quarter = 0; quarter < kQuarters; quarter++) {
      const uint8_t* at = strip + 16 * quarter;
      add_squares(sums[quarter], eights(load_signed(at), pair ? load_signed(at + kBlockBytes) : none), x);
    }
  }
  for (int quarter = 0; quarter < kQuarters; quarter++)
    for (int square = 0; square < 4; square++) {
      int32_t values[4];  // (output, row) of the square
      vst1q_s32(values, sums[quarter].of[square]);
      for (int i = 0; i < 4; i++) acc[square % 2 * 2 + i % 2][4 * quarter + square / 2 * 2 + i / 2] = values[i];
    }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
