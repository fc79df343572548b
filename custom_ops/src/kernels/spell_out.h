// SPDX-License-Identifier: Apache-2.0
// Packed codes spelt out as int8 in the layout of INT8 weights. Included by each instruction set.
#pragma once
#include <array>
#include <cstdint>

#include "layout.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

struct DenseTable {
  uint8_t low[256];   // four trits of two bits
  uint8_t last[256];  // the fifth
};

// See packing.py, dense_bytes. Bytes above 242 are never written; they read as some ternary codes.
constexpr DenseTable make_dense_table() {
  DenseTable table{};
  for (int byte = 0; byte < 256; byte++) {
    const int rest = byte - 192 < 50 ? byte - 192 : 50;
    const int low = byte < 192 ? byte & 63 : 64 + rest % 17;
    table.low[byte] = static_cast<uint8_t>(low % 3 | low / 3 % 3 << 2 | low / 9 % 3 << 4 | low / 27 << 6);
    table.last[byte] = static_cast<uint8_t>(byte < 192 ? byte >> 6 : rest / 17);
  }
  return table;
}

constexpr DenseTable kDenseTable = make_dense_table();

// One plane: out = (in >> shift & mask) - offset.
static inline void spell_plane(const uint8_t* in, int shift, int mask, int offset, uint8_t* out) {
  for (int byte = 0; byte < kBlockBytes; byte++) out[byte] = static_cast<uint8_t>((in[byte] >> shift & mask) - offset);
}

static inline void spell_dense(const uint8_t* in, uint8_t* out) {
  uint8_t low[kBlockBytes];
  for (int byte = 0; byte < kBlockBytes; byte++) {
    low[byte] = kDenseTable.low[in[byte]];
    out[4 * kBlockBytes + byte] = static_cast<uint8_t>(kDenseTable.last[in[byte]] - 1);
  }
  for (int plane = 0; plane < 4; plane++) spell_plane(low, 2 * plane, 3, 1, out + plane * kBlockBytes);
}

static inline void spell_int3(const uint8_t* in, uint8_t* out) {
  const uint8_t* high = in + 2 * kBlockBytes;
  for (int plane = 0; plane < 8; plane++, out += kBlockBytes) {
    const uint8_t* low = in + plane / 4 * kBlockBytes;
    for (int byte = 0; byte < kBlockBytes; byte++)
      out[byte] = static_cast<uint8_t>((low[byte] >> plane % 4 * 2 & 3) + (high[byte] >> plane & 1) * 4 - 4);
  }
}

// `blocks` blocks of 16 output rows; out holds 16 bytes for each input.
static inline void spell_out(WeightFormat format, const uint8_t* in, int blocks, uint8_t* out) {
  for (int block = 0; block < blocks; block++) {
    if (format == WeightFormat::kTernaryDense) {
      spell_dense(in, out);
    } else if (format == WeightFormat::kInt3) {
      spell_int3(in, out);
    } else {
      const int bits = format == WeightFormat::kInt2 ? 2 : 4;
      for (int plane = 0; plane < 8 / bits; plane++)
        spell_plane(in, plane * bits, (1 << bits) - 1, 1 << (bits - 1), out + plane * kBlockBytes);
    }
    in += block_bytes(format);
    out += block_width(format) / 4 * kBlockBytes;
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
