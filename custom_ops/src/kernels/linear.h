// SPDX-License-Identifier: Apache-2.0
// Activation quantisation and the linear kernel: integer tiles from accumulate(), then the float epilogue.
// Included by each instruction set after its accumulate_*.h.
#pragma once
#include <vector>

#include "kernels.h"
#include "spell_out.h"
#include "vector8.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

static float row_peak(const float* x, int width) {
  f32x8 peak = splat(0.0f);
  for (int k = 0; k < width; k += kLanes) peak = larger(magnitude(load_first(x + k, width - k, 0.0f)), peak);
  return max_lanes(peak);
}

static int32_t sum_of(i32x8 v) {
  int32_t sum = 0;
  for (int lane = 0; lane < kLanes; lane++) sum += v[lane];
  return sum;
}

// q = clip(round_half_even(x * (127 / amax)), -127, 127), scale = amax / 127. A row without a usable amax (all zero, or
// so small that 127 / amax overflows) is zero.
static void quantize(const float* x, int rows, int width, const QuantizedRows& out) {
  const int group_size = out.group_size == 0 ? width : out.group_size;
  for (int row = 0; row < rows; row++, x += width) {
    const float peak = row_peak(x, width), inverse = 127.0f / peak;
    const bool usable = peak > 0.0f && inverse <= 3.4028235e38f;
    const float factor = usable ? inverse : 0.0f;
    int8_t* codes = out.codes + row * out.stride;
    int32_t* sums = out.sum + static_cast<size_t>(row) * out.groups;
    for (int start = 0; start < width; start += group_size) {
      const int stop = width - start < group_size ? width : start + group_size;
      i32x8 sum = {};
      for (int k = start; k < stop; k += kLanes) {
        const f32x8 scaled = load_first(x + k, width - k, 0.0f) * factor;
        const i32x8 q = round_to_integer(smaller(larger(scaled, splat(-127.0f)), splat(127.0f)));
        sum += q;
        const i8x8 bytes = narrow(q);
        std::memcpy(codes + k, &bytes, sizeof bytes);  // the stride leaves room for a whole vector
      }
      *sums++ = sum_of(sum);
    }
    const int written = static_cast<int>(round_up(width, kLanes));
    std::memset(codes + written, 0, out.stride - written);
    out.scale[row] = usable ? peak / 127.0f : 0.0f;
  }
}

template <Activation ACTIVATION>
EDGE_VLM_INLINE f32x8 activate(f32x8 y) {
  if (ACTIVATION == Activation::kGeluTanh) return gelu_tanh(y);
  if (ACTIVATION == Activation::kSilu) return silu(y);
  return y;
}

EDGE_VLM_INLINE f32x8 load_floats(const int32_t* p) {
  i32x8 v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, f32x8);
}

// Eight outputs from n on, of which `count` exist: products * (row scale * scale) + bias, activation, + residual.
template <Activation ACTIVATION>
EDGE_VLM_INLINE void finish(const LinearArgs& args, f32x8 products, float row_scale, size_t row, int n, int count) {
  const size_t at = row * args.out_features + n;
  f32x8 y = products * (row_scale * load_first(args.scale + n, count, 0.0f));
  if (args.bias != nullptr) y += load_first(args.bias + n, count, 0.0f);
  y = activate<ACTIVATION>(y);
  if (args.residual != nullptr) y += load_first(args.residual + at, count, 0.0f);
  store_first(args.y + at, y, count);
}

// products += float(acc - zero * sum) * group scale, for eight lanes of a group; without groups the sum itself.
EDGE_VLM_INLINE void add_group(const LinearArgs& args, const int32_t* acc, int32_t sum, size_t group, int half,
                               f32x8& products) {
  if (args.group_scale == nullptr) {
    products = load_floats(acc);
    return;
  }
  i32x8 v;
  std::memcpy(&v, acc, sizeof v);
  const size_t at = group * kBlockRows + half * kLanes;
  if (args.zero != nullptr)
    for (int lane = 0; lane < kLanes; lane++) v[lane] -= args.zero[at + lane] * sum;
  products += __builtin_convertvector(v, f32x8) * load_halves(args.group_scale + at);
}

// Activation rows that go through all weights together: their codes stay in the nearest caches, the weights, packed,
// in the next.
constexpr int kRowGroup = 4 * kRowTile;

template <Activation ACTIVATION>
static void linear_blocks(const LinearArgs& args, const QuantizedRows& x, int first_block, int last_block) {
  const int blocks = blocks_across(args.format, args.in_features);
  int32_t acc[kRowTile][kBlockTile * kBlockRows];
  for (int group = 0; group < args.rows; group += kRowGroup) {
    const int group_end = args.rows - group < kRowGroup ? args.rows : group + kRowGroup;
    for (int block = first_block; block < last_block; block += kBlockTile) {
      const uint8_t* weights = args.weights + static_cast<size_t>(block) * blocks * kBlockBytes;
      const int tiles = last_block - block < kBlockTile ? last_block - block : kBlockTile;
      const int n = block * kBlockRows;
      for (int row = group; row < group_end; row += kRowTile) {
        const int rows = group_end - row < kRowTile ? group_end - row : kRowTile;
        accumulate(args.format, weights, tiles, blocks, x.codes + row * x.stride, x.stride, x.sum + row, rows, acc);
        for (int r = 0; r < rows; r++)
          for (int lane = 0; lane < tiles * kBlockRows; lane += kLanes)
            if (args.out_features - n > lane)
              finish<ACTIVATION>(args, load_floats(acc[r] + lane), x.scale[row + r], row + r, n + lane,
                                 args.out_features - n - lane);
      }
    }
  }
}

// The formats that have no integer product of their own: 16 output rows are spelt out as int8, once for all rows.
template <Activation ACTIVATION>
static void linear_spelt_out(const LinearArgs& args, const QuantizedRows& x, int first_block, int last_block) {
  const size_t strip_bytes = static_cast<size_t>(packed_bytes(args.format, kBlockRows, args.in_features));
  const int quads = static_cast<int>(round_up(args.in_features, kRowPadding) / 4);
  static thread_local std::vector<uint8_t> codes;
  codes.resize(static_cast<size_t>(quads + 8) * kBlockBytes);  // the widest block may stand out by 20 inputs
  int32_t acc[kRowTile][kBlockTile * kBlockRows];
  for (int block = first_block; block < last_block; block++) {
    spell_out(args.format, args.weights + block * strip_bytes, blocks_across(args.format, args.in_features), codes.data());
    const int n = block * kBlockRows;
    for (int row = 0; row < args.rows; row += kRowTile) {
      const int rows = args.rows - row < kRowTile ? args.rows - row : kRowTile;
      f32x8 products[kRowTile][2] = {};
      for (int group = 0; group < x.groups; group++) {
        const int start = group * x.group_size / 4;
        const int stop = group + 1 == x.groups ? quads : start + x.group_size / 4;
        int32_t sums[kRowTile];
        for (int r = 0; r < rows; r++) sums[r] = x.sum[static_cast<size_t>(row + r) * x.groups + group];
        accumulate(WeightFormat::kInt8, codes.data() + static_cast<size_t>(start) * kBlockBytes, 1, stop - start,
                   x.codes + row * x.stride + start * 4, x.stride, sums, rows, acc);
        for (int r = 0; r < rows; r++)
          for (int half = 0; half < 2; half++)
            add_group(args, acc[r] + half * kLanes, sums[r], static_cast<size_t>(block) * x.groups + group, half,
                      products[r][half]);
      }
      for (int r = 0; r < rows; r++)
        for (int half = 0; half < 2; half++)
          if (args.out_features - n > half * kLanes)
            finish<ACTIVATION>(args, products[r][half], x.scale[row + r], row + r, n + half * kLanes,
                               args.out_features - n - half * kLanes);
    }
  }
}

template <Activation ACTIVATION>
static void linear_activated(const LinearArgs& args, const QuantizedRows& x, int first_block, int last_block) {
  if (args.format == WeightFormat::kTernary || args.format == WeightFormat::kBinary || args.format == WeightFormat::kInt8)
    return linear_blocks<ACTIVATION>(args, x, first_block, last_block);
  linear_spelt_out<ACTIVATION>(args, x, first_block, last_block);
}

static void linear(const LinearArgs& args, const QuantizedRows& x, int first_block, int last_block) {
  switch (args.activation) {
    case Activation::kGeluTanh: return linear_activated<Activation::kGeluTanh>(args, x, first_block, last_block);
    case Activation::kSilu: return linear_activated<Activation::kSilu>(args, x, first_block, last_block);
    default: return linear_activated<Activation::kNone>(args, x, first_block, last_block);
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
