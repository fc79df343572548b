// SPDX-License-Identifier: Apache-2.0
// The integer product with AVX2. One block is two registers of 8 output rows x 4 inputs. vpmaddubsw multiplies unsigned by
// signed bytes and adds pairs into int16, where sums stay for as long as they cannot wrap.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>
#include <utility>

#include "blocks_256.h"
#include "layout.h"
#include "spell_out.h"
#include "vector_wide.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr int kBlockTile = 1;
constexpr int row_blocks(WeightFormat) { return 2; }
constexpr int kRowTile = 4;  // 8 accumulators + 2 weights + 1 activation + temporaries: 16 registers
typedef int32_t TileSums[kBlockRows];

// Stored codes are unsigned as they are; int8 stays signed, see add_signed.
constexpr int row_offset(WeightFormat format) { return format == WeightFormat::kInt8 ? 0 : stored_zero(format); }
constexpr int panel_offset(WeightFormat format) { return row_offset(format); }

// Quads whose products fit into int16. |activation| <= 127, so one vpmaddubsw adds at most 2 * c * 127 for codes up to c:
// 3 for ternary ones (a damaged file may hold it; spelt out, dense ones stay below), 2 for binary ones spelt out.
constexpr int flush_quads(WeightFormat format) {
  return 32767 / (2 * 127 * (format == WeightFormat::kInt4 ? 15 : format == WeightFormat::kInt3 ? 7 : 3));
}

static inline __m256i load_sums(const int32_t* sums) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums)); }
static inline void store_sums(int32_t* sums, __m256i v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums), v); }
static inline __m256i widened(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

// gcc would first unpack every plane, run out of registers and spill the sums; this ends its reordering.
static inline void keep_in_registers(__m256i& a, __m256i& b) { asm("" : "+x"(a), "+x"(b)); }

// Four products of signed bytes in int32: |w| times the activation with w's sign; a pair is at most 2 * 128 * 127 = 32512.
static inline __m256i add_signed(__m256i sum, __m256i w, __m256i activations) {
  return _mm256_add_epi32(sum, widened(_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(activations, w))));
}

// See linear_row.h.
template <WeightFormat FORMAT, int TILES>
EDGE_VLM_INLINE void row_product(const uint8_t* weights, size_t tile_bytes, int blocks, const int8_t* codes, Integers* sums) {
  constexpr bool kSigned = FORMAT == WeightFormat::kInt8;
  constexpr int kPlanes = block_width(FORMAT) / 4, kHalves = 2 * TILES;
  constexpr int kFlush = kSigned ? 1 << 20 : flush_quads(FORMAT) / kPlanes;
  __m256i total[kHalves];
#pragma GCC unroll 4
  for (int half = 0; half < kHalves; half++) total[half] = no_sum();
  for (int start = 0; start < blocks; start += kFlush) {
    const int stop = start + kFlush < blocks ? start + kFlush : blocks;
    __m256i pairs[kHalves];
#pragma GCC unroll 4
    for (int half = 0; half < kHalves; half++) pairs[half] = no_sum();
    for (int block = start; block < stop; block++, weights += block_bytes(FORMAT), codes += 4 * kPlanes) {
#pragma GCC unroll 2
      for (int tile = 0; tile < TILES; tile++) prefetch_block<FORMAT>(weights + tile * tile_bytes);
#pragma GCC unroll 8
      for (int plane = 0; plane < kPlanes; plane++) {
        const __m256i a = broadcast4(codes + 4 * plane);
#pragma GCC unroll 4
        for (int half = 0; half < kHalves; half++) {
          const uint8_t* at = weights + half / 2 * tile_bytes + half % 2 * 32;
          if (kSigned)
            total[half] = add_signed(total[half], load256(at), a);
          else
            pairs[half] = _mm256_add_epi16(pairs[half], _mm256_maddubs_epi16(plane_codes<FORMAT>(at, plane), a));
        }
#pragma GCC unroll 2
        for (int tile = 0; tile < TILES; tile++) keep_in_registers(pairs[2 * tile], pairs[2 * tile + 1]);
      }
    }
    if (kSigned) continue;
#pragma GCC unroll 4
    for (int half = 0; half < kHalves; half++) total[half] = _mm256_add_epi32(total[half], widened(pairs[half]));
  }
#pragma GCC unroll 4
  for (int half = 0; half < kHalves; half++)  // binary: weight + 1 is twice the code
    sums[half] = (Integers)_mm256_slli_epi32(total[half], FORMAT == WeightFormat::kBinary);
}

static bool reads_packed(WeightFormat format) { return format != WeightFormat::kTernaryDense; }

// Signed bytes times `rows` rows, whose quads lie `step` bytes apart and which themselves lie `stride` apart.
template <int ROWS>
static inline void multiply_signed(const uint8_t* strip, int quads, const int8_t* x, size_t stride, size_t step, TileSums* acc) {
  __m256i low[ROWS], high[ROWS];
#pragma GCC unroll 4
  for (int row = 0; row < ROWS; row++) low[row] = high[row] = no_sum();
  for (int quad = 0; quad < quads; quad++, strip += kBlockBytes, x += step) {
    const __m256i w_low = load256(strip), w_high = load256(strip + 32);
#pragma GCC unroll 4
    for (int row = 0; row < ROWS; row++) {
      const __m256i a = broadcast4(x + row * stride);
      low[row] = add_signed(low[row], w_low, a);
      high[row] = add_signed(high[row], w_high, a);
    }
  }
#pragma GCC unroll 4
  for (int row = 0; row < ROWS; row++) {
    store_sums(acc[row], low[row]);
    store_sums(acc[row] + 8, high[row]);
  }
}

// Unsigned codes times a panel, in stretches of FLUSH quads.
template <int FLUSH, int ROWS>
static void multiply_unsigned(const uint8_t* strip, int quads, const int8_t* panel, TileSums* acc) {
  std::memset(acc, 0, sizeof(TileSums) * ROWS);
  for (int start = 0; start < quads; start += FLUSH) {
    const int stop = start + FLUSH < quads ? start + FLUSH : quads;
    __m256i low[ROWS], high[ROWS];
#pragma GCC unroll 4
    for (int row = 0; row < ROWS; row++) low[row] = high[row] = no_sum();
    for (int quad = start; quad < stop; quad++, strip += kBlockBytes, panel += 4 * kRowTile) {
      const __m256i w_low = load256(strip), w_high = load256(strip + 32);
#pragma GCC unroll 4
      for (int row = 0; row < ROWS; row++) {
        const __m256i a = broadcast4(panel + 4 * row);
        low[row] = _mm256_add_epi16(low[row], _mm256_maddubs_epi16(w_low, a));
        high[row] = _mm256_add_epi16(high[row], _mm256_maddubs_epi16(w_high, a));
      }
    }
#pragma GCC unroll 4
    for (int row = 0; row < ROWS; row++) {
      store_sums(acc[row], _mm256_add_epi32(load_sums(acc[row]), widened(low[row])));
      store_sums(acc[row] + 8, _mm256_add_epi32(load_sums(acc[row] + 8), widened(high[row])));
    }
  }
}

template <WeightFormat FORMAT, int ROWS>
static inline void multiply_rows(const uint8_t* strip, int quads, const int8_t* panel, TileSums* acc) {
  if (FORMAT == WeightFormat::kInt8) return multiply_signed<ROWS>(strip, quads, panel, 4, 4 * kRowTile, acc);
  multiply_unsigned<flush_quads(FORMAT), ROWS>(strip, quads, panel, acc);
}

// See linear_many.h.
template <WeightFormat FORMAT>
static void multiply(const uint8_t* strip, int quads, const int8_t* panel, int rows, TileSums* acc) {
  switch (rows) {
    case 1: return multiply_rows<FORMAT, 1>(strip, quads, panel, acc);
    case 2: return multiply_rows<FORMAT, 2>(strip, quads, panel, acc);
    case 3: return multiply_rows<FORMAT, 3>(strip, quads, panel, acc);
    default: return multiply_rows<FORMAT, 4>(strip, quads, panel, acc);
  }
}

// See accumulate_scalar.h; 1 <= rows <= kRowTile.
static inline void accumulate(WeightFormat /*format*/, const uint8_t* weights, int /*tiles*/, int blocks, const int8_t* codes,
                              size_t stride, const int32_t* /*sums*/, int rows, TileSums* acc) {
  switch (rows) {
    case 1: return multiply_signed<1>(weights, blocks, codes, stride, 4, acc);
    case 2: return multiply_signed<2>(weights, blocks, codes, stride, 4, acc);
    case 3: return multiply_signed<3>(weights, blocks, codes, stride, 4, acc);
    default: return multiply_signed<4>(weights, blocks, codes, stride, 4, acc);
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
