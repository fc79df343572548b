// SPDX-License-Identifier: Apache-2.0
// The integer product with NEON's dot product: a quad of a panel is one register, whose lanes are the rows.
#pragma once
#include "rows_neondot.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

// See linear_many.h. All rows of a panel, also those that do not exist.
template <WeightFormat FORMAT>
static void multiply(const uint8_t* strip, int quads, const int8_t* panel, int /*rows*/, TileSums* acc) {
  int32x4_t total[kRowTile][kQuarters] = {};
  for (int quad = 0; quad < quads; quad++, strip += kBlockBytes, panel += 4 * kRowTile) {
    const int8x16_t a = vld1q_s8(panel);
    for (int quarter = 0; quarter < kQuarters; quarter++) {
      const int8x16_t w = load_signed(strip + 16 * quarter);
      total[0][quarter] = vdotq_laneq_s32(total[0][quarter], w, a, 0);
      total[1][quarter] = vdotq_laneq_s32(total[1][quarter], w, a, 1);
      total[2][quarter] = vdotq_laneq_s32(total[2][quarter], w, a, 2);
      total[3][quarter] = vdotq_laneq_s32(total[3][quarter], w, a, 3);
    }
  }
  for (int row = 0; row < kRowTile; row++)
    for (int quarter = 0; quarter < kQuarters; quarter++) vst1q_s32(acc[row] + 4 * quarter, total[row][quarter]);
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
