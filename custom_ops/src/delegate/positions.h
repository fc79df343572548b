// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "fault.h"

namespace edge_vlm {

// Throws Fault for a position outside 0..capacity - 1.
inline void expect_positions(const int32_t* positions, int rows, int capacity) {
  for (int row = 0; row < rows; row++)
    if (positions[row] < 0 || positions[row] >= capacity)
      throw Fault("position %d of row %d is outside 0..%d", positions[row], row, capacity - 1);
}

}  // namespace edge_vlm
