// SPDX-License-Identifier: Apache-2.0
// Activation quantisation and the linear kernel: integer tiles from accumulate(), then the float epilogue.
// Included by each instruction set after its accumulate_*.h.
#pragma once
#include "kernels.h"
#include "vector8.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

static float row_peak(const float* x, int width) {
  f32x8 peak = splat(0.0f);
  for (int k = 0; k < width; k += kLanes) peak = larger(magnitude(load_first(x + k, width - k, 0.0f)), peak);
  return max_lanes(peak);
}

// q = clip(round_half_even(x * (127 / amax)), -127, 127), scale = amax / 127. A row without a usable amax (all zero, or
// so small that 127 / amax overflows) is zero.
static void quantize(const float* x, int rows, int width, const QuantizedRows& out) {
  for (int row = 0; row < rows; row++, x += width) {
    const float peak = row_peak(x, width), inverse = 127.0f / peak;
    const bool usable = peak > 0.0f && inverse <= 3.4028235e38f;
    const float factor = usable ? inverse : 0.0f;
    int8_t* codes = out.codes + row * out.stride;
    i32x8 sum = {};
    for (int k = 0; k < width; k += kLanes) {
      const f32x8 scaled = load_first(x + k, width - k, 0.0f) * factor;
      const i32x8 q = round_to_integer(smaller(larger(scaled, splat(-127.0f)), splat(127.0f)));
      sum += q;
      const i8x8 bytes = narrow(q);
      std::memcpy(codes + k, &bytes, sizeof bytes);  // the stride leaves room for a whole vector
    }
    const int written = static_cast<int>(round_up(width, kLanes));
    std::memset(codes + written, 0, out.stride - written);
    out.scale[row] = usable ? peak / 127.0f : 0.0f;
    out.sum[row] = 0;
    for (int lane = 0; lane < kLanes; lane++) out.sum[row] += sum[lane];
  }
}

template <Activation ACTIVATION>
EDGE_VLM_INLINE f32x8 activate(f32x8 y) {
  if (ACTIVATION == Activation::kGeluTanh) return gelu_tanh(y);
  if (ACTIVATION == Activation::kSilu) return silu(y);
  return y;
}

// Eight outputs from n on, of which `count` exist: float(acc) * (row scale * scale) + bias, activation, + residual.
template <Activation ACTIVATION>
EDGE_VLM_INLINE void finish(const LinearArgs& args, const int32_t* acc, float row_scale, size_t row, int n, int count) {
  i32x8 sums;
  std::memcpy(&sums, acc, sizeof sums);
  const size_t at = row * args.out_features + n;
  f32x8 y = __builtin_convertvector(sums, f32x8) * (row_scale * load_first(args.scale + n, count, 0.0f));
  if (args.bias != nullptr) y += load_first(args.bias + n, count, 0.0f);
  y = activate<ACTIVATION>(y);
  if (args.residual != nullptr) y += load_first(args.residual + at, count, 0.0f);
  store_first(args.y + at, y, count);
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
              finish<ACTIVATION>(args, acc[r] + lane, x.scale[row + r], row + r, n + lane, args.out_features - n - lane);
      }
    }
  }
}

static void linear(const LinearArgs& args, const QuantizedRows& x, int first_block, int last_block) {
  switch (args.activation) {
    case Activation::kGeluTanh: return linear_blocks<Activation::kGeluTanh>(args, x, first_block, last_block);
    case Activation::kSilu: return linear_blocks<Activation::kSilu>(args, x, first_block, last_block);
    default: return linear_blocks<Activation::kNone>(args, x, first_block, last_block);
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
