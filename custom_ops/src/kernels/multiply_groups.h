// SPDX-License-Identifier: Apache-2.0
// Products of many rows where inputs have scales in groups: each group's exact sums are scaled and added up as floats.
// Included by each instruction set after its accumulate_*.h.
#pragma once
#include <cstring>
#include <utility>

#include "epilogue.h"
#include "kernels.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

#ifdef EDGE_VLM_SUMS_IN_REGISTERS
constexpr int kGroupRowTile = kRowTile / 2;  // rows of a panel: half the registers hold a group's sums, half those of all
#else
constexpr int kGroupRowTile = kRowTile;
#endif

// Rows row .. row + rows - 1, a panel, times the outputs of `tiles` blocks from `block` on.
struct PanelTile {
  int block, tiles, row, rows;
};

// Where scales and zero points of kWide outputs from `lane` on lie; instead of those of a block that does not exist, of
// the first.
static inline size_t group_start(const PanelTile& at, int lane, int groups, int group) {
  const int tile = lane / kBlockRows < at.tiles ? lane / kBlockRows : 0;
  return (static_cast<size_t>(at.block + tile) * groups + group) * kBlockRows + lane % kBlockRows;
}

#ifdef EDGE_VLM_SUMS_IN_REGISTERS

static_assert(sizeof(Register) == sizeof(Integers), "a register holds the sums of kWide outputs");

// Without zero points sums begin with what they would have to be lessened by in the end.
template <int ROWS, bool ZERO>
static void multiply_group_rows(const LinearArgs& args, const QuantizedRows& x, const PanelTile& at, int offset,
                                const uint8_t* strip, const int8_t* panel, float (*products)[kTileLanes]) {
  const int quads = blocks_across(WeightFormat::kInt8, args.in_features), group_quads = x.group_size / 4;
  const int32_t* codes_sums = x.sum + static_cast<size_t>(at.row) * x.groups;
  f32w total[ROWS][kTileRegisters] = {};
  for (int group = 0; group < x.groups; group++, codes_sums += kGroupRowTile) {
    const int quad = group * group_quads, count = quads - quad < group_quads ? quads - quad : group_quads;
    int32_t excess[ROWS];
    for (int row = 0; row < ROWS; row++) excess[row] = ZERO ? codes_sums[row] : -offset * codes_sums[row];
    asm("" : : "r"(excess) : "memory");  // gcc would take them through general registers
    Register sums[ROWS][kTileRegisters];
#pragma GCC unroll 12
    for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 2
      for (int i = 0; i < kTileRegisters; i++) sums[row][i] = ZERO ? no_sum() : (Register)(Integers{} + excess[row]);
    add_quads<ROWS, kGroupRowTile>(strip + static_cast<size_t>(quad) * kTileLanes * 4, count,
                                   panel + static_cast<size_t>(quad) * kGroupRowTile * 4, sums);
#pragma GCC unroll 2
    for (int i = 0; i < kTileRegisters; i++) {
      const size_t first = group_start(at, i * kWide, x.groups, group);
      const f32w scale = group_scales(args, first);
      const Integers zero = ZERO ? group_zeros(args, first) + offset : Integers{};
#pragma GCC unroll 12
      for (int row = 0; row < ROWS; row++) {
        Integers whole = (Integers)sums[row][i];
        if (ZERO) whole -= zero * excess[row];
        total[row][i] += __builtin_convertvector(whole, f32w) * scale;
      }
    }
  }
#pragma GCC unroll 12
  for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 2
    for (int i = 0; i < kTileRegisters; i++) wide_store(products[row] + i * kWide, total[row][i]);
}

typedef void (*MultiplyGroupRows)(const LinearArgs&, const QuantizedRows&, const PanelTile&, int, const uint8_t*, const int8_t*,
                                  float (*)[kTileLanes]);

template <bool ZERO, int... ROWS>
static constexpr MultiplyGroupRows group_rows(std::integer_sequence<int, ROWS...>, int rows) {
  constexpr MultiplyGroupRows kOfRows[] = {multiply_group_rows<ROWS + 1, ZERO>...};
  return kOfRows[rows - 1];
}

template <WeightFormat FORMAT>
static void multiply_groups(const LinearArgs& args, const QuantizedRows& x, const PanelTile& at, const uint8_t* strip,
                            const int8_t* panel, float (*products)[kTileLanes]) {
  constexpr auto kRows = std::make_integer_sequence<int, kGroupRowTile>();
  const MultiplyGroupRows run = args.zero == nullptr ? group_rows<false>(kRows, at.rows) : group_rows<true>(kRows, at.rows);
  run(args, x, at, panel_offset(FORMAT), strip, panel, products);
}

#else

template <WeightFormat FORMAT>
static void multiply_groups(const LinearArgs& args, const QuantizedRows& x, const PanelTile& at, const uint8_t* strip,
                            const int8_t* panel, float (*products)[kTileLanes]) {
  alignas(64) int32_t acc[kRowTile][kTileLanes];
  const int quads = blocks_across(WeightFormat::kInt8, args.in_features), group_quads = x.group_size / 4;
  const int32_t* codes_sums = x.sum + static_cast<size_t>(at.row) * x.groups;
  std::memset(products, 0, at.rows * sizeof *products);
  for (int group = 0; group < x.groups; group++, codes_sums += kRowTile) {
    const int quad = group * group_quads, count = quads - quad < group_quads ? quads - quad : group_quads;
    multiply<FORMAT>(strip + static_cast<size_t>(quad) * kTileLanes * 4, count, panel + static_cast<size_t>(quad) * kRowTile * 4,
                     at.rows, acc);
    for (int row = 0; row < at.rows; row++)
      for (int lane = 0; lane < kTileLanes; lane += kWide) {
        const size_t first = group_start(at, lane, x.groups, group);
        float* product = products[row] + lane;
        wide_store(product, wide_load(product) +
                                scaled_group(args, load_integers(acc[row] + lane), panel_offset(FORMAT), codes_sums[row], first));
      }
  }
}

#endif

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
