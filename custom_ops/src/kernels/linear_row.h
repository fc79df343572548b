// SPDX-License-Identifier: Apache-2.0
// The linear kernel for few rows: weights come from memory, in the order in which they lie there, and are used once.
// Included by each instruction set after its accumulate_*.h, which gives
//
//   row_blocks(FORMAT)                          blocks of outputs that share activations in registers
//   row_product<FORMAT, TILES>(weights, tile_bytes, blocks, codes, sums)
//
// sums[tile][lane] of (weight + row_offset(FORMAT)) * activation over `blocks` blocks, those of tile t from
// weights + t * tile_bytes on; reads_packed(FORMAT) is false where it cannot.
//
// Weights in a cache are read as several streams, row_blocks() of them, as their activations are then loaded once for all.
// From memory one stream is faster: the CPU's own prefetchers follow it, and they have more requests under way than
// instructions can have.
#pragma once
#include "epilogue.h"
#include "spell_out.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr int kStretch = 640;  // inputs that are spelt out at once, a multiple of every block's width
constexpr int kVectors = kBlockRows / kWide;  // of a block's outputs

// What the outputs four blocks further on will need besides their weights is as far away as these.
static inline void prefetch_epilogue(const LinearArgs& args, int row, int block) {
  const int n = (block + 4) * kBlockRows;
  if (n >= args.out_features) return;
  const size_t at = static_cast<size_t>(row) * args.out_features + n;
  __builtin_prefetch(args.scale + n);
  __builtin_prefetch(args.y + at, 1);
  if (args.bias != nullptr) __builtin_prefetch(args.bias + n);
  if (args.residual != nullptr) __builtin_prefetch(args.residual + at);
}

template <WeightFormat FORMAT, int TILES>
static void row_tiles(const LinearArgs& args, const QuantizedRows& x, int row, int block) {
  const size_t tile_bytes = static_cast<size_t>(packed_bytes(FORMAT, kBlockRows, args.in_features));
  const uint8_t* weights = args.weights + block * tile_bytes;
  const int8_t* codes = x.codes + row * x.stride;
  Integers sums[TILES * kVectors];
  row_product<FORMAT, TILES>(weights, tile_bytes, blocks_across(FORMAT, args.in_features), codes, sums);
  finish(args, reinterpret_cast<const int32_t*>(sums), row_offset(FORMAT) * x.sum[row], x.scale[row], row, block * kBlockRows, TILES * kBlockRows);
}

// GROUP_BLOCKS: blocks of a whole group, so that its loop has no counter; 0: any number.
template <WeightFormat FORMAT, int TILES, int GROUP_BLOCKS>
static void row_tiles_of_groups(const LinearArgs& args, const QuantizedRows& x, int row, int block) {
  const int total_blocks = blocks_across(FORMAT, args.in_features), group_blocks = x.group_size / block_width(FORMAT);
  const size_t tile_bytes = static_cast<size_t>(total_blocks) * block_bytes(FORMAT);
  const uint8_t* weights = args.weights + block * tile_bytes;
  const int8_t* codes = x.codes + row * x.stride;
  f32w products[TILES * kVectors] = {};
  for (int group = 0; group < x.groups; group++) {
    const int start = group * group_blocks, left = total_blocks - start;
    const uint8_t* at_group = weights + static_cast<size_t>(start) * block_bytes(FORMAT);
    const int8_t* group_codes = codes + static_cast<size_t>(group) * x.group_size;
    Integers sums[TILES * kVectors];
    if (GROUP_BLOCKS != 0 && left >= GROUP_BLOCKS)
      row_product<FORMAT, TILES>(at_group, tile_bytes, GROUP_BLOCKS, group_codes, sums);
    else
      row_product<FORMAT, TILES>(at_group, tile_bytes, left < group_blocks ? left : group_blocks, group_codes, sums);
    const int32_t sum = x.sum[static_cast<size_t>(row) * x.groups + group];
    for (int v = 0; v < TILES * kVectors; v++) {
      const size_t tile = static_cast<size_t>(block + v / kVectors);
      const size_t at = (tile * x.groups + group) * kBlockRows + v % kVectors * kWide;
      products[v] += scaled_group(args, sums[v], row_offset(FORMAT), sum, at);
    }
  }
  finish(args, reinterpret_cast<const float*>(products), 0, x.scale[row], row, block * kBlockRows, TILES * kBlockRows);
}

template <WeightFormat FORMAT, int TILES>
static void row_tiles_of_groups(const LinearArgs& args, const QuantizedRows& x, int row, int block) {
  constexpr int kSmallest = kGroupMultiple / block_width(FORMAT);
  switch (x.group_size / kGroupMultiple) {
    case 1: return row_tiles_of_groups<FORMAT, TILES, kSmallest>(args, x, row, block);
    case 2: return row_tiles_of_groups<FORMAT, TILES, 2 * kSmallest>(args, x, row, block);
    case 4: return row_tiles_of_groups<FORMAT, TILES, 4 * kSmallest>(args, x, row, block);
    default: return row_tiles_of_groups<FORMAT, TILES, 0>(args, x, row, block);
  }
}

// Weights spelt out as int8 first, a group or a stretch at a time.
template <WeightFormat FORMAT>
static void row_spelt_out(const LinearArgs& args, const QuantizedRows& x, int row, int block) {
  constexpr int kWidth = block_width(FORMAT), kOffset = row_offset(WeightFormat::kInt8);
  alignas(64) uint8_t strip[kStretch * kBlockRows];
  const bool grouped = args.group_scale != nullptr;
  const int total_blocks = blocks_across(FORMAT, args.in_features), step = (grouped ? x.group_size : kStretch) / kWidth;
  const uint8_t* weights = args.weights + static_cast<size_t>(block) * total_blocks * block_bytes(FORMAT);
  Integers total[kVectors] = {};
  f32w products[kVectors] = {};
  for (int start = 0, group = 0; start < total_blocks; start += step, group++) {
    const int blocks = total_blocks - start < step ? total_blocks - start : step;
    spell_out<FORMAT>(weights + static_cast<size_t>(start) * block_bytes(FORMAT), blocks, 0, strip, kBlockBytes);
    Integers sums[kVectors];
    row_product<WeightFormat::kInt8, 1>(strip, 0, blocks * kWidth / 4,
                                        x.codes + row * x.stride + static_cast<size_t>(start) * kWidth, sums);
    for (int v = 0; v < kVectors; v++) {
      total[v] += sums[v];
      const size_t at = (static_cast<size_t>(block) * x.groups + group) * kBlockRows + v * kWide;
      if (grouped) products[v] += scaled_group(args, sums[v], kOffset, x.sum[static_cast<size_t>(row) * x.groups + group], at);
    }
  }
  if (grouped)
    return finish(args, reinterpret_cast<const float*>(products), 0, x.scale[row], row, block * kBlockRows, kBlockRows);
  finish(args, reinterpret_cast<const int32_t*>(total), kOffset * x.sum[row], x.scale[row], row, block * kBlockRows, kBlockRows);
}

template <WeightFormat FORMAT, int TILES>
static void row_block(const LinearArgs& args, const QuantizedRows& x, int block) {
  for (int row = 0; row < args.rows; row++) {
    for (int tile = 0; tile < TILES; tile++) prefetch_epilogue(args, row, block + tile);
    if constexpr (may_have_groups(FORMAT))
      if (args.group_scale != nullptr) {
        row_tiles_of_groups<FORMAT, TILES>(args, x, row, block);
        continue;
      }
    row_tiles<FORMAT, TILES>(args, x, row, block);
  }
}

template <WeightFormat FORMAT>
static void linear_row(const LinearArgs& args, const QuantizedRows& x, int first_block, int last_block) {
  int block = first_block;
  if (!reads_packed(FORMAT)) {
    for (; block < last_block; block++)
      for (int row = 0; row < args.rows; row++) row_spelt_out<FORMAT>(args, x, row, block);
    return;
  }
  constexpr int kTogether = row_blocks(FORMAT);
  if (!args.streams)
    for (; block + kTogether <= last_block; block += kTogether) row_block<FORMAT, kTogether>(args, x, block);
  for (; block < last_block; block++) row_block<FORMAT, 1>(args, x, block);
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
