// SPDX-License-Identifier: Apache-2.0
// Softmax attention of a tile of queries against a cache. Included by each instruction set.
//
// A tile is up to kQueryTile (row, head) pairs of one kv head: scores against eight keys at a time (keys lie side by
// side), softmax over the row, then the weighted sum of values eight channels at a time. Every query's arithmetic is the
// same whatever shares its tile, so computing some rows gives the very bits of computing all.
#pragma once
#include "kernels.h"
#include "vector8.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

// scores[query][key] for `blocks` (even) blocks of eight keys.
template <int QUERIES>
static void score_keys(const float* const* queries, const float* keys, int blocks, int dim, float* scores,
                       size_t stride) {
  for (int block = 0; block < blocks; block += 2) {
    const float* first = keys + static_cast<size_t>(block) * dim * kKeyLanes;
    const float* second = first + static_cast<size_t>(dim) * kKeyLanes;
    f32x8 a[QUERIES], b[QUERIES];
    for (int q = 0; q < QUERIES; q++) a[q] = b[q] = splat(0.0f);
    for (int d = 0; d < dim; d++) {
      const f32x8 k0 = load(first + static_cast<size_t>(d) * kKeyLanes);
      const f32x8 k1 = load(second + static_cast<size_t>(d) * kKeyLanes);
#pragma GCC unroll 4
      for (int q = 0; q < QUERIES; q++) {
        const f32x8 x = splat(queries[q][d]);
        a[q] = multiply_add(x, k0, a[q]);
        b[q] = multiply_add(x, k1, b[q]);
      }
    }
    for (int q = 0; q < QUERIES; q++) {
      store(scores + q * stride + block * kKeyLanes, a[q]);
      store(scores + q * stride + (block + 1) * kKeyLanes, b[q]);
    }
  }
}

// Hide what this query may not see: keys from `limit` on, and positions never written.
static void mask_scores(float* scores, int limit, int padded, const uint8_t* written, bool holes) {
  const float hidden = -__builtin_inff();
  for (int key = limit; key < padded; key++) scores[key] = hidden;
  if (!holes) return;
  for (int key = 0; key < limit; key++)
    if (!written[key]) scores[key] = hidden;
}

// scores -> exp(score - max); returns the sum.
static float exponentiate(float* scores, int padded) {
  f32x8 peaks = load(scores);
  for (int key = kLanes; key < padded; key += kLanes) peaks = larger(load(scores + key), peaks);
  const float peak = max_lanes(peaks);
  f32x8 sum = splat(0.0f);
  for (int key = 0; key < padded; key += kLanes) {
    const f32x8 e = exponential(load(scores + key) - peak);
    store(scores + key, e);
    sum += e;
  }
  return sum_lanes(sum);
}

// y[query][0..8 VECTORS) = sum over keys of weight * value, times 1 / sum of weights; `count` channels are stored.
template <int QUERIES, int VECTORS>
static void mix_values(const float* weights, size_t stride, const float* values, int dim, int keys, const float* inverse,
                       float* const* y, int count) {
  f32x8 acc[QUERIES][VECTORS];
  for (int q = 0; q < QUERIES; q++)
    for (int v = 0; v < VECTORS; v++) acc[q][v] = splat(0.0f);
  for (int key = 0; key < keys; key++, values += dim) {
    f32x8 value[VECTORS];
    for (int v = 0; v < VECTORS; v++) value[v] = load(values + v * kLanes);
#pragma GCC unroll 4
    for (int q = 0; q < QUERIES; q++) {
      const f32x8 weight = splat(weights[q * stride + key]);
      for (int v = 0; v < VECTORS; v++) acc[q][v] = multiply_add(weight, value[v], acc[q][v]);
    }
  }
  for (int q = 0; q < QUERIES; q++)
    for (int v = 0; v < VECTORS; v++)
      if (count > v * kLanes) store_first(y[q] + v * kLanes, acc[q][v] * inverse[q], count - v * kLanes);
}

template <int QUERIES>
static void attend_queries(const AttendArgs& args, int kv_head, int first_pair) {
  const AttentionCache& cache = *args.cache;
  const AttentionShape& shape = cache.shape;
  const int group = shape.query_heads / shape.kv_heads, dim = shape.head_dim;
  const float* queries[QUERIES];
  float* y[QUERIES];
  int limit[QUERIES], keys = 0;
  for (int q = 0; q < QUERIES; q++) {
    const int row = (first_pair + q) / group, head = kv_head * group + (first_pair + q) % group;
    const size_t at = (static_cast<size_t>(row) * shape.query_heads + head) * dim;
    queries[q] = args.queries + at;
    y[q] = args.y + at;
    limit[q] = shape.causal ? args.positions[row] + 1 : cache.end;
    keys = limit[q] > keys ? limit[q] : keys;
  }
  const size_t stride = cache.padded_capacity;
  const int padded = static_cast<int>(round_up(keys, kKeyPadding));
  score_keys<QUERIES>(queries, cache.key_block(kv_head, 0), padded / kKeyLanes, dim, args.scores, stride);
  float inverse[QUERIES];
  for (int q = 0; q < QUERIES; q++) {
    float* scores = args.scores + q * stride;
    mask_scores(scores, limit[q], padded, cache.written.get(), cache.written_count < cache.end);
    inverse[q] = 1.0f / exponentiate(scores, padded);
  }
  const float* values = cache.head_values(kv_head);
  int d = 0;
  for (; d + kLanes < cache.padded_dim; d += 2 * kLanes) {
    mix_values<QUERIES, 2>(args.scores, stride, values + d, cache.padded_dim, keys, inverse, y, dim - d);
    for (int q = 0; q < QUERIES; q++) y[q] += 2 * kLanes;
  }
  if (d < cache.padded_dim)
    mix_values<QUERIES, 1>(args.scores, stride, values + d, cache.padded_dim, keys, inverse, y, dim - d);
}

static void attend(const AttendArgs& args, int first_tile, int last_tile) {
  const AttentionShape& shape = args.cache->shape;
  const int pairs = args.rows * (shape.query_heads / shape.kv_heads);
  const int tiles = (pairs + kQueryTile - 1) / kQueryTile;  // per kv head
  for (int tile = first_tile; tile < last_tile; tile++) {
    const int kv_head = tile / tiles, first_pair = tile % tiles * kQueryTile;
    switch (pairs - first_pair) {
      case 1: attend_queries<1>(args, kv_head, first_pair); break;
      case 2: attend_queries<2>(args, kv_head, first_pair); break;
      case 3: attend_queries<3>(args, kv_head, first_pair); break;
      default: attend_queries<4>(args, kv_head, first_pair);
    }
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
