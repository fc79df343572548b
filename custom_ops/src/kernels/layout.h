// SPDX-License-Identifier: Apache-2.0
// The canonical weight layout (see packing.py): blocks of 16 output rows by some inputs, 64 bytes each.
#pragma once
#include <cstddef>
#include <cstdint>

namespace edge_vlm {

enum class WeightFormat : int32_t { kTernary = 1, kBinary = 2, kInt8 = 3, kFloat32 = 4 };

constexpr int kBlockRows = 16;    // output rows interleaved in one block
constexpr int kBlockBytes = 64;   // 16 rows x 4 bytes
constexpr int kRowPadding = 32;   // quantised activation rows are padded to the widest block

constexpr bool is_packed(WeightFormat format) {
  return format == WeightFormat::kTernary || format == WeightFormat::kBinary || format == WeightFormat::kInt8;
}

// Inputs in one block.
constexpr int block_width(WeightFormat format) {
  return format == WeightFormat::kTernary ? 16 : format == WeightFormat::kBinary ? 32 : 4;
}

constexpr int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

constexpr int blocks_across(WeightFormat format, int in_features) {
  return static_cast<int>(round_up(in_features, block_width(format)) / block_width(format));
}

constexpr int64_t packed_bytes(WeightFormat format, int out_features, int in_features) {
  return round_up(out_features, kBlockRows) / kBlockRows * blocks_across(format, in_features) * kBlockBytes;
}

}  // namespace edge_vlm
