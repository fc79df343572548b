// SPDX-License-Identifier: Apache-2.0
// The canonical weight layout (see packing.py): blocks of 16 output rows by some inputs.
#pragma once
#include <cstddef>
#include <cstdint>

namespace edge_vlm {

enum class WeightFormat : int32_t {
  kTernary = 1,
  kBinary = 2,
  kInt8 = 3,
  kFloat32 = 4,
  kInt2 = 5,
  kInt3 = 6,
  kInt4 = 7,
  kTernaryDense = 8
};

constexpr int kBlockRows = 16;       // output rows interleaved in one block
constexpr int kBlockBytes = 64;      // 16 rows x 4 bytes: one plane of a block
constexpr int kRowPadding = 32;      // quantised activation rows are padded to a multiple, and to whole blocks
constexpr int kGroupMultiple = 32;   // inputs that share a scale: a multiple of this,
constexpr int kLargestGroup = 512;   // and at most this

constexpr bool is_packed(WeightFormat format) {
  return format >= WeightFormat::kTernary && format <= WeightFormat::kTernaryDense && format != WeightFormat::kFloat32;
}

// Formats that may have a scale for every few inputs.
constexpr bool may_have_groups(WeightFormat format) {
  return format >= WeightFormat::kInt2 && format <= WeightFormat::kInt4;
}

// Inputs in one block.
constexpr int block_width(WeightFormat format) {
  switch (format) {
    case WeightFormat::kTernary:
    case WeightFormat::kInt2: return 16;
    case WeightFormat::kBinary:
    case WeightFormat::kInt3: return 32;
    case WeightFormat::kInt4: return 8;
    case WeightFormat::kTernaryDense: return 20;
    default: return 4;
  }
}

constexpr int block_bytes(WeightFormat format) {
  return format == WeightFormat::kInt3 ? 3 * kBlockBytes : kBlockBytes;
}

constexpr int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Bytes of a quantised row: no block of any format reaches beyond.
constexpr int64_t row_stride(int in_features) { return round_up(round_up(in_features, 20), kRowPadding); }

constexpr int blocks_across(WeightFormat format, int in_features) {
  return static_cast<int>(round_up(in_features, block_width(format)) / block_width(format));
}

constexpr int64_t packed_bytes(WeightFormat format, int out_features, int in_features) {
  return round_up(out_features, kBlockRows) / kBlockRows * blocks_across(format, in_features) * block_bytes(format);
}

constexpr int group_count(int in_features, int group_size) {
  return group_size == 0 ? 1 : static_cast<int>(round_up(in_features, group_size) / group_size);
}

// Scales or zero points: [ceil(N/16)][groups][16].
constexpr int64_t packed_groups(int out_features, int groups) { return round_up(out_features, kBlockRows) * groups; }

}  // namespace edge_vlm
