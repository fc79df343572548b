// SPDX-License-Identifier: Apache-2.0
// The integer product in plain loops: the meaning of every other accumulate_*.h, and what runs on any CPU.
#pragma once
#include <cstdint>

#include "layout.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

// Decode one block into weights (inputs, 16): inputs = block_width(format).
static inline void decode_block(WeightFormat format, const uint8_t* block, int8_t weights[32][kBlockRows]) {
  for (int byte = 0; byte < kBlockBytes; byte++) {
    const int lane = byte / 4, i = byte % 4, value = block[byte];
    switch (format) {
      case WeightFormat::kTernary:
        for (int j = 0; j < 4; j++) weights[4 * j + i][lane] = static_cast<int8_t>((value >> (2 * j) & 3) - 1);
        break;
      case WeightFormat::kBinary:
        for (int j = 0; j < 8; j++) weights[4 * j + i][lane] = static_cast<int8_t>((value >> j & 1) * 2 - 1);
        break;
      default:
        weights[i][lane] = static_cast<int8_t>(value);
    }
  }
}

constexpr int kRowTile = 8;    // activation rows per call
constexpr int kBlockTile = 1;  // groups of 16 output rows per call

// acc[row][lane] = sum over k of codes[row][k] * W[lane][k], for 16 * `tiles` output rows and `rows` activation rows.
// `weights`: the blocks of these output rows, 16 after 16.
static inline void accumulate(WeightFormat format, const uint8_t* weights, int /*tiles*/, int blocks,
                              const int8_t* codes, size_t stride, const int32_t* /*sums*/, int rows,
                              int32_t acc[][kBlockRows]) {
  const int width = block_width(format);
  for (int row = 0; row < rows; row++)
    for (int lane = 0; lane < kBlockRows; lane++) acc[row][lane] = 0;
  int8_t decoded[32][kBlockRows];
  for (int block = 0; block < blocks; block++, weights += kBlockBytes) {
    decode_block(format, weights, decoded);
    for (int row = 0; row < rows; row++) {
      const int8_t* x = codes + row * stride + static_cast<size_t>(block) * width;
      for (int k = 0; k < width; k++)
        for (int lane = 0; lane < kBlockRows; lane++) acc[row][lane] += x[k] * decoded[k][lane];
    }
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
