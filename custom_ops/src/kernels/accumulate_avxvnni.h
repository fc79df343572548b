// SPDX-License-Identifier: Apache-2.0
// The integer product with AVX-VNNI (CPUs that have vpdpbusd but not AVX-512). One block is two registers of 8 output
// rows x 4 inputs; vpdpbusd adds four products of unsigned codes and signed activations straight into int32.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "layout.h"
#include "spell_out.h"
#include "vector_wide.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr int kBlockTile = 1;
constexpr int row_blocks(WeightFormat) { return 2; }
constexpr int kRowTile = 6;  // 12 accumulators + 2 weights + 1 activation: 16 registers with one to spare

typedef __m256i Register;

// By name, so that the file needs no compiler flag that would let the compiler use these instructions elsewhere.
static inline void dot4(__m256i& acc, __m256i codes, __m256i activations) {
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(codes), "x"(activations));
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm

#include "blocks_256.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

// Both products take unsigned weights: the stored codes as they are, int8 after adding 128.
constexpr int row_offset(WeightFormat format) { return format == WeightFormat::kInt8 ? 128 : stored_zero(format); }
constexpr int panel_offset(WeightFormat format) { return row_offset(format); }

static inline __m256i unsigned_int8(__m256i weights) { return _mm256_xor_si256(weights, _mm256_set1_epi8(-128)); }

// See linear_row.h. Two chains of sums per half, so that no product waits for the one before.
template <WeightFormat FORMAT, int TILES>
EDGE_VLM_INLINE void row_product(const uint8_t* weights, size_t tile_bytes, int blocks, const int8_t* codes, Integers* sums) {
  constexpr int kPlanes = block_width(FORMAT) / 4, kHalves = 2 * TILES;
  __m256i even[kHalves], odd[kHalves];
#pragma GCC unroll 4
  for (int half = 0; half < kHalves; half++) even[half] = odd[half] = no_sum();
  for (int block = 0; block < blocks; block++, weights += block_bytes(FORMAT), codes += 4 * kPlanes) {
#pragma GCC unroll 2
    for (int tile = 0; tile < TILES; tile++) prefetch_block<FORMAT>(weights + tile * tile_bytes);
#pragma GCC unroll 8
    for (int plane = 0; plane < kPlanes; plane++) {
      const __m256i a = broadcast4(codes + 4 * plane);
#pragma GCC unroll 4
      for (int half = 0; half < kHalves; half++) {
        const __m256i w = plane_codes<FORMAT>(weights + half / 2 * tile_bytes + half % 2 * 32, plane);
        dot4(plane % 2 == 0 ? even[half] : odd[half], w, a);
      }
    }
  }
#pragma GCC unroll 4
  for (int half = 0; half < kHalves; half++) {
    const __m256i total = _mm256_add_epi32(even[half], odd[half]);
    sums[half] = (Integers)(FORMAT == WeightFormat::kBinary ? _mm256_add_epi32(total, total) : total);
  }
}

static bool reads_packed(WeightFormat format) { return format != WeightFormat::kTernaryDense; }

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm

#include "multiply_vnni.h"
