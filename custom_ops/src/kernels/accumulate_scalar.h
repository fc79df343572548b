// SPDX-License-Identifier: Apache-2.0
// The integer product in plain loops: the meaning of every other accumulate_*.h, and what runs on any CPU.
#pragma once
#include <cstdint>

#include "layout.h"
#include "spell_out.h"
#include "vector_wide.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr int kRowTile = 8;    // activation rows of a panel
constexpr int kBlockTile = 1;  // groups of 16 output rows per call
constexpr int row_blocks(WeightFormat) { return 1; }
typedef int32_t TileSums[kBlockRows];

constexpr int row_offset(WeightFormat) { return 0; }
constexpr int panel_offset(WeightFormat) { return 0; }

// Int8 weights of 16 output rows times `rows` activation rows, whose quads lie `step` bytes apart.
static inline void multiply_plainly(const uint8_t* weights, int quads, const int8_t* x, size_t stride, size_t step, int rows,
                                    TileSums* acc) {
  std::memset(acc, 0, sizeof(TileSums) * rows);
  for (int quad = 0; quad < quads; quad++, weights += kBlockBytes, x += step)
    for (int row = 0; row < rows; row++)
      for (int lane = 0; lane < kBlockRows; lane++)
        for (int i = 0; i < 4; i++)
          acc[row][lane] += static_cast<int8_t>(weights[lane * 4 + i]) * x[row * stride + i];
}

// See linear_row.h: all formats but int8 are spelt out.
static constexpr bool reads_packed(WeightFormat) { return false; }

template <WeightFormat FORMAT, int TILES>
static inline void row_product(const uint8_t* weights, size_t /*tile_bytes*/, int blocks, const int8_t* codes, Integers* sums) {
  multiply_plainly(weights, blocks, codes, 0, 4, 1, reinterpret_cast<TileSums*>(sums));
}

// See linear_many.h.
template <WeightFormat FORMAT>
static void multiply(const uint8_t* strip, int quads, const int8_t* panel, int rows, TileSums* acc) {
  multiply_plainly(strip, quads, panel, 4, 4 * kRowTile, rows, acc);
}

// acc[row][lane] = sum over k of codes[row][k] * W[lane][k], for 16 * `tiles` output rows and `rows` activation rows.
// `weights`: the int8 blocks of these output rows, 16 after 16; `sums`: of the codes of each row.
static inline void accumulate(WeightFormat /*format*/, const uint8_t* weights, int /*tiles*/, int blocks, const int8_t* codes,
                              size_t stride, const int32_t* /*sums*/, int rows, TileSums* acc) {
  multiply_plainly(weights, blocks, codes, stride, 4, rows, acc);
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
