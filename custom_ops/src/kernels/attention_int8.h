// SPDX-License-Identifier: Apache-2.0
// Attention against an int8 cache: both products are exact integers of the linear kernel's accumulate(), once with keys
// and once with channels in the place of outputs. In between, the softmax in float. Included by each instruction set.
#pragma once
#include "attention_pairs.h"
#include "attention_weights.h"
#include "kernels.h"
#include "vector_wide.h"
#ifdef EDGE_VLM_TILES
#include "tiles_amx.h"
#endif

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr float kLog2E = 1.44269504088896341f;
constexpr int kTileWidth = kBlockTile * kBlockRows;
typedef int32_t Products[kTileWidth];
#ifdef EDGE_VLM_TILES
constexpr int kAttendRows = kTileRows;  // queries, or planes of their weights, that are multiplied together
#else
constexpr int kAttendRows = kRowTile;
#endif
#ifdef EDGE_VLM_SUMS_IN_REGISTERS
constexpr bool kTakesPlaneSums = false;
#else
constexpr bool kTakesPlaneSums = true;
#endif
static_assert(kRowTile % 2 == 0 && kAttendRows % 2 == 0, "the two planes of a query are accumulated together");
static_assert(kQueryTile % 2 == 0 && kValueKeys % kTileWidth == 0 && kKeyPadding % kValueKeys == 0, "whole tiles");

// acc[query][key] of `rows` queries, from `query` on, and kTileWidth keys.
static void key_products(const AttentionCache& cache, int kv_head, int key, const QuantizedRows& queries, int query, int rows,
                         Products* acc) {
  const int blocks = cache.padded_key_dim() / 4;
  const uint8_t* keys = cache.key_block<const uint8_t>(kv_head, key / kKeyLanes);
  const int8_t* codes = queries.codes + query * queries.stride;
#ifdef EDGE_VLM_TILES
  const int dim = cache.shape.head_dim;
  if (dim % kTileInputs == 0)
    return multiply_tiles(codes, queries.stride, rows, keys, keys + dim * kKeyLanes, kTileBytes, dim, acc);
#endif
  for (int row = 0; row < rows; row += kRowTile) {
    const int some = rows - row < kRowTile ? rows - row : kRowTile;
    accumulate(WeightFormat::kInt8, keys, kBlockTile, blocks, codes + row * queries.stride, queries.stride,
               queries.sum + query + row, some, acc + row);
  }
}

// scores[query][key], times log2 e, of `count` queries against `keys` keys (a multiple of kKeyPadding).
static void score_codes(const AttentionCache& cache, int kv_head, const QuantizedRows& queries, int count, int keys,
                        float* scores) {
  const size_t stride = score_stride(cache);
  const float* key_scales = cache.key_scales.get() + cache.scale_index(kv_head, 0);
  alignas(64) Products acc[kAttendRows];
  for (int key = 0; key < keys; key += kTileWidth)
    for (int query = 0; query < count; query += kAttendRows) {
      const int rows = count - query < kAttendRows ? count - query : kAttendRows;
      key_products(cache, kv_head, key, queries, query, rows, acc);
      for (int row = 0; row < rows; row++)
        for (int lane = 0; lane < kTileWidth; lane += kWide) {
          Integers sums;
          std::memcpy(&sums, acc[row] + lane, sizeof sums);
          const f32w scale = wide_load(key_scales + key + lane) * (queries.scale[query + row] * kLog2E);
          wide_store(scores + (query + row) * stride + key + lane, __builtin_convertvector(sums, f32w) * scale);
        }
    }
}

// total[row][channel of the tile] = sum over `keys` of codes * values; rows are the planes of queries. sums of their codes
// count where kTakesPlaneSums.
static void value_products(const uint8_t* values, size_t block_stride, int tiles, const int8_t* codes, size_t stride,
                           const int32_t* sums, int rows, int keys, Products* total) {
#ifdef EDGE_VLM_TILES
  if (tiles == kBlockTile)
    return multiply_tiles(codes, stride, rows, values, values + kTileBytes, block_stride, keys, total);
#endif
#ifdef EDGE_VLM_SUMS_IN_REGISTERS
  const WeightPieces blocks{values, keys / kValueKeys, kValueKeys / 4, block_stride};
  accumulate_pieces<Unsigned::kCodes>(blocks, tiles, codes, stride, nullptr, rows, total);
#else
  static const int32_t kNoSums[kRowTile] = {};  // those of all keys go in once: accumulate() subtracts a multiple
  std::memset(total, 0, sizeof(Products) * rows);
  for (int row = 0; row < rows; row += kRowTile) {
    const int some = rows - row < kRowTile ? rows - row : kRowTile;
    const uint8_t* block = values;
    for (int key = 0; key < keys; key += kValueKeys, block += block_stride) {
      Products acc[kRowTile];
      accumulate(WeightFormat::kInt8, block, tiles, kValueKeys / 4, codes + row * stride + key, stride,
                 key == 0 ? sums + row : kNoSums, some, acc);
      for (int r = 0; r < some; r++)
        for (int lane = 0; lane < kTileWidth; lane++) total[row + r][lane] += acc[r][lane];
    }
  }
#endif
}

// What remains per query when its weights are codes.
struct WeighedQuery {
  float* y;
  float scale;  // of 128 * high + low
};

static void mix_queries(const AttentionCache& cache, int kv_head, const int8_t* codes, const int32_t* sums,
                        const WeighedQuery* queries, int count, int keys) {
  const int dim = cache.shape.head_dim, groups = cache.padded_dim / kBlockRows;
  const size_t stride = weight_stride(cache), block_bytes = kValueKeys * kBlockRows;
  alignas(64) Products total[kAttendRows];
  for (int group = 0; group < groups; group += kBlockTile) {
    const uint8_t* values = cache.head_values<const uint8_t>(kv_head) + group * block_bytes;
    const int tiles = groups - group < kBlockTile ? groups - group : kBlockTile, channel = group * kBlockRows;
    const int channels = dim - channel < tiles * kBlockRows ? dim - channel : tiles * kBlockRows;
    for (int row = 0; row < 2 * count; row += kAttendRows) {
      const int rows = 2 * count - row < kAttendRows ? 2 * count - row : kAttendRows;
      value_products(values, groups * block_bytes, tiles, codes + row * stride, stride, sums + row, rows, keys, total);
      for (int plane = 0; plane < rows; plane += 2) {
        const WeighedQuery& query = queries[(row + plane) / 2];
        for (int c = 0; c < channels; c++) {
          const float high = static_cast<float>(total[plane][c]), low = static_cast<float>(total[plane + 1][c]);
          query.y[channel + c] = (high * (1 << kPlaneBits) + low) * query.scale;
        }
      }
    }
  }
}

// The pairs first_pair .. first_pair + count - 1 of a kv head.
static void attend_codes(const AttendArgs& args, int kv_head, int first_pair, int count) {
#ifdef EDGE_VLM_TILES
  const TileScope scope;
#endif
  const AttentionCache& cache = *args.cache;
  const size_t stride = score_stride(cache), plane = weight_stride(cache);
  const int pairs = args.rows * (cache.shape.query_heads / cache.shape.kv_heads);
  const size_t first = static_cast<size_t>(kv_head) * pairs + first_pair;
  const QuantizedRows& all = args.queries.codes;
  const QuantizedRows queries{all.codes + first * all.stride, all.scale + first, all.sum + first, all.stride, 0, 1};
  const int last_limit = place_of(args, kv_head, first_pair + count - 1).limit;  // positions ascend where it matters
  const int keys = static_cast<int>(round_up(last_limit, kKeyPadding));
  float* scores = reinterpret_cast<float*>(args.scratch);
  int8_t* codes = reinterpret_cast<int8_t*>(scores + kQueryTile * stride);
  score_codes(cache, kv_head, queries, count, keys, scores);
  WeighedQuery weighed[kQueryTile];
  int32_t sums[2 * kQueryTile];
  for (int q = 0; q < count; q++) {
    const QueryPlace place = place_of(args, kv_head, first_pair + q);
    mask_scores(scores + q * stride, place.limit, keys, cache);
    const float peak = cache.value_peaks[cache.scale_index(kv_head, place.limit - 1)], inverse = kLargestWeight / peak;
    const bool usable = peak > 0.0f && inverse <= 3.4028235e38f;
    int8_t* high = codes + 2 * q * plane;
    const float total = weigh(scores + q * stride, keys, cache.value_scales.get() + cache.scale_index(kv_head, 0),
                              usable ? inverse : 0.0f, high, high + plane, kTakesPlaneSums ? sums + 2 * q : nullptr);
    weighed[q] = {args.y + place.output, usable ? peak / kLargestWeight / total : 0.0f};
  }
  mix_queries(cache, kv_head, codes, sums, weighed, count, keys);
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
