// SPDX-License-Identifier: Apache-2.0
// Packed blocks in registers of 256 bits, two of them to a block. Included by the headers of AVX2 and AVX-VNNI.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "layout.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

static inline __m256i no_sum() { return _mm256_setzero_si256(); }

static inline __m256i broadcast4(const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, sizeof four);
  return _mm256_set1_epi32(four);
}

static inline __m256i load256(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

// For a single activation row weights come from memory and are used once. The CPU's own prefetchers are faster alone
// where a line takes few instructions.
template <WeightFormat FORMAT>
static inline void prefetch_block(const uint8_t* weights) {
  if (FORMAT == WeightFormat::kInt8) return;
  constexpr int kAheadBytes = 4096;
  for (int line = 0; line < block_bytes(FORMAT); line += 64)
    _mm_prefetch(reinterpret_cast<const char*>(weights) + line + kAheadBytes, _MM_HINT_T0);
}

// Bits first .. first + bits - 1 of each byte, right-aligned. 16-bit shifts carry bits between bytes; the mask removes them.
static inline __m256i bits_of_bytes(__m256i bytes, int first, int bits) {
  return _mm256_and_si256(_mm256_srli_epi16(bytes, first), _mm256_set1_epi8(static_cast<char>((1 << bits) - 1)));
}

// Stored codes of one plane (quad) of the half block at `weights`; int8 plus 128.
template <WeightFormat FORMAT>
static inline __m256i plane_codes(const uint8_t* weights, int plane) {
  if (FORMAT == WeightFormat::kInt8) return _mm256_xor_si256(load256(weights), _mm256_set1_epi8(-128));
  if (FORMAT == WeightFormat::kInt3) {
    const __m256i low = bits_of_bytes(load256(weights + plane / 4 * kBlockBytes), plane % 4 * 2, 2);
    const __m256i high = bits_of_bytes(load256(weights + 2 * kBlockBytes), plane, 1);
    return _mm256_or_si256(low, _mm256_slli_epi16(high, 2));
  }
  constexpr int kBits = 32 / block_width(FORMAT);
  return bits_of_bytes(load256(weights), plane * kBits, kBits);
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
