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

constexpr int kRowTile = 12;   // 12 rows x 2 blocks: 24 accumulators, the other registers hold weights and masks
constexpr int kBlockTile = 2;  // blocks of output rows in a call: each activation that is loaded serves both
constexpr int kPrefetchBytes = 4096;

// gcc 12 spills accumulators around the intrinsic; the instruction by name keeps them in registers.
static inline void dot4(__m512i& acc, __m512i codes, __m512i activations) {
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(codes), "v"(activations));
}

static inline __m512i broadcast4(const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, sizeof four);
  return _mm512_set1_epi32(four);
}

// Codes of one plane of a block. Int8 weights become unsigned by adding 128.
template <int BITS>
static inline __m512i plane_codes(__m512i packed, int plane) {
  if (BITS == 8) return _mm512_xor_si512(packed, _mm512_set1_epi8(-128));
  const __m512i mask = _mm512_set1_epi8(static_cast<char>((1 << BITS) - 1));
  return _mm512_and_si512(_mm512_srli_epi16(packed, plane * BITS), mask);
}

// total[row * TILES + tile][lane] = sum of code * activation; the blocks of tile t begin at weights + t * tile_bytes.
template <int BITS, int ROWS, int TILES>
static inline void accumulate_planes(const uint8_t* weights, size_t tile_bytes, int blocks, const int8_t* codes,
                                     size_t stride, __m512i* total) {
  constexpr int kPlanes = 8 / BITS;
  __m512i acc[ROWS * TILES];
#pragma GCC unroll 24
  for (int i = 0; i < ROWS * TILES; i++) acc[i] = _mm512_setzero_si512();
  for (int block = 0; block < blocks; block++, weights += kBlockBytes) {
    __m512i packed[TILES];
#pragma GCC unroll 2
    for (int tile = 0; tile < TILES; tile++) packed[tile] = _mm512_loadu_si512(weights + tile * tile_bytes);
    const int8_t* x = codes + static_cast<size_t>(block) * 4 * kPlanes;
#pragma GCC unroll 8
    for (int plane = 0; plane < kPlanes; plane++) {
      __m512i w[TILES];
#pragma GCC unroll 2
      for (int tile = 0; tile < TILES; tile++) w[tile] = plane_codes<BITS>(packed[tile], plane);
#pragma GCC unroll 12
      for (int row = 0; row < ROWS; row++) {
        const __m512i a = broadcast4(x + row * stride + 4 * plane);
#pragma GCC unroll 2
        for (int tile = 0; tile < TILES; tile++) dot4(acc[row * TILES + tile], w[tile], a);
      }
    }
  }
#pragma GCC unroll 24
  for (int i = 0; i < ROWS * TILES; i++) total[i] = acc[i];
}

// The same for one activation row, where weights come from memory and are used once: every plane has accumulators of
// its own, so that codes are masked but not shifted (their sums are, at the end, exactly) and no chain of dependent
// products is long. |sum| <= 128 * 127 * inputs / planes stays far below 2^31.
template <int BITS, int TILES>
static inline void accumulate_one(const uint8_t* weights, size_t tile_bytes, int blocks, const int8_t* codes,
                                  __m512i* total) {
  constexpr int kPlanes = 8 / BITS;
  __m512i acc[TILES][kPlanes];
#pragma GCC unroll 2
  for (int tile = 0; tile < TILES; tile++)
#pragma GCC unroll 8
    for (int plane = 0; plane < kPlanes; plane++) acc[tile][plane] = _mm512_setzero_si512();
  for (int block = 0; block < blocks; block++, weights += kBlockBytes) {
    __m512i packed[TILES];
#pragma GCC unroll 2
    for (int tile = 0; tile < TILES; tile++) {
      packed[tile] = _mm512_loadu_si512(weights + tile * tile_bytes);
      _mm_prefetch(reinterpret_cast<const char*>(weights) + tile * tile_bytes + kPrefetchBytes, _MM_HINT_T0);
    }
#pragma GCC unroll 8
    for (int plane = 0; plane < kPlanes; plane++) {
      const __m512i a = broadcast4(codes + (static_cast<size_t>(block) * kPlanes + plane) * 4);
      const __m512i mask = _mm512_set1_epi8(static_cast<char>(((1 << BITS) - 1) << (plane * BITS)));
#pragma GCC unroll 2
      for (int tile = 0; tile < TILES; tile++)
        dot4(acc[tile][plane], BITS == 8 ? plane_codes<8>(packed[tile], 0) : _mm512_and_si512(packed[tile], mask), a);
    }
  }
#pragma GCC unroll 2
  for (int tile = 0; tile < TILES; tile++) {
    total[tile] = acc[tile][0];
#pragma GCC unroll 8
    for (int plane = 1; plane < kPlanes; plane++)
      total[tile] = _mm512_add_epi32(total[tile], _mm512_srai_epi32(acc[tile][plane], plane * BITS));
  }
}

template <int BITS, int ROWS, int TILES>
static inline void accumulate_bits(const uint8_t* weights, size_t tile_bytes, int blocks, const int8_t* codes,
                                   size_t stride, __m512i* total) {
  if (ROWS == 1)
    accumulate_one<BITS, TILES>(weights, tile_bytes, blocks, codes, total);
  else
    accumulate_planes<BITS, ROWS, TILES>(weights, tile_bytes, blocks, codes, stride, total);
}

template <int ROWS, int TILES>
static void accumulate_rows(WeightFormat format, const uint8_t* weights, int blocks, const int8_t* codes, size_t stride,
                            const int32_t* sums, int32_t acc[][kBlockTile * kBlockRows]) {
  const size_t tile_bytes = static_cast<size_t>(blocks) * kBlockBytes;
  __m512i total[ROWS * TILES];
  // stored code: ternary w + 1, binary (w + 1) / 2, int8 w + 128
  int offset = 1, factor = 1;
  if (format == WeightFormat::kTernary) {
    accumulate_bits<2, ROWS, TILES>(weights, tile_bytes, blocks, codes, stride, total);
  } else if (format == WeightFormat::kBinary) {
    accumulate_bits<1, ROWS, TILES>(weights, tile_bytes, blocks, codes, stride, total);
    factor = 2;
  } else {
    accumulate_bits<8, ROWS, TILES>(weights, tile_bytes, blocks, codes, stride, total);
    offset = 128;
  }
#pragma GCC unroll 12
  for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 2
    for (int tile = 0; tile < TILES; tile++) {
      const __m512i scaled = _mm512_mullo_epi32(total[row * TILES + tile], _mm512_set1_epi32(factor));
      const __m512i exact = _mm512_sub_epi32(scaled, _mm512_set1_epi32(offset * sums[row]));
      _mm512_storeu_si512(acc[row] + tile * kBlockRows, exact);
    }
}

template <int TILES>
static inline void accumulate_tiles(WeightFormat format, const uint8_t* weights, int blocks, const int8_t* codes,
                                    size_t stride, const int32_t* sums, int rows,
                                    int32_t acc[][kBlockTile * kBlockRows]) {
  int done = 0;
  const auto step = [&](auto run, int count) {
    run(format, weights, blocks, codes + done * stride, stride, sums + done, acc + done);
    done += count;
  };
  while (rows - done >= 12) step(accumulate_rows<12, TILES>, 12);
  while (rows - done >= 4) step(accumulate_rows<4, TILES>, 4);
  while (rows - done >= 1) step(accumulate_rows<1, TILES>, 1);
}

// See accumulate_scalar.h; 1 <= rows <= kRowTile, 1 <= tiles <= kBlockTile.
static inline void accumulate(WeightFormat format, const uint8_t* weights, int tiles, int blocks, const int8_t* codes,
                              size_t stride, const int32_t* sums, int rows, int32_t acc[][kBlockTile * kBlockRows]) {
  if (tiles == 2) return accumulate_tiles<2>(format, weights, blocks, codes, stride, sums, rows, acc);
  accumulate_tiles<1>(format, weights, blocks, codes, stride, sums, rows, acc);
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
