// SPDX-License-Identifier: Apache-2.0
// The mean colours of the cells of a camera's image. edge_vlm/sttf/change.py has the reference.
#pragma once
#include <cstdint>

namespace edge_vlm {

constexpr int kCellsOfPatch = 4;  // along each side

// Whether every cell covers a pixel or more, and few enough for whole weights.
bool can_describe(int height, int width, int rows, int cols);

// (height, width, 3) to (rows * cols, kCellsOfPatch * kCellsOfPatch, 3) grey levels.
void describe(const uint8_t* image, int height, int width, int rows, int cols, float* descriptors);

}  // namespace edge_vlm
