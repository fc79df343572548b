// SPDX-License-Identifier: Apache-2.0
// The linear kernel for many rows. Weights of kBlockTile blocks of output rows are spelt out, a stretch of inputs at a
// time, and multiplied with panels of activations, kRowTile rows each, while both lie in a near cache.
// Included by each instruction set after its accumulate_*.h, which gives
//
//   multiply<FORMAT>(strip, quads, panel, rows, acc)
//
// acc[row][lane] = sum of strip[quad][lane][i] * panel[quad][row][i]; strip[quad] holds kBlockTile * 16 lanes of 4 bytes,
// each weight + panel_offset(FORMAT).
#pragma once
#include "epilogue.h"
#include "spell_out.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr int kTileLanes = kBlockTile * kBlockRows;
constexpr int kGroupRows = 8 * kRowTile;      // rows that share what is spelt out, where there are several stretches,
constexpr int kGroupBytes = 256 * 1024;       // and else as many as take this much of the second cache

// Products of the rows of a group with one tile of outputs, stretch by stretch: int32, or float once groups are scaled.
union TileProducts {
  alignas(64) int32_t integers[kGroupRows][kTileLanes];
  alignas(64) float floats[kGroupRows][kTileLanes];
};

static int rows_of_group(const QuantizedRows& x, int stretches) {
  const int fitting = static_cast<int>(kGroupBytes / x.stride) / kRowTile * kRowTile;
  return stretches > 1 || fitting < kGroupRows ? kGroupRows : fitting;
}

// The inputs of a stretch: as long as fits, evenly split, whole blocks and groups.
constexpr int stretch_inputs(WeightFormat format, int in_features, int group_size) {
  const int unit = format == WeightFormat::kTernaryDense ? 160 : group_size == 0 ? kRowPadding : group_size;
  const int count = (in_features + kStretch - 1) / kStretch;
  const int even = static_cast<int>(round_up((in_features + count - 1) / count, unit));
  return even <= kStretch ? even : kStretch / unit * unit;
}

template <WeightFormat FORMAT>
static void add_stretch(int quads, const uint8_t* strip, const int8_t* panel, int rows, bool first, int32_t (*sums)[kTileLanes]) {
  if (first) return multiply<FORMAT>(strip, quads, panel, rows, sums);
  alignas(64) int32_t acc[kRowTile][kTileLanes];
  multiply<FORMAT>(strip, quads, panel, rows, acc);
  for (int row = 0; row < rows; row++)
    for (int lane = 0; lane < kTileLanes; lane++) sums[row][lane] += acc[row][lane];
}

// The groups of a stretch that begins with group `group`.
template <WeightFormat FORMAT>
static void add_groups(const LinearArgs& args, const QuantizedRows& x, int block, int tiles, int group, int quads,
                       const uint8_t* strip, const int8_t* panel, size_t row, int rows, float (*products)[kTileLanes]) {
  alignas(64) int32_t acc[kRowTile][kTileLanes];
  const int group_quads = x.group_size / 4;
  for (int quad = 0; quad < quads; quad += group_quads, group++) {
    const int count = quads - quad < group_quads ? quads - quad : group_quads;
    multiply<FORMAT>(strip + static_cast<size_t>(quad) * kTileLanes * 4, count, panel + static_cast<size_t>(quad) * kRowTile * 4,
                     rows, acc);
    for (int r = 0; r < rows; r++) {
      const int32_t sum = x.sum[(row + r) * x.groups + group];
      for (int lane = 0; lane < tiles * kBlockRows; lane += kWide) {
        const size_t tile = static_cast<size_t>(block + lane / kBlockRows);
        const size_t at = (tile * x.groups + group) * kBlockRows + lane % kBlockRows;
        const f32w share = scaled_group(args, load_integers(acc[r] + lane), panel_offset(FORMAT), sum, at);
        wide_store(products[r] + lane, group == 0 ? share : wide_load(products[r] + lane) + share);
      }
    }
  }
}

// The outputs of a panel, and what is added to them, come into a near cache while the products are made.
static void prefetch_outputs(const LinearArgs& args, int row, int rows, int block) {
  size_t at = static_cast<size_t>(row) * args.out_features + block * kBlockRows;
  for (int r = 0; r < rows; r++, at += args.out_features)
    for (int lane = 0; lane < kTileLanes; lane += 16) {
      __builtin_prefetch(args.y + at + lane, 1);
      if (args.residual != nullptr) __builtin_prefetch(args.residual + at + lane);
    }
}

template <typename Product>
static void finish_panel(const LinearArgs& args, const QuantizedRows& x, int block, int tiles, int row, int rows, int offset,
                         Product (*products)[kTileLanes]) {
  for (int r = 0; r < rows; r++) {
    const int32_t excess = offset == 0 ? 0 : offset * x.sum[row + r];
    finish(args, products[r], excess, x.scale[row + r], row + r, block * kBlockRows, tiles * kBlockRows);
  }
}

// Rows first_row .. last_row - 1 times the outputs of `tiles` blocks. Panels of a single stretch share one place for their
// products, as each is finished at once.
template <WeightFormat FORMAT>
static void multiply_tile(const LinearArgs& args, const QuantizedRows& x, int block, int tiles, int first_row, int last_row,
                          int stretch, TileProducts& products) {
  constexpr int kWidth = block_width(FORMAT);
  alignas(64) uint8_t strip[kStretch * kTileLanes];
  const bool grouped = may_have_groups(FORMAT) && args.group_scale != nullptr, single = stretch >= args.in_features;
  const size_t tile_bytes = static_cast<size_t>(packed_bytes(FORMAT, kBlockRows, args.in_features));
  for (int start = 0; start < args.in_features; start += stretch) {
    const int inputs = args.in_features - start < stretch ? args.in_features - start : stretch;
    const int blocks = blocks_across(FORMAT, inputs);
    const int quads = blocks * kWidth / 4;
    const bool last = start + stretch >= args.in_features;
    for (int tile = 0; tile < tiles; tile++)
      spell_out<FORMAT>(args.weights + (block + tile) * tile_bytes + static_cast<size_t>(start / kWidth) * block_bytes(FORMAT),
                        blocks, panel_offset(FORMAT), strip + tile * kBlockBytes, kTileLanes * 4);
    for (int row = first_row; row < last_row; row += kRowTile) {
      const int rows = last_row - row < kRowTile ? last_row - row : kRowTile, r = single ? 0 : row - first_row;
      const int8_t* panel = x.codes + static_cast<size_t>(row) * x.stride + static_cast<size_t>(start) * kRowTile;
      if (last) prefetch_outputs(args, row, rows, block);
      if (grouped) {
        add_groups<FORMAT>(args, x, block, tiles, start / x.group_size, quads, strip, panel, row, rows, products.floats + r);
        if (last) finish_panel(args, x, block, tiles, row, rows, 0, products.floats + r);
      } else {
        add_stretch<FORMAT>(quads, strip, panel, rows, start == 0, products.integers + r);
        if (last) finish_panel(args, x, block, tiles, row, rows, panel_offset(FORMAT), products.integers + r);
      }
    }
  }
}

template <WeightFormat FORMAT>
static void linear_many(const LinearArgs& args, const QuantizedRows& x, int first_block, int last_block) {
  TileProducts products;
  const int stretch = stretch_inputs(FORMAT, args.in_features, x.group_size);
  const int group_rows = rows_of_group(x, (args.in_features + stretch - 1) / stretch);
  for (int first = 0; first < args.rows; first += group_rows) {
    const int last = args.rows - first < group_rows ? args.rows : first + group_rows;
    for (int block = first_block; block < last_block; block += kBlockTile) {
      const int tiles = last_block - block < kBlockTile ? last_block - block : kBlockTile;
      multiply_tile<FORMAT>(args, x, block, tiles, first, last, stretch, products);
    }
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
