// SPDX-License-Identifier: Apache-2.0
// Rows of q, k, v made ready for attention: rotated, scaled, and written in the cache's format and layout. Included by
// each instruction set after linear.h.
#pragma once
#include "kernels.h"
#include "linear.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr int kMaxHeadDim = 1024;  // the delegate checks it

// Halves rotated, as in Llama: (low, high) -> (low cos - high sin, high cos + low sin).
static void rotate(const AttentionCache& cache, const float* x, int position, float* y) {
  const int dim = cache.shape.head_dim, half = dim / 2;
  if (cache.rotary == nullptr) {
    std::memcpy(y, x, sizeof(float) * dim);
    return;
  }
  const float* c = cache.rotary->cosine.get() + static_cast<size_t>(position) * half;
  const float* s = cache.rotary->sine.get() + static_cast<size_t>(position) * half;
  for (int i = 0; i < half; i++) {
    const float low = x[i], high = x[half + i];
    y[i] = low * c[i] - high * s[i];
    y[half + i] = high * c[i] + low * s[i];
  }
}

static void write_element(float* at, float x) { *at = x; }
static void write_element(Half* at, float x) { *at = to_half(x); }

template <typename Element>
static void write_key(const AttentionCache& cache, int head, int position, const float* x) {
  Element* key = cache.key_block<Element>(head, position / kKeyLanes) + position % kKeyLanes;
  for (int d = 0; d < cache.shape.head_dim; d++) write_element(key + static_cast<size_t>(d) * kKeyLanes, x[d]);
}

template <typename Element>
static void write_value(const AttentionCache& cache, int head, int position, const float* x) {
  Element* value = cache.head_values<Element>(head) + static_cast<size_t>(position) * cache.padded_dim;
  for (int d = 0; d < cache.shape.head_dim; d++) write_element(value + d, x[d]);
}

static void write_key_codes(const AttentionCache& cache, int head, int position, const int8_t* codes) {
  int8_t* key = cache.key_block<int8_t>(head, position / kKeyLanes) + position % kKeyLanes * 4;
  for (int d = 0; d < cache.padded_key_dim(); d += 4) std::memcpy(key + d * kKeyLanes, codes + d, 4);
}

// Codes are 0 behind head_dim, as the cache is.
static void write_value_codes(const AttentionCache& cache, int head, int position, const int8_t* codes) {
  constexpr int kBlock = kValueKeys * kBlockRows;
  const size_t groups = cache.padded_dim / kBlockRows, within = position % kValueKeys;
  int8_t* value = cache.head_values<int8_t>(head) + position / kValueKeys * groups * kBlock + within / 4 * kBlockBytes + within % 4;
  for (size_t group = 0; group < groups; group++, value += kBlock, codes += kBlockRows)
#pragma GCC unroll 16
    for (int lane = 0; lane < kBlockRows; lane++) value[lane * 4] = codes[lane];
}

// As the linear kernel does it; a vector that holds an infinity counts as zero.
static void quantize_head(const float* x, int dim, int8_t* codes, float* scale) {
  quantize_row(x, dim, static_cast<int>(round_up(dim, kRowPadding)), codes, scale);
  if (!(*scale <= 3.4028235e38f)) *scale = 0.0f;
}

static void store_codes(const AttentionCache& cache, const float* key, const float* value, int head, int position) {
  int8_t codes[kMaxHeadDim];
  const int dim = cache.shape.head_dim;
  const size_t at = cache.scale_index(head, position);
  quantize_head(key, dim, codes, &cache.key_scales[at]);
  write_key_codes(cache, head, position, codes);
  quantize_head(value, dim, codes, &cache.value_scales[at]);
  write_value_codes(cache, head, position, codes);
}

template <typename Element>
static void store_floats(const AttentionCache& cache, const float* key, const float* value, int head, int position) {
  write_key<Element>(cache, head, position, key);
  write_value<Element>(cache, head, position, value);
}

static void store_query(const StoreArgs& args, int row, int head, const float* x) {
  const AttentionShape& shape = args.cache->shape;
  const int group = shape.query_heads / shape.kv_heads, dim = shape.head_dim;
  const size_t at = (static_cast<size_t>(head / group) * args.rows + row) * group + head % group;
  float codes_of[kMaxHeadDim];
  float* query = shape.format == CacheFormat::kInt8 ? codes_of : args.queries.values + at * dim;
  rotate(*args.cache, x, args.positions[row], query);
  for (int d = 0; d < dim; d++) query[d] *= shape.scale;
  if (shape.format != CacheFormat::kInt8) return;
  const QuantizedRows& codes = args.queries.codes;
  codes.sum[at] = quantize_row(query, dim, static_cast<int>(codes.stride), codes.codes + at * codes.stride, codes.scale + at);
}

static void store(const StoreArgs& args, int first_row, int last_row) {
  const AttentionCache& cache = *args.cache;
  const AttentionShape& shape = cache.shape;
  const int dim = shape.head_dim;
  const size_t width = static_cast<size_t>(shape.query_heads + 2 * shape.kv_heads) * dim;
  float rotated[kMaxHeadDim];
  for (int row = first_row; row < last_row; row++) {
    const float* x = args.qkv + row * width;
    for (int head = 0; head < shape.query_heads; head++, x += dim) store_query(args, row, head, x);
    for (int head = 0; head < shape.kv_heads; head++, x += dim) {
      const float* value = x + static_cast<size_t>(shape.kv_heads) * dim;
      rotate(cache, x, args.positions[row], rotated);
      switch (shape.format) {
        case CacheFormat::kInt8: store_codes(cache, rotated, value, head, args.positions[row]); break;
        case CacheFormat::kFloat16: store_floats<Half>(cache, rotated, value, head, args.positions[row]); break;
        default: store_floats<float>(cache, rotated, value, head, args.positions[row]);
      }
    }
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
