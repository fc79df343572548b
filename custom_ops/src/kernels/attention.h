// SPDX-License-Identifier: Apache-2.0
// Softmax attention of a tile of queries against a cache. Included by each instruction set.
//
// A tile is up to kQueryTile (row, head) pairs of one kv head. Float caches (here; int8 ones: attention_int8.h): scores against a vector of keys at a time (keys lie side
// by side), softmax over the row, then the weighted sum of values a vector of channels at a time. Every query's
// arithmetic is the same whatever shares its tile, so computing some rows gives the very bits of computing all.
#pragma once
#include "attention_int8.h"
#include "attention_pairs.h"
#include "vector_wide.h"
#include "kernels.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

// scores[query][key] for `keys` keys, a multiple of two vectors.
template <int QUERIES, typename Element>
static void score_keys(const float* queries, const Element* key_blocks, int keys, int dim, float* scores,
                       size_t stride) {
  for (int key = 0; key < keys; key += 2 * kWide) {
    const Element* first = key_blocks + static_cast<size_t>(key) * dim;
    const Element* second = kWide < kKeyLanes ? first + kWide : first + static_cast<size_t>(dim) * kKeyLanes;
    f32w a[QUERIES], b[QUERIES];
#pragma GCC unroll 8
    for (int q = 0; q < QUERIES; q++) a[q] = b[q] = f32w{};
    for (int d = 0; d < dim; d++) {
      const f32w k0 = wide_load(first + static_cast<size_t>(d) * kKeyLanes);
      const f32w k1 = wide_load(second + static_cast<size_t>(d) * kKeyLanes);
#pragma GCC unroll 8
      for (int q = 0; q < QUERIES; q++) {
        const f32w x = wide_splat(queries[q * dim + d]);
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
template <int QUERIES, int VECTORS, typename Element>
static void mix_values(const float* weights, size_t stride, const Element* values, int dim, int keys, const float* inverse,
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

// `queries` of the pairs first_pair, first_pair + 1, ... of a kv head; `scores` scratch.
template <int QUERIES, typename Element>
static void attend_queries(const AttendArgs& args, int kv_head, int first_pair) {
  const AttentionCache& cache = *args.cache;
  const AttentionShape& shape = cache.shape;
  const int dim = shape.head_dim, pairs = args.rows * (shape.query_heads / shape.kv_heads);
  float* y[QUERIES];
  int limit[QUERIES], keys = 0;
  for (int q = 0; q < QUERIES; q++) {
    const QueryPlace place = place_of(args, kv_head, first_pair + q);
    y[q] = args.y + place.output;
    limit[q] = place.limit;
    keys = limit[q] > keys ? limit[q] : keys;
  }
  const size_t stride = score_stride(cache);
  const int padded = static_cast<int>(round_up(keys, 2 * kKeyLanes));
  float* all_scores = reinterpret_cast<float*>(args.scratch);
  const float* queries = args.queries.values + (static_cast<size_t>(kv_head) * pairs + first_pair) * dim;
  score_keys<QUERIES>(queries, cache.key_block<const Element>(kv_head, 0), padded, dim, all_scores, stride);
  float inverse[QUERIES];
  for (int q = 0; q < QUERIES; q++) {
    float* scores = all_scores + q * stride;
    mask_scores(scores, limit[q], padded, cache);
    inverse[q] = 1.0f / exponentiate(scores, padded);
  }
  const Element* values = cache.head_values<const Element>(kv_head);
  int d = 0;
  for (; d + kWide < cache.padded_dim; d += 2 * kWide) {
    mix_values<QUERIES, 2>(all_scores, stride, values + d, cache.padded_dim, keys, inverse, y, dim - d);
    for (int q = 0; q < QUERIES; q++) y[q] += 2 * kWide;
  }
  if (d < cache.padded_dim)
    mix_values<QUERIES, 1>(all_scores, stride, values + d, cache.padded_dim, keys, inverse, y, dim - d);
}

template <typename Element>
static void attend_pairs(const AttendArgs& args, int kv_head, int first_pair, int count) {
  int done = 0;
  for (; count - done >= kQueriesAtOnce; done += kQueriesAtOnce)
    attend_queries<kQueriesAtOnce, Element>(args, kv_head, first_pair + done);
  for (; count - done >= 4; done += 4) attend_queries<4, Element>(args, kv_head, first_pair + done);
  for (; count - done >= 2; done += 2) attend_queries<2, Element>(args, kv_head, first_pair + done);
  if (count > done) attend_queries<1, Element>(args, kv_head, first_pair + done);
}

static void attend(const AttendArgs& args, int first_tile, int last_tile) {
  const AttentionShape& shape = args.cache->shape;
  const int pairs = args.rows * (shape.query_heads / shape.kv_heads);
  const int tiles = (pairs + kQueryTile - 1) / kQueryTile;  // per kv head
  for (int tile = first_tile; tile < last_tile; tile++) {
    const int kv_head = tile / tiles, first_pair = tile % tiles * kQueryTile;
    const int count = pairs - first_pair < kQueryTile ? pairs - first_pair : kQueryTile;
    switch (shape.format) {
      case CacheFormat::kInt8: attend_codes(args, kv_head, first_pair, count); break;
      case CacheFormat::kFloat16: attend_pairs<Half>(args, kv_head, first_pair, count); break;
      default: attend_pairs<float>(args, kv_head, first_pair, count);
    }
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
