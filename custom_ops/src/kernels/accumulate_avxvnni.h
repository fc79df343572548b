// SPDX-License-Identifier: Apache-2.0
// The integer product with AVX-VNNI (CPUs that have vpdpbusd but not AVX-512). One block is two registers of 8 output
// rows x 4 inputs; vpdpbusd adds four products of unsigned codes and signed activations straight into int32.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "layout.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr int kBlockTile = 1;
constexpr int kRowTile = 6;  // 12 accumulators + 2 weights + 1 activation: 16 registers with one to spare
constexpr int kPrefetchBytes = 4096;

// By name, so that the file needs no compiler flag that would let the compiler use these instructions elsewhere.
static inline void dot4(__m256i& acc, __m256i codes, __m256i activations) {
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(codes), "x"(activations));
}

static inline __m256i broadcast4(const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, sizeof four);
  return _mm256_set1_epi32(four);
}

static inline __m256i load256(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

// Codes of one plane. Int8 weights become unsigned by adding 128.
template <int BITS>
static inline __m256i plane_codes(__m256i packed, int plane) {
  if (BITS == 8) return _mm256_xor_si256(packed, _mm256_set1_epi8(-128));
  const __m256i mask = _mm256_set1_epi8(static_cast<char>((1 << BITS) - 1));
  return _mm256_and_si256(_mm256_srli_epi16(packed, plane * BITS), mask);
}

// total[2 row + half][lane] = sum of code * activation.
template <int BITS, int ROWS>
static inline void accumulate_planes(const uint8_t* weights, int blocks, const int8_t* codes, size_t stride,
                                     __m256i* total) {
  constexpr int kPlanes = 8 / BITS;
  __m256i acc[2 * ROWS];
#pragma GCC unroll 12
  for (int i = 0; i < 2 * ROWS; i++) acc[i] = _mm256_setzero_si256();
  for (int block = 0; block < blocks; block++, weights += kBlockBytes) {
    const int8_t* x = codes + static_cast<size_t>(block) * 4 * kPlanes;
#pragma GCC unroll 8
    for (int plane = 0; plane < kPlanes; plane++) {
      const __m256i low = plane_codes<BITS>(load256(weights), plane);
      const __m256i high = plane_codes<BITS>(load256(weights + 32), plane);
#pragma GCC unroll 6
      for (int row = 0; row < ROWS; row++) {
        const __m256i a = broadcast4(x + row * stride + 4 * plane);
        dot4(acc[2 * row], low, a);
        dot4(acc[2 * row + 1], high, a);
      }
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < 2 * ROWS; i++) total[i] = acc[i];
}

// One activation row, weights from memory: two chains of sums per half, so that no product waits for the one before.
template <int BITS>
static inline void accumulate_one(const uint8_t* weights, int blocks, const int8_t* codes, __m256i* total) {
  constexpr int kPlanes = 8 / BITS;
  __m256i even[2], odd[2];
  for (int half = 0; half < 2; half++) even[half] = odd[half] = _mm256_setzero_si256();
  const auto add_block = [&](int block, __m256i* first, __m256i* second) {
    const uint8_t* at = weights + static_cast<size_t>(block) * kBlockBytes;
    const __m256i low = load256(at), high = load256(at + 32);
    _mm_prefetch(reinterpret_cast<const char*>(at) + kPrefetchBytes, _MM_HINT_T0);
#pragma GCC unroll 8
    for (int plane = 0; plane < kPlanes; plane++) {
      const __m256i a = broadcast4(codes + (static_cast<size_t>(block) * kPlanes + plane) * 4);
      __m256i* sums = plane % 2 == 0 ? first : second;
      dot4(sums[0], plane_codes<BITS>(low, plane), a);
      dot4(sums[1], plane_codes<BITS>(high, plane), a);
    }
  };
  int block = 0;
  for (; block + 2 <= blocks; block += 2) {
    add_block(block, even, odd);
    add_block(block + 1, odd, even);
  }
  if (block < blocks) add_block(block, even, odd);
  for (int half = 0; half < 2; half++) total[half] = _mm256_add_epi32(even[half], odd[half]);
}

template <int BITS, int ROWS>
static inline void accumulate_bits(const uint8_t* weights, int blocks, const int8_t* codes, size_t stride,
                                   __m256i* total) {
  if (ROWS == 1)
    accumulate_one<BITS>(weights, blocks, codes, total);
  else
    accumulate_planes<BITS, ROWS>(weights, blocks, codes, stride, total);
}

template <int ROWS>
static void accumulate_rows(WeightFormat format, const uint8_t* weights, int blocks, const int8_t* codes, size_t stride,
                            const int32_t* sums, int32_t acc[][kBlockRows]) {
  __m256i total[2 * ROWS];
  // stored code: ternary w + 1, binary (w + 1) / 2, int8 w + 128
  int offset = 1, factor = 1;
  if (format == WeightFormat::kTernary) {
    accumulate_bits<2, ROWS>(weights, blocks, codes, stride, total);
  } else if (format == WeightFormat::kBinary) {
    accumulate_bits<1, ROWS>(weights, blocks, codes, stride, total);
    factor = 2;
  } else {
    accumulate_bits<8, ROWS>(weights, blocks, codes, stride, total);
    offset = 128;
  }
  for (int i = 0; i < 2 * ROWS; i++) {
    const __m256i scaled = _mm256_mullo_epi32(total[i], _mm256_set1_epi32(factor));
    const __m256i exact = _mm256_sub_epi32(scaled, _mm256_set1_epi32(offset * sums[i / 2]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(acc[i / 2] + i % 2 * 8), exact);
  }
}

// See accumulate_scalar.h; 1 <= rows <= kRowTile.
static inline void accumulate(WeightFormat format, const uint8_t* weights, int /*tiles*/, int blocks,
                              const int8_t* codes, size_t stride, const int32_t* sums, int rows,
                              int32_t acc[][kBlockRows]) {
  switch (rows) {
    case 1: return accumulate_rows<1>(format, weights, blocks, codes, stride, sums, acc);
    case 2: return accumulate_rows<2>(format, weights, blocks, codes, stride, sums, acc);
    case 3: return accumulate_rows<3>(format, weights, blocks, codes, stride, sums, acc);
    case 4: return accumulate_rows<4>(format, weights, blocks, codes, stride, sums, acc);
    case 5: return accumulate_rows<5>(format, weights, blocks, codes, stride, sums, acc);
    default: return accumulate_rows<6>(format, weights, blocks, codes, stride, sums, acc);
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
