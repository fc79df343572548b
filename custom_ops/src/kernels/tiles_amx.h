// SPDX-License-Identifier: Apache-2.0
// Products of many rows in AMX tiles: 16 rows x 64 inputs times 64 inputs x 16 outputs in one instruction. Weights spelt
// out as int8 are such a tile as they lie, and so are the keys and values of an int8 cache. Few rows, and formats with
// groups, go the way of AVX-512 VNNI. Included after accumulate_avx512vnni.h.
#pragma once
#include <immintrin.h>

#include <cstring>

#include "epilogue.h"
#include "kernels.h"
#include "spell_out.h"
#include "strips.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr int kTileRows = 32;    // two tiles of rows times two of outputs: four of sums
constexpr int kTileInputs = 64;
constexpr int kTileBytes = 1024;
constexpr size_t kRowGroupBytes = 3 << 19;  // activations that stay in the second cache while all weights pass
static_assert(kBlockTile == 2, "two tiles of outputs");
typedef int32_t TileResult[kBlockTile * kBlockRows];

// All eight tiles as 16 rows of 64 bytes, for this thread, as long as this object lives.
class TileScope {
 public:
  TileScope() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    _tile_loadconfig(&config);
  }
  ~TileScope() { _tile_release(); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

// What there is of `rows` x `inputs` codes, zeros behind: a tile never reads beyond its arrays.
static void stage_codes(const int8_t* codes, size_t stride, int rows, int inputs, int8_t (*staged)[kTileInputs]) {
  std::memset(staged, 0, kTileRows * kTileInputs);
  for (int row = 0; row < rows; row++) std::memcpy(staged[row], codes + row * stride, inputs);
}

// acc[row][lane] of `rows` rows of codes (at most kTileRows) times two tiles of outputs: first and second hold 64 inputs
// x 16 outputs in kTileBytes, and the next 64 inputs `step` bytes further.
static void multiply_tiles(const int8_t* codes, size_t stride, int rows, const uint8_t* first, const uint8_t* second, size_t step,
                           int inputs, TileResult* acc) {
  alignas(64) int8_t staged[kTileRows][kTileInputs];
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int k = 0; k < inputs; k += kTileInputs, codes += kTileInputs, first += step, second += step) {
    const int8_t* a = codes;
    size_t a_stride = stride;
    if (rows < kTileRows || inputs - k < kTileInputs) {
      stage_codes(codes, stride, rows, inputs - k < kTileInputs ? inputs - k : kTileInputs, staged);
      a = staged[0];
      a_stride = kTileInputs;
    }
    _tile_loadd(4, a, a_stride);
    _tile_loadd(5, a + 16 * a_stride, a_stride);
    _tile_loadd(6, first, kBlockBytes);
    _tile_loadd(7, second, kBlockBytes);
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  constexpr size_t kResultBytes = sizeof(TileResult);
  _tile_stored(0, acc[0], kResultBytes);
  _tile_stored(1, acc[0] + kBlockRows, kResultBytes);
  _tile_stored(2, acc[16], kResultBytes);
  _tile_stored(3, acc[16] + kBlockRows, kResultBytes);
}

template <WeightFormat FORMAT>
static void linear_tiles(const LinearArgs& args, const QuantizedRows& x, int first_block, int last_block) {
  const TileScope scope;
  const int blocks = blocks_across(FORMAT, args.in_features);
  const size_t packed = static_cast<size_t>(blocks) * block_bytes(FORMAT);
  const size_t spelt = static_cast<size_t>(blocks) * block_width(FORMAT) * kBlockRows;
  const size_t strip_bytes = static_cast<size_t>(round_up(static_cast<int64_t>(spelt), kTileBytes));
  uint8_t* strips = thread_strips(2 * strip_bytes);
  std::memset(strips, 0, 2 * strip_bytes);  // what stands out behind the last input
  const int fitting = static_cast<int>(kRowGroupBytes / x.stride) / kTileRows * kTileRows;
  const int group_rows = fitting < kTileRows ? kTileRows : fitting;
  alignas(64) TileResult acc[kTileRows];
  for (int group = 0; group < args.rows; group += group_rows) {
    const int end = args.rows - group < group_rows ? args.rows : group + group_rows;
    for (int block = first_block; block < last_block; block += 2) {
      const int tiles = last_block - block < 2 ? 1 : 2;
      for (int tile = 0; tile < tiles; tile++)
        spell_out<FORMAT>(args.weights + (block + tile) * packed, blocks, 0, strips + tile * strip_bytes, kBlockBytes);
      for (int row = group; row < end; row += kTileRows) {
        const int rows = end - row < kTileRows ? end - row : kTileRows;
        multiply_tiles(x.codes + row * x.stride, x.stride, rows, strips, strips + strip_bytes, kTileBytes, args.in_features, acc);
        for (int r = 0; r < rows; r++)
          finish(args, acc[r], 0, x.scale[row + r], row + r, block * kBlockRows, tiles * kBlockRows);
      }
    }
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
