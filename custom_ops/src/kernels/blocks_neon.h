// SPDX-License-Identifier: Apache-2.0
// Packed blocks in NEON registers, four of them (4 output rows x 4 inputs each) to a block. Included by the headers of
// every Arm instruction set.
#pragma once
#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "layout.h"
#include "spell_out.h"
#include "vector_wide.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr int kQuarters = 4;
constexpr int kBlockTile = 1;
constexpr int row_blocks(WeightFormat) { return 1; }
constexpr int kRowTile = 4;  // the rows of a panel: four inputs of each fill one register
typedef int32_t TileSums[kBlockRows];

// Stored codes are below 128: signed products take them as they are, and int8 weights too.
constexpr int row_offset(WeightFormat format) { return format == WeightFormat::kInt8 ? 0 : stored_zero(format); }
constexpr int panel_offset(WeightFormat) { return 0; }
static constexpr bool reads_packed(WeightFormat format) { return format != WeightFormat::kTernaryDense; }

static inline int8x16_t broadcast4(const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, sizeof four);
  return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

static inline int8x16_t load_signed(const uint8_t* p) { return vreinterpretq_s8_u8(vld1q_u8(p)); }

// Bits first .. first + bits - 1 of each byte.
static inline uint8x16_t bits_of_bytes(uint8x16_t v, int first, int bits) {
  return vandq_u8(vshlq_u8(v, vdupq_n_s8(static_cast<int8_t>(-first))), vdupq_n_u8(static_cast<uint8_t>((1 << bits) - 1)));
}

// Stored codes of one plane (quad) of the quarter block at `weights`.
template <WeightFormat FORMAT>
static inline int8x16_t plane_codes(const uint8_t* weights, int plane) {
  if (FORMAT == WeightFormat::kInt8) return load_signed(weights);
  if (FORMAT == WeightFormat::kInt3) {
    const uint8x16_t low = bits_of_bytes(vld1q_u8(weights + plane / 4 * kBlockBytes), plane % 4 * 2, 2);
    const uint8x16_t high = bits_of_bytes(vld1q_u8(weights + 2 * kBlockBytes), plane, 1);
    return vreinterpretq_s8_u8(vorrq_u8(low, vshlq_n_u8(high, 2)));
  }
  constexpr int kBits = 32 / block_width(FORMAT);
  return vreinterpretq_s8_u8(bits_of_bytes(vld1q_u8(weights), plane * kBits, kBits));
}

// Sums of a block's 16 outputs, twice where weight + offset is twice the stored code.
template <WeightFormat FORMAT>
static inline void give_sums(const int32x4_t* total, Integers* sums) {
  int32_t lanes[kBlockRows];
  for (int quarter = 0; quarter < kQuarters; quarter++)
    vst1q_s32(lanes + 4 * quarter,
              FORMAT == WeightFormat::kBinary ? vaddq_s32(total[quarter], total[quarter]) : total[quarter]);
  std::memcpy(sums, lanes, sizeof lanes);
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
