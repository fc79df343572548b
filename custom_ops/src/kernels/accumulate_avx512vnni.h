// SPDX-License-Identifier: Apache-2.0
// The integer product with AVX-512 VNNI: one block is one register of 16 output rows x 4 inputs, and vpdpbusd adds four
// products of unsigned codes and signed activations straight into int32.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "layout.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr int kRowTile = 12;  // accumulators; the other registers hold weights and masks

// gcc 12 spills accumulators around the intrinsic; the instruction by name keeps them in registers.
static inline void dot4(__m512i& acc, __m512i codes, const int8_t* activations) {
  asm("vpdpbusd %2%{1to16%}, %1, %0"
      : "+v"(acc)
      : "v"(codes), "m"(*reinterpret_cast<const int32_t(*)>(activations)));
}

// Ternary and binary codes in bit planes; int8 weights become unsigned by adding 128. For a single activation row,
// the planes go to separate accumulators: one chain would wait for its own latency.
template <int BITS, int ROWS>
static inline void accumulate_planes(const uint8_t* weights, int blocks, const int8_t* codes, size_t stride,
                                     __m512i total[ROWS]) {
  constexpr int kPlanes = 8 / BITS, kChains = ROWS == 1 && kPlanes > 1 ? 4 : 1;
  const __m512i mask = _mm512_set1_epi8(static_cast<char>((1 << BITS) - 1)), flip = _mm512_set1_epi8(-128);
  __m512i acc[ROWS * kChains];
  for (int i = 0; i < ROWS * kChains; i++) acc[i] = _mm512_setzero_si512();
  for (int block = 0; block < blocks; block++, weights += kBlockBytes) {
    const __m512i packed = _mm512_loadu_si512(weights);
    const int8_t* x = codes + static_cast<size_t>(block) * 4 * kPlanes;
#pragma GCC unroll 8
    for (int plane = 0; plane < kPlanes; plane++) {
      const __m512i w = kPlanes == 1 ? _mm512_xor_si512(packed, flip)
                                     : _mm512_and_si512(_mm512_srli_epi16(packed, plane * BITS), mask);
#pragma GCC unroll 12
      for (int row = 0; row < ROWS; row++) dot4(acc[row * kChains + plane % kChains], w, x + row * stride + 4 * plane);
    }
  }
  for (int row = 0; row < ROWS; row++) {
    total[row] = acc[row * kChains];
    for (int chain = 1; chain < kChains; chain++) total[row] = _mm512_add_epi32(total[row], acc[row * kChains + chain]);
  }
}

template <int ROWS>
static void accumulate_rows(WeightFormat format, const uint8_t* weights, int blocks, const int8_t* codes, size_t stride,
                            const int32_t* sums, int32_t acc[][kBlockRows]) {
  __m512i total[ROWS];
  // stored code: ternary w + 1, binary (w + 1) / 2, int8 w + 128
  int offset = 1, factor = 1;
  if (format == WeightFormat::kTernary) {
    accumulate_planes<2, ROWS>(weights, blocks, codes, stride, total);
  } else if (format == WeightFormat::kBinary) {
    accumulate_planes<1, ROWS>(weights, blocks, codes, stride, total);
    factor = 2;
  } else {
    accumulate_planes<8, ROWS>(weights, blocks, codes, stride, total);
    offset = 128;
  }
  for (int row = 0; row < ROWS; row++) {
    const __m512i scaled = _mm512_mullo_epi32(total[row], _mm512_set1_epi32(factor));
    _mm512_storeu_si512(acc[row], _mm512_sub_epi32(scaled, _mm512_set1_epi32(offset * sums[row])));
  }
}

// See accumulate_scalar.h; 1 <= rows <= kRowTile.
static inline void accumulate(WeightFormat format, const uint8_t* weights, int blocks, const int8_t* codes,
                              size_t stride, const int32_t* sums, int rows, int32_t acc[][kBlockRows]) {
  int done = 0;
  const auto step = [&](auto run, int count) {
    run(format, weights, blocks, codes + done * stride, stride, sums + done, acc + done);
    done += count;
  };
  while (rows - done >= 12) step(accumulate_rows<12>, 12);
  while (rows - done >= 4) step(accumulate_rows<4>, 4);
  while (rows - done >= 1) step(accumulate_rows<1>, 1);
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
