// SPDX-License-Identifier: Apache-2.0
// The integer product with AVX-512 VNNI: one block is one register of 16 output rows x 4 inputs, and vpdpbusd adds four
// products of unsigned codes and signed activations straight into int32.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "layout.h"
#include "spell_out.h"
#include "vector_wide.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr int kRowTile = 12;   // 12 rows x 2 blocks: 24 accumulators, the other registers hold weights and activations
constexpr int kBlockTile = 2;  // blocks of output rows in a call: each activation that is loaded serves both
constexpr int kRowSums = 16;   // accumulators for one row: masks, activations and weights take the other registers
constexpr int kPrefetchBytes = 4096;

// Whether a single row asks for its weights before it reads them. Where a line of weights takes many instructions, those
// under way reach only a few lines ahead, and the CPU's own prefetchers follow too late; elsewhere they are faster alone.
constexpr bool is_prefetched(WeightFormat format) {
  return format == WeightFormat::kTernary || format == WeightFormat::kInt2 || format == WeightFormat::kInt3;
}

typedef __m512i Register;

// gcc 12 spills accumulators around the intrinsic; the instruction by name keeps them in registers.
static inline void dot4(__m512i& acc, __m512i codes, __m512i activations) {
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(codes), "v"(activations));
}

// Four activations in memory.
struct Quad {
  int8_t inputs[4];
};

// The same with activations from memory: one instruction less is under way for each.
static inline void dot4(__m512i& acc, __m512i codes, const Quad& activations) {
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(codes), "m"(activations));
}

static inline const Quad* as_quads(const int8_t* codes) { return reinterpret_cast<const Quad*>(codes); }

static inline __m512i no_sum() { return _mm512_setzero_si512(); }

static inline __m512i broadcast4(const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, sizeof four);
  return _mm512_set1_epi32(four);
}

// Both products take unsigned weights: the stored codes as they are, int8 after adding 128.
constexpr int row_offset(WeightFormat format) { return format == WeightFormat::kInt8 ? 128 : stored_zero(format); }
constexpr int panel_offset(WeightFormat format) { return row_offset(format); }

static inline __m512i unsigned_int8(__m512i weights) { return _mm512_xor_si512(weights, _mm512_set1_epi8(-128)); }

template <WeightFormat FORMAT>
static inline __m512i load_block(const uint8_t* weights) {
  if (is_prefetched(FORMAT)) _mm_prefetch(reinterpret_cast<const char*>(weights) + kPrefetchBytes, _MM_HINT_T0);
  return _mm512_loadu_si512(weights);
}

// Planes of codes of BITS bits in one register, times as many quads of activations: in memory, or broadcast where they are
// used more than once. Every plane has accumulators of its own, so that codes are masked but not shifted (their sums are,
// in the end, exactly) and no chain of dependent products is long. |sum| <= 255 * 127 * inputs / planes stays below 2^31.
template <int BITS, int PLANES, typename Activations>
static inline void add_planes(__m512i packed, const Activations* quads, __m512i* acc) {
#pragma GCC unroll 8
  for (int plane = 0; plane < PLANES; plane++) {
    const __m512i mask = _mm512_set1_epi8(static_cast<char>(((1 << BITS) - 1) << (plane * BITS)));
    dot4(acc[plane], _mm512_and_si512(packed, mask), quads[plane]);
  }
}

template <int BITS, int PLANES>
static inline __m512i sum_planes(const __m512i* acc) {
  __m512i total = acc[0];
#pragma GCC unroll 8
  for (int plane = 1; plane < PLANES; plane++)
    total = _mm512_add_epi32(total, _mm512_srai_epi32(acc[plane], plane * BITS));
  return total;
}

constexpr int plane_bits(WeightFormat format) { return 32 / block_width(format); }

// The blocks of tile t begin at weights + t * tile_bytes.
template <WeightFormat FORMAT, int TILES>
EDGE_VLM_INLINE void row_of_planes(const uint8_t* weights, size_t tile_bytes, int blocks, const int8_t* codes, Integers* sums) {
  constexpr int kBits = plane_bits(FORMAT), kPlanes = 8 / kBits;
  __m512i acc[TILES][kPlanes];
#pragma GCC unroll 4
  for (int tile = 0; tile < TILES; tile++)
#pragma GCC unroll 8
    for (int plane = 0; plane < kPlanes; plane++) acc[tile][plane] = _mm512_setzero_si512();
  for (int block = 0; block < blocks; block++, weights += kBlockBytes, codes += 4 * kPlanes) {
#pragma GCC unroll 4
    for (int tile = 0; tile < TILES; tile++) {
      const __m512i packed = load_block<FORMAT>(weights + tile * tile_bytes);
      if (kBits == 8)
        dot4(acc[tile][0], unsigned_int8(packed), *as_quads(codes));
      else
        add_planes<kBits, kPlanes>(packed, as_quads(codes), acc[tile]);
    }
  }
#pragma GCC unroll 4
  for (int tile = 0; tile < TILES; tile++) {
    const __m512i total = sum_planes<kBits, kPlanes>(acc[tile]);
    sums[tile] = (Integers)(kBits == 1 ? _mm512_add_epi32(total, total) : total);  // binary: weight + 1 is twice the code
  }
}

// Two blocks of two bits, then one of the high bits, whose upper nibbles are brought down to share accumulators.
template <int TILES>
EDGE_VLM_INLINE void row_of_int3(const uint8_t* weights, size_t tile_bytes, int blocks, const int8_t* codes, Integers* sums) {
  __m512i low[TILES][4], high[TILES][4];
#pragma GCC unroll 4
  for (int tile = 0; tile < TILES; tile++)
#pragma GCC unroll 4
    for (int plane = 0; plane < 4; plane++) low[tile][plane] = high[tile][plane] = _mm512_setzero_si512();
  for (int block = 0; block < blocks; block++, weights += 3 * kBlockBytes, codes += 32) {
    __m512i quads[8];
#pragma GCC unroll 8
    for (int quad = 0; quad < 8; quad++) quads[quad] = broadcast4(codes + 4 * quad);
#pragma GCC unroll 4
    for (int tile = 0; tile < TILES; tile++) {
      const uint8_t* at = weights + tile * tile_bytes;
      const __m512i bits = load_block<WeightFormat::kInt3>(at + 2 * kBlockBytes);
      add_planes<2, 4>(load_block<WeightFormat::kInt3>(at), quads, low[tile]);
      add_planes<2, 4>(load_block<WeightFormat::kInt3>(at + kBlockBytes), quads + 4, low[tile]);
      add_planes<1, 4>(bits, quads, high[tile]);
      add_planes<1, 4>(_mm512_srli_epi16(bits, 4), quads + 4, high[tile]);
    }
  }
#pragma GCC unroll 4
  for (int tile = 0; tile < TILES; tile++) {
    const __m512i upper = _mm512_slli_epi32(sum_planes<1, 4>(high[tile]), 2);
    sums[tile] = (Integers)_mm512_add_epi32(sum_planes<2, 4>(low[tile]), upper);
  }
}

// What one look-up among 64 gives for a byte of five trits (packing.py, dense_bytes): below 192 the four low trits in two
// bits each, the fifth being the byte's top two bits; from 192 on both.
struct DenseTables {
  alignas(64) uint8_t plain[64], rest[64], last[64];
};

constexpr DenseTables make_dense_tables() {
  DenseTables tables{};
  const auto trits = [](int r) { return static_cast<uint8_t>(r % 3 | r / 3 % 3 << 2 | r / 9 % 3 << 4 | r / 27 << 6); };
  for (int byte = 0; byte < 64; byte++) {
    const int rest = byte < 51 ? byte : 0;
    tables.plain[byte] = trits(byte);
    tables.rest[byte] = trits(64 + rest % 17);
    tables.last[byte] = static_cast<uint8_t>(rest / 17 << 6);
  }
  return tables;
}

constexpr DenseTables kDenseTables = make_dense_tables();

// vpermb (AVX-512 VBMI), by name, so that the file needs no flag for what CPUs like Cascade Lake lack.
static inline __m512i look_up(__m512i index, __m512i table) {
  __m512i found;
  asm("vpermb %2, %1, %0" : "=v"(found) : "v"(index), "v"(table));
  return found;
}

// Replaces `before` where the mask is set.
static inline __m512i look_up(__m512i before, __mmask64 mask, __m512i index, __m512i table) {
  asm("vpermb %2, %1, %0 %{%3%}" : "+v"(before) : "v"(index), "v"(table), "Yk"(mask));
  return before;
}

static bool has_look_up() {
  static const bool found = __builtin_cpu_supports("avx512vbmi");
  return found;
}

template <int TILES>
static inline void row_of_dense(const uint8_t* weights, size_t tile_bytes, int blocks, const int8_t* codes, Integers* sums) {
  const __m512i plain = _mm512_load_si512(kDenseTables.plain), rest = _mm512_load_si512(kDenseTables.rest);
  const __m512i last = _mm512_load_si512(kDenseTables.last), top = _mm512_set1_epi8(static_cast<char>(0xC0));
  __m512i acc[TILES][4];
#pragma GCC unroll 4
  for (int tile = 0; tile < TILES; tile++)
#pragma GCC unroll 4
    for (int plane = 0; plane < 4; plane++) acc[tile][plane] = _mm512_setzero_si512();
  for (int block = 0; block < blocks; block++, weights += kBlockBytes, codes += 20) {
#pragma GCC unroll 4
    for (int tile = 0; tile < TILES; tile++) {
      const __m512i packed = load_block<WeightFormat::kTernaryDense>(weights + tile * tile_bytes);
      const __mmask64 beyond = _mm512_cmpge_epu8_mask(packed, top);
      add_planes<2, 4>(look_up(look_up(packed, plain), beyond, packed, rest), as_quads(codes), acc[tile]);
      // the fifth trit stands in the top two bits, like the fourth of the others
      dot4(acc[tile][3], look_up(_mm512_and_si512(packed, top), beyond, packed, last), as_quads(codes)[4]);
    }
  }
#pragma GCC unroll 4
  for (int tile = 0; tile < TILES; tile++) sums[tile] = (Integers)sum_planes<2, 4>(acc[tile]);
}

constexpr int row_blocks(WeightFormat format) {
  const int sums = format == WeightFormat::kInt3 ? 8 : format == WeightFormat::kTernaryDense ? 4 : 8 / plane_bits(format);
  return kRowSums / sums < 4 ? kRowSums / sums : 4;
}

// See linear_row.h.
template <WeightFormat FORMAT, int TILES>
EDGE_VLM_INLINE void row_product(const uint8_t* weights, size_t tile_bytes, int blocks, const int8_t* codes, Integers* sums) {
  if constexpr (FORMAT == WeightFormat::kInt3)
    row_of_int3<TILES>(weights, tile_bytes, blocks, codes, sums);
  else if constexpr (FORMAT == WeightFormat::kTernaryDense)
    row_of_dense<TILES>(weights, tile_bytes, blocks, codes, sums);
  else
    row_of_planes<FORMAT, TILES>(weights, tile_bytes, blocks, codes, sums);
}

// Whether row_product() reads a format as it is packed.
static bool reads_packed(WeightFormat format) { return format != WeightFormat::kTernaryDense || has_look_up(); }

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm

#include "multiply_vnni.h"
