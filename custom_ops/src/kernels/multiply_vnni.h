// SPDX-License-Identifier: Apache-2.0
// Products of many rows on CPUs with vpdpbusd, for the register width of an instruction set: its header gives Register,
// no_sum(), broadcast4(), dot4(), unsigned_int8(), and kRowTile by kBlockTile such that the sums fit into registers.
#pragma once
#include <cstring>
#include <utility>

#include "layout.h"
#include "vector8.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr int kBlockRegisters = kBlockBytes / sizeof(Register);
constexpr int kTileRegisters = kBlockTile * kBlockRegisters;
typedef int32_t TileSums[kBlockTile * kBlockRows];

static inline Register load_register(const uint8_t* p) {
  Register v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

static inline void store_register(int32_t* p, Register v) { std::memcpy(p, &v, sizeof v); }

#define EDGE_VLM_SUMS_IN_REGISTERS

template <int ROWS, int PANEL_ROWS>
EDGE_VLM_INLINE void add_quads(const uint8_t* strip, int quads, const int8_t* panel, Register (&sums)[ROWS][kTileRegisters]) {
  for (int quad = 0; quad < quads; quad++, strip += sizeof(Register) * kTileRegisters, panel += 4 * PANEL_ROWS) {
    Register weights[kTileRegisters];
#pragma GCC unroll 2
    for (int i = 0; i < kTileRegisters; i++) weights[i] = load_register(strip + sizeof(Register) * i);
#pragma GCC unroll 12
    for (int row = 0; row < ROWS; row++) {
      const Register activations = broadcast4(panel + 4 * row);
#pragma GCC unroll 2
      for (int i = 0; i < kTileRegisters; i++) dot4(sums[row][i], weights[i], activations);
    }
  }
}

// See linear_many.h.
template <int ROWS>
static void multiply_rows(const uint8_t* strip, int quads, const int8_t* panel, TileSums* acc) {
  Register sums[ROWS][kTileRegisters];
#pragma GCC unroll 12
  for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 2
    for (int i = 0; i < kTileRegisters; i++) sums[row][i] = no_sum();
  add_quads<ROWS, kRowTile>(strip, quads, panel, sums);
#pragma GCC unroll 12
  for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 2
    for (int i = 0; i < kTileRegisters; i++) store_register(acc[row] + sizeof(Register) / 4 * i, sums[row][i]);
}

typedef void (*MultiplyRows)(const uint8_t*, int, const int8_t*, TileSums*);
template <int... ROWS>
static void multiply_any(std::integer_sequence<int, ROWS...>, const uint8_t* strip, int quads, const int8_t* panel, int rows,
                         TileSums* acc) {
  static constexpr MultiplyRows kOfRows[] = {multiply_rows<ROWS + 1>...};
  kOfRows[rows - 1](strip, quads, panel, acc);
}

template <WeightFormat FORMAT>
static void multiply(const uint8_t* strip, int quads, const int8_t* panel, int rows, TileSums* acc) {
  multiply_any(std::make_integer_sequence<int, kRowTile>(), strip, quads, panel, rows, acc);
}

// Int8 weights as they are packed, in pieces of `blocks` blocks that lie `bytes` apart: what attention takes.
struct WeightPieces {
  const uint8_t* first;
  int count, blocks;
  size_t bytes;
};

// Which factor vpdpbusd takes as unsigned: weights, 128 more than they are, whose excess is taken off by the sums of a row's
// codes; or codes, of which none is negative.
enum class Unsigned { kWeights, kCodes };

// Times a few rows whose codes lie one after the other. Within a caller gcc would not keep the sums in registers.
template <Unsigned UNSIGNED, int ROWS, int TILES>
__attribute__((noinline)) static void accumulate_rows(const WeightPieces& pieces, const int8_t* codes, size_t stride, const int32_t* sums, TileSums* acc) {
  constexpr int kRegisters = TILES * kBlockRegisters;
  const size_t tile_bytes = static_cast<size_t>(pieces.blocks) * kBlockBytes;
  Register total[ROWS][kRegisters];
#pragma GCC unroll 12
  for (int row = 0; row < ROWS; row++) {
    const int32_t start = UNSIGNED == Unsigned::kWeights ? -128 * sums[row] : 0;
#pragma GCC unroll 2
    for (int i = 0; i < kRegisters; i++) total[row][i] = broadcast4(reinterpret_cast<const int8_t*>(&start));
  }
  for (int piece = 0; piece < pieces.count; piece++) {
    const uint8_t* weights = pieces.first + piece * pieces.bytes;
    for (int block = 0; block < pieces.blocks; block++, weights += kBlockBytes, codes += 4) {
      Register w[kRegisters];
#pragma GCC unroll 2
      for (int i = 0; i < kRegisters; i++) {
        w[i] = load_register(weights + i / kBlockRegisters * tile_bytes + i % kBlockRegisters * sizeof(Register));
        if (UNSIGNED == Unsigned::kWeights) w[i] = unsigned_int8(w[i]);
      }
#pragma GCC unroll 12
      for (int row = 0; row < ROWS; row++) {
        const Register activations = broadcast4(codes + row * stride);
#pragma GCC unroll 2
        for (int i = 0; i < kRegisters; i++)
          if (UNSIGNED == Unsigned::kWeights)
            dot4(total[row][i], w[i], activations);
          else
            dot4(total[row][i], activations, w[i]);
      }
    }
  }
#pragma GCC unroll 12
  for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 2
    for (int i = 0; i < kRegisters; i++) store_register(acc[row] + sizeof(Register) / 4 * i, total[row][i]);
}

template <Unsigned UNSIGNED, int TILES>
static void accumulate_tiles(const WeightPieces& pieces, const int8_t* codes, size_t stride, const int32_t* sums, int rows,
                             TileSums* acc) {
  int done = 0;
  const auto step = [&](auto run, int count) {
    run(pieces, codes + done * stride, stride, UNSIGNED == Unsigned::kWeights ? sums + done : nullptr, acc + done);
    done += count;
  };
  while (rows - done >= kRowTile) step(accumulate_rows<UNSIGNED, kRowTile, TILES>, kRowTile);
  while (rows - done >= kRowTile / 3) step(accumulate_rows<UNSIGNED, kRowTile / 3, TILES>, kRowTile / 3);
  while (rows - done >= 1) step(accumulate_rows<UNSIGNED, 1, TILES>, 1);
}

// 1 <= tiles <= kBlockTile; `sums` may be null where codes are unsigned.
template <Unsigned UNSIGNED>
static inline void accumulate_pieces(const WeightPieces& pieces, int tiles, const int8_t* codes, size_t stride,
                                     const int32_t* sums, int rows, TileSums* acc) {
  if (tiles == kBlockTile) return accumulate_tiles<UNSIGNED, kBlockTile>(pieces, codes, stride, sums, rows, acc);
  accumulate_tiles<UNSIGNED, 1>(pieces, codes, stride, sums, rows, acc);
}

// See accumulate_scalar.h; 1 <= rows <= kRowTile, 1 <= tiles <= kBlockTile.
static inline void accumulate(WeightFormat /*format*/, const uint8_t* weights, int tiles, int blocks, const int8_t* codes,
                              size_t stride, const int32_t* sums, int rows, TileSums* acc) {
  accumulate_pieces<Unsigned::kWeights>({weights, 1, blocks, 0}, tiles, codes, stride, sums, rows, acc);
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
