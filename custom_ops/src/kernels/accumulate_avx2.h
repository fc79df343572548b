// SPDX-License-Identifier: Apache-2.0
// The integer product with AVX2. One block is two registers of 8 output rows x 4 inputs; each unpacked register is
// used for up to four activation rows. vpmaddubsw multiplies unsigned by signed bytes and adds pairs into int16.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "layout.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr int kBlockTile = 1;
constexpr int kRowTile = 4;  // 8 accumulators + 2 weights + 1 activation + mask + temporaries: 16 registers

static inline __m256i broadcast4(const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, sizeof four);
  return _mm256_set1_epi32(four);
}

static inline __m256i load256(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

// For a single activation row weights come from memory and are used once.
static inline void prefetch(const uint8_t* weights) {
  constexpr int kAheadBytes = 4096;
  _mm_prefetch(reinterpret_cast<const char*>(weights) + kAheadBytes, _MM_HINT_T0);
}

static inline void add_to(int32_t* total, __m256i value) {
  __m256i* at = reinterpret_cast<__m256i*>(total);
  _mm256_storeu_si256(at, _mm256_add_epi32(_mm256_loadu_si256(at), value));
}

// gcc would first unpack every plane, run out of registers and spill the sums; this ends its reordering.
static inline void keep_in_registers(__m256i& a, __m256i& b) { asm("" : "+x"(a), "+x"(b)); }

// Blocks that can be summed in int16 before it could wrap. |activation| <= 127, so one vpmaddubsw adds at most
// 2 * c * 127 for codes up to c, and a block adds one per plane. With c = 3 (ternary codes are 0..2, but a damaged file
// may hold 3) and 4 planes: 3048 a block, 10 blocks 30480. With c = 1 and 8 planes: 2032, 16 blocks 32512. Both are
// below 32767, and so is every partial sum.
template <int BITS>
constexpr int kFlushBlocks = BITS == 2 ? 10 : 16;

// Ternary (BITS = 2) and binary (BITS = 1): codes in bit planes. total[row][lane] += sum of code * activation.
template <int BITS, int ROWS>
static inline void accumulate_planes(const uint8_t* weights, int blocks, const int8_t* codes, size_t stride,
                                     int32_t total[][kBlockRows]) {
  constexpr int kPlanes = 8 / BITS;
  const __m256i mask = _mm256_set1_epi8((1 << BITS) - 1), ones = _mm256_set1_epi16(1);
  for (int start = 0; start < blocks; start += kFlushBlocks<BITS>) {
    const int stop = start + kFlushBlocks<BITS> < blocks ? start + kFlushBlocks<BITS> : blocks;
    __m256i low[ROWS], high[ROWS];
#pragma GCC unroll 4
    for (int row = 0; row < ROWS; row++) low[row] = high[row] = _mm256_setzero_si256();
    for (int block = start; block < stop; block++) {
      const __m256i packed_low = load256(weights + static_cast<size_t>(block) * kBlockBytes);
      const __m256i packed_high = load256(weights + static_cast<size_t>(block) * kBlockBytes + 32);
      if (ROWS == 1) prefetch(weights + static_cast<size_t>(block) * kBlockBytes);
      const int8_t* x = codes + static_cast<size_t>(block) * 4 * kPlanes;
#pragma GCC unroll 8
      for (int plane = 0; plane < kPlanes; plane++) {
        // 16-bit shifts carry bits between bytes; the mask removes them
        const __m256i w_low = _mm256_and_si256(_mm256_srli_epi16(packed_low, plane * BITS), mask);
        const __m256i w_high = _mm256_and_si256(_mm256_srli_epi16(packed_high, plane * BITS), mask);
#pragma GCC unroll 4
        for (int row = 0; row < ROWS; row++) {
          const __m256i a = broadcast4(x + row * stride + 4 * plane);
          low[row] = _mm256_add_epi16(low[row], _mm256_maddubs_epi16(w_low, a));
          high[row] = _mm256_add_epi16(high[row], _mm256_maddubs_epi16(w_high, a));
          keep_in_registers(low[row], high[row]);
        }
      }
    }
#pragma GCC unroll 4
    for (int row = 0; row < ROWS; row++) {
      add_to(total[row], _mm256_madd_epi16(low[row], ones));
      add_to(total[row] + 8, _mm256_madd_epi16(high[row], ones));
    }
  }
}

// Int8: vpmaddubsw takes |w| and the activation with w's sign; a pair is at most 2 * 128 * 127 = 32512, no saturation.
template <int ROWS>
static inline void accumulate_int8(const uint8_t* weights, int blocks, const int8_t* codes, size_t stride,
                                   int32_t total[][kBlockRows]) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i low[ROWS], high[ROWS];
#pragma GCC unroll 4
  for (int row = 0; row < ROWS; row++) low[row] = high[row] = _mm256_setzero_si256();
  for (int block = 0; block < blocks; block++, weights += kBlockBytes) {
    const __m256i w_low = load256(weights), w_high = load256(weights + 32);
    if (ROWS == 1) prefetch(weights);
    const __m256i abs_low = _mm256_abs_epi8(w_low), abs_high = _mm256_abs_epi8(w_high);
#pragma GCC unroll 4
    for (int row = 0; row < ROWS; row++) {
      const __m256i a = broadcast4(codes + row * stride + static_cast<size_t>(block) * 4);
      const __m256i pairs_low = _mm256_maddubs_epi16(abs_low, _mm256_sign_epi8(a, w_low));
      const __m256i pairs_high = _mm256_maddubs_epi16(abs_high, _mm256_sign_epi8(a, w_high));
      low[row] = _mm256_add_epi32(low[row], _mm256_madd_epi16(pairs_low, ones));
      high[row] = _mm256_add_epi32(high[row], _mm256_madd_epi16(pairs_high, ones));
    }
  }
#pragma GCC unroll 4
  for (int row = 0; row < ROWS; row++) {
    add_to(total[row], low[row]);
    add_to(total[row] + 8, high[row]);
  }
}

template <int ROWS>
static void accumulate_rows(WeightFormat format, const uint8_t* weights, int blocks, const int8_t* codes, size_t stride,
                            const int32_t* sums, int32_t acc[][kBlockRows]) {
  std::memset(acc, 0, sizeof(acc[0]) * ROWS);
  if (format == WeightFormat::kInt8) return accumulate_int8<ROWS>(weights, blocks, codes, stride, acc);
  const bool ternary = format == WeightFormat::kTernary;
  if (ternary) {
    accumulate_planes<2, ROWS>(weights, blocks, codes, stride, acc);
  } else {
    accumulate_planes<1, ROWS>(weights, blocks, codes, stride, acc);
  }
  // ternary: w = code - 1; binary: w = 2 code - 1
  for (int row = 0; row < ROWS; row++)
    for (int lane = 0; lane < kBlockRows; lane++)
      acc[row][lane] = (ternary ? acc[row][lane] : 2 * acc[row][lane]) - sums[row];
}

// See accumulate_scalar.h; 1 <= rows <= kRowTile.
static inline void accumulate(WeightFormat format, const uint8_t* weights, int /*tiles*/, int blocks,
                              const int8_t* codes, size_t stride, const int32_t* sums, int rows, int32_t acc[][kBlockRows]) {
  switch (rows) {
    case 1: return accumulate_rows<1>(format, weights, blocks, codes, stride, sums, acc);
    case 2: return accumulate_rows<2>(format, weights, blocks, codes, stride, sums, acc);
    case 3: return accumulate_rows<3>(format, weights, blocks, codes, stride, sums, acc);
    default: return accumulate_rows<4>(format, weights, blocks, codes, stride, sums, acc);
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
