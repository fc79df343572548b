// SPDX-License-Identifier: Apache-2.0
// The linear kernel for many rows. Weights are spelt out for as many outputs as leave room for activations in the second
// cache; panels of activations, kRowTile rows each (kGroupRowTile with scales in groups), are then multiplied with all of
// these, so that a panel stays in the nearest cache and the outputs of a row are written side by side.
// Included by each instruction set after its accumulate_*.h, which gives
//
//   multiply<FORMAT>(strip, quads, panel, rows, acc)
//
// acc[row][lane] = sum of strip[quad][lane][i] * panel[quad][row][i]; strip[quad] holds kBlockTile * 16 lanes of 4 bytes,
// each weight + panel_offset(FORMAT). multiply_groups.h has the same for inputs with scales in groups.
#pragma once
#include "epilogue.h"
#include "multiply_groups.h"
#include "spell_out.h"
#include "strips.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr size_t kStripBytes = 224 * 1024;  // of weights that are spelt out at once

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
  const int n = block * kBlockRows;
  if (n + kTileLanes <= args.out_features && tiles == kBlockTile)
    return finish_tile<Product>(args, x, products, offset, row, rows, n);
  for (int r = 0; r < rows; r++) {
    const int32_t excess = offset == 0 ? 0 : offset * x.sum[row + r];
    finish(args, products[r], excess, x.scale[row + r], row + r, n, tiles * kBlockRows);
  }
}

// Rows row .. row + rows - 1, a panel, times the outputs of `tiles` blocks.
template <WeightFormat FORMAT>
static void multiply_panel(const LinearArgs& args, const QuantizedRows& x, int block, int tiles, int row, int rows, int quads,
                           const uint8_t* strip) {
  const int8_t* panel = x.codes + static_cast<size_t>(row) * x.stride;
  prefetch_outputs(args, row, rows, block);
  if (may_have_groups(FORMAT) && args.group_scale != nullptr) {
    alignas(64) float products[kGroupRowTile][kTileLanes];
    multiply_groups<FORMAT>(args, x, {block, tiles, row, rows}, strip, panel, products);
    return finish_panel(args, x, block, tiles, row, rows, 0, products);
  }
  alignas(64) int32_t products[kRowTile][kTileLanes];
  multiply<FORMAT>(strip, quads, panel, rows, products);
  finish_panel(args, x, block, tiles, row, rows, panel_offset(FORMAT), products);
}

template <WeightFormat FORMAT>
static void linear_many(const LinearArgs& args, const QuantizedRows& x, int first_block, int last_block) {
  const int blocks = blocks_across(FORMAT, args.in_features), quads = blocks * block_width(FORMAT) / 4;
  const int panel_rows = args.group_scale == nullptr ? kRowTile : kGroupRowTile;
  const size_t packed = static_cast<size_t>(blocks) * block_bytes(FORMAT);
  const size_t strip_bytes = static_cast<size_t>(quads) * kTileLanes * 4;
  const int strips = strip_bytes < kStripBytes ? static_cast<int>(kStripBytes / strip_bytes) : 1;
  uint8_t* const spelt = thread_strips(strips * strip_bytes);
  for (int first = first_block; first < last_block; first += strips * kBlockTile) {
    const int last = last_block - first < strips * kBlockTile ? last_block : first + strips * kBlockTile;
    for (int block = first; block < last; block++) {
      uint8_t* strip = spelt + (block - first) / kBlockTile * strip_bytes + (block - first) % kBlockTile * kBlockBytes;
      spell_out<FORMAT>(args.weights + block * packed, blocks, panel_offset(FORMAT), strip, kTileLanes * 4);
    }
    for (int row = 0; row < args.rows; row += panel_rows) {
      const int rows = args.rows - row < panel_rows ? args.rows - row : panel_rows;
      for (int block = first; block < last; block += kBlockTile) {
        const int tiles = last - block < kBlockTile ? last - block : kBlockTile;
        multiply_panel<FORMAT>(args, x, block, tiles, row, rows, quads, spelt + (block - first) / kBlockTile * strip_bytes);
      }
    }
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
