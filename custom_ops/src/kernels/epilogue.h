// SPDX-License-Identifier: Apache-2.0
// What follows the integer products of a linear kernel. Included by each instruction set.
#pragma once
#include "activations.h"
#include "kernels.h"
#include "vector8.h"
#include "vector_wide.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

template <Activation ACTIVATION>
EDGE_VLM_INLINE f32w activate(f32w y) {
  if (ACTIVATION == Activation::kGeluTanh) return gelu_tanh(y);
  if (ACTIVATION == Activation::kSilu) return silu(y);
  return y;
}

// What kWide outputs from n on, of which `count` exist, have in common in all rows.
struct OutputTerms {
  f32w scale, bias;
};

EDGE_VLM_INLINE OutputTerms output_terms(const LinearArgs& args, int n, int count) {
  const f32w none = {};
  return {wide_load_first(args.scale + n, count, 0.0f),
          args.bias == nullptr ? none : wide_load_first(args.bias + n, count, 0.0f)};
}

// Those outputs of a row: products * (row scale * scale) + bias, activation, + residual.
template <Activation ACTIVATION>
EDGE_VLM_INLINE void finish_lanes(const LinearArgs& args, const OutputTerms& terms, f32w products, float row_scale, size_t row,
                                  int n, int count) {
  const size_t at = row * args.out_features + n;
  f32w y = products * (row_scale * terms.scale);
  if (args.bias != nullptr) y += terms.bias;
  y = activate<ACTIVATION>(y);
  if (args.residual != nullptr) y += wide_load_first(args.residual + at, count, 0.0f);
  wide_store_first(args.y + at, y, count);
}

EDGE_VLM_INLINE Integers load_integers(const int32_t* p) {
  Integers v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

EDGE_VLM_INLINE f32w as_floats(const float* products, int32_t /*excess*/) { return wide_load(products); }
EDGE_VLM_INLINE f32w as_floats(const int32_t* products, int32_t excess) {
  return __builtin_convertvector(load_integers(products) - excess, f32w);
}

template <Activation ACTIVATION, typename Product>
static void finish_activated(const LinearArgs& args, const Product* products, int32_t excess, float row_scale, size_t row, int n,
                             int width) {
  const int count = args.out_features - n < width ? args.out_features - n : width;
  for (int lane = 0; lane < count; lane += kWide) {
    const OutputTerms terms = output_terms(args, n + lane, count - lane);
    finish_lanes<ACTIVATION>(args, terms, as_floats(products + lane, excess), row_scale, row, n + lane, count - lane);
  }
}

// `width` outputs of a row from n on (those that exist): exact integers of which each is too large by `excess`, or floats
// where groups have been scaled.
template <typename Product>
static void finish(const LinearArgs& args, const Product* products, int32_t excess, float row_scale, size_t row, int n, int width) {
  switch (args.activation) {
    case Activation::kGeluTanh:
      return finish_activated<Activation::kGeluTanh>(args, products, excess, row_scale, row, n, width);
    case Activation::kSilu: return finish_activated<Activation::kSilu>(args, products, excess, row_scale, row, n, width);
    default: return finish_activated<Activation::kNone>(args, products, excess, row_scale, row, n, width);
  }
}

constexpr int kTileLanes = kBlockTile * kBlockRows, kTileVectors = kTileLanes / kWide;

template <Activation ACTIVATION, typename Product>
static void finish_tile_activated(const LinearArgs& args, const QuantizedRows& x, const Product (*products)[kTileLanes], int offset,
                                  int row, int rows, int n) {
  OutputTerms terms[kTileVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kTileVectors; v++) terms[v] = output_terms(args, n + v * kWide, kWide);
  for (int r = 0; r < rows; r++) {
    const int32_t excess = offset == 0 ? 0 : offset * x.sum[row + r];
#pragma GCC unroll 8
    for (int v = 0; v < kTileVectors; v++)
      finish_lanes<ACTIVATION>(args, terms[v], as_floats(products[r] + v * kWide, excess), x.scale[row + r], row + r,
                               n + v * kWide, kWide);
  }
}

// As finish(), of a whole tile for rows row .. row + rows - 1: what they have in common is loaded once. Integers are too
// large by `offset` times the sum of a row's codes.
template <typename Product>
static void finish_tile(const LinearArgs& args, const QuantizedRows& x, const Product (*products)[kTileLanes], int offset, int row,
                        int rows, int n) {
  switch (args.activation) {
    case Activation::kGeluTanh: return finish_tile_activated<Activation::kGeluTanh>(args, x, products, offset, row, rows, n);
    case Activation::kSilu: return finish_tile_activated<Activation::kSilu>(args, x, products, offset, row, rows, n);
    default: return finish_tile_activated<Activation::kNone>(args, x, products, offset, row, rows, n);
  }
}

// A group's scales and zero points of kWide outputs, those from `at` on in the order of packed groups.
EDGE_VLM_INLINE f32w group_scales(const LinearArgs& args, size_t at) {
  return wide_load(reinterpret_cast<const Half*>(args.group_scale + at));
}

EDGE_VLM_INLINE Integers group_zeros(const LinearArgs& args, size_t at) {
  i8w zeros;
  std::memcpy(&zeros, args.zero + at, sizeof zeros);
  return __builtin_convertvector(zeros, Integers);
}

// float(acc - (offset + zero) * sum) * group scale: a group's share of these. acc: sums of (weight + offset) * activation.
EDGE_VLM_INLINE f32w scaled_group(const LinearArgs& args, Integers acc, int offset, int32_t sum, size_t at) {
  if (args.zero != nullptr)
    acc -= (group_zeros(args, at) + offset) * sum;
  else
    acc -= offset * sum;
  return __builtin_convertvector(acc, f32w) * group_scales(args, at);
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
