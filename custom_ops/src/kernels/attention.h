// SPDX-License-Identifier: Apache-2.0
// Softmax attention of a tile of queries against a cache. Included by each instruction set.
//
// A tile is up to kQueryTile (row, head) pairs of one kv head: scores against a vector of keys at a time (keys lie side
// by side), softmax over the row, then the weighted sum of values a vector of channels at a time. Every query's
// arithmetic is the same whatever shares its tile, so computing some rows gives the very bits of computing all.
#pragma once
#include "kernels.h"
#include "attention_vector.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

// scores[query][key] for `keys` keys, a multiple of two vectors.
template <int QUERIES>
static void score_keys(const float* const* queries, const float* key_blocks, int keys, int dim, float* scores,
                       size_t stride) {
  for (int key = 0; key < keys; key += 2 * kWide) {
    const float* first = key_blocks + static_cast<size_t>(key) * dim;
    const float* second = kWide < kKeyLanes ? first + kWide : first + static_cast<size_t>(dim) * kKeyLanes;
    f32w a[QUERIES], b[QUERIES];
#pragma GCC unroll 8
    for (int q = 0; q < QUERIES; q++) a[q] = b[q] = f32w{};
    for (int d = 0; d < dim; d++) {
      const f32w k0 = wide_load(first + static_cast<size_t>(d) * kKeyLanes);
      const f32w k1 = wide_load(second + static_cast<size_t>(d) * kKeyLanes);
#pragma GCC unroll 8
      for (int q = 0; q < QUERIES; q++) {
        const f32w x = wide_splat(queries[q][d]);
        a[q] = wide_multiply_add(x, k0, a[q]);
        b[q] = wide_multiply_add(x, k1, b[q]);
      }
    }
#pragma GCC unroll 8
    for (int q = 0; q < QUERIES; q++) {
      wide_store(scores + q * stride + key, a[q]);
      wide_store(scores + q * stride + key + kWide, b[q]);
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
  f32w peaks = wide_load(scores);
  for (int key = kWide; key < padded; key += kWide) {
    const f32w next = wide_load(scores + key);
    peaks = next > peaks ? next : peaks;
  }
  const float peak = wide_max(peaks);
  f32w sum = {};
  for (int key = 0; key < padded; key += kWide) {
    const f32w e = exponential(wide_load(scores + key) - peak);
    wide_store(scores + key, e);
    sum += e;
  }
  return wide_sum(sum);
}

// y[query][0 .. VECTORS * kWide) = sum over keys of weight * value, times 1 / sum of weights; `count` channels are kept.
template <int QUERIES, int VECTORS>
static void mix_values(const float* weights, size_t stride, const float* values, int dim, int keys, const float* inverse,
                       float* const* y, int count) {
  f32w acc[QUERIES][VECTORS];
#pragma GCC unroll 8
  for (int q = 0; q < QUERIES; q++)
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; v++) acc[q][v] = f32w{};
  for (int key = 0; key < keys; key++, values += dim) {
    f32w value[VECTORS];
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; v++) value[v] = wide_load(values + v * kWide);
#pragma GCC unroll 8
    for (int q = 0; q < QUERIES; q++) {
      const f32w weight = wide_splat(weights[q * stride + key]);
#pragma GCC unroll 2
      for (int v = 0; v < VECTORS; v++) acc[q][v] = wide_multiply_add(weight, value[v], acc[q][v]);
    }
  }
  float mixed[VECTORS * kWide];
#pragma GCC unroll 8
  for (int q = 0; q < QUERIES; q++) {
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; v++) wide_store(mixed + v * kWide, acc[q][v] * inverse[q]);
    std::memcpy(y[q], mixed, sizeof(float) * (count < VECTORS * kWide ? count : VECTORS * kWide));
  }
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
  score_keys<QUERIES>(queries, cache.key_block(kv_head, 0), padded, dim, args.scores, stride);
  float inverse[QUERIES];
  for (int q = 0; q < QUERIES; q++) {
    float* scores = args.scores + q * stride;
    mask_scores(scores, limit[q], padded, cache.written.get(), cache.written_count < cache.end);
    inverse[q] = 1.0f / exponentiate(scores, padded);
  }
  const float* values = cache.head_values(kv_head);
  int d = 0;
  for (; d + kWide < cache.padded_dim; d += 2 * kWide) {
    mix_values<QUERIES, 2>(args.scores, stride, values + d, cache.padded_dim, keys, inverse, y, dim - d);
    for (int q = 0; q < QUERIES; q++) y[q] += 2 * kWide;
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
    const int count = pairs - first_pair < kQueryTile ? pairs - first_pair : kQueryTile;
    int done = 0;
    for (; count - done >= kQueriesAtOnce; done += kQueriesAtOnce)
      attend_queries<kQueriesAtOnce>(args, kv_head, first_pair + done);
    for (; count - done >= 4; done += 4) attend_queries<4>(args, kv_head, first_pair + done);
    for (; count - done >= 2; done += 2) attend_queries<2>(args, kv_head, first_pair + done);
    if (count > done) attend_queries<1>(args, kv_head, first_pair + done);
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
