// SPDX-License-Identifier: Apache-2.0
#include "attention_cache.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "layout.h"

namespace edge_vlm {

bool operator==(const AttentionShape& a, const AttentionShape& b) {
  return a.capacity == b.capacity && a.query_heads == b.query_heads && a.kv_heads == b.kv_heads &&
         a.head_dim == b.head_dim && a.causal == b.causal && a.rope_theta == b.rope_theta && a.scale == b.scale;
}

void FreeDeleter::operator()(void* memory) const { std::free(memory); }

ZeroedArray<float> allocate_floats(size_t count) {
  const size_t bytes = static_cast<size_t>(round_up(static_cast<int64_t>(count * sizeof(float)) + 1, 64));
  void* memory = std::aligned_alloc(64, bytes);
  if (memory != nullptr) std::memset(memory, 0, bytes);
  return ZeroedArray<float>(static_cast<float*>(memory));
}

int64_t cache_bytes(const AttentionShape& shape) {
  if (shape.capacity <= 0 || shape.kv_heads <= 0 || shape.head_dim <= 0) return -1;
  int64_t floats = 0, bytes = 0;
  if (__builtin_mul_overflow(round_up(shape.capacity, kKeyPadding), round_up(shape.head_dim, kKeyLanes), &floats)) return -1;
  if (__builtin_mul_overflow(floats, static_cast<int64_t>(shape.kv_heads) * 2, &floats)) return -1;
  if (__builtin_mul_overflow(floats, static_cast<int64_t>(sizeof(float)), &bytes)) return -1;
  return bytes;
}

bool AttentionCache::allocate(const AttentionShape& wanted) {
  shape = wanted;
  padded_capacity = static_cast<int>(round_up(shape.capacity, kKeyPadding));
  padded_dim = static_cast<int>(round_up(shape.head_dim, kKeyLanes));
  const size_t rows = static_cast<size_t>(shape.kv_heads) * padded_capacity;
  keys = allocate_floats(rows * shape.head_dim);
  values = allocate_floats(rows * padded_dim);
  written.reset(new (std::nothrow) uint8_t[padded_capacity]());
  if (!keys || !values || !written) return false;
  if (shape.rope_theta <= 0) return true;
  const int half = shape.head_dim / 2;
  cosine = allocate_floats(static_cast<size_t>(shape.capacity) * half);
  sine = allocate_floats(static_cast<size_t>(shape.capacity) * half);
  if (!cosine || !sine) return false;
  for (int i = 0; i < half; i++) {
    const float frequency = static_cast<float>(1.0 / std::pow(static_cast<double>(shape.rope_theta), 2.0 * i / shape.head_dim));
    for (int position = 0; position < shape.capacity; position++) {
      const float angle = static_cast<float>(position) * frequency;
      cosine[static_cast<size_t>(position) * half + i] = static_cast<float>(std::cos(static_cast<double>(angle)));
      sine[static_cast<size_t>(position) * half + i] = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  }
  return true;
}

void AttentionCache::store(const float* qkv, const int32_t* positions, int rows, float* queries) {
  const size_t query_width = static_cast<size_t>(shape.query_heads) * shape.head_dim;
  const size_t row_width = query_width + 2 * static_cast<size_t>(shape.kv_heads) * shape.head_dim;
  for (int row = 0; row < rows; row++) store_row(qkv + row * row_width, positions[row], queries + row * query_width);
  if (!shape.causal || rows == 0) return;
  const int length = positions[rows - 1] + 1;
  for (int position = length; position < end; position++) written[position] = 0;
  end = written_count = length;
}

void AttentionCache::store_row(const float* row, int position, float* query) {
  const int dim = shape.head_dim;
  for (int head = 0; head < shape.query_heads; head++, row += dim, query += dim) {
    rotate(row, position, query);
    for (int d = 0; d < dim; d++) query[d] *= shape.scale;
  }
  const int block = position / kKeyLanes, lane = position % kKeyLanes;
  float rotated[1024];  // head_dim is at most this: the delegate checks it
  for (int head = 0; head < shape.kv_heads; head++, row += dim) {
    rotate(row, position, rotated);
    float* key = const_cast<float*>(key_block(head, block)) + lane;
    for (int d = 0; d < dim; d++) key[static_cast<size_t>(d) * kKeyLanes] = rotated[d];
  }
  for (int head = 0; head < shape.kv_heads; head++, row += dim) {
    float* value = const_cast<float*>(head_values(head)) + static_cast<size_t>(position) * padded_dim;
    std::memcpy(value, row, sizeof(float) * dim);
  }
  written_count += 1 - written[position];
  written[position] = 1;
  if (position >= end) end = position + 1;
}

// Halves rotated, as in Llama: (low, high) -> (low cos - high sin, high cos + low sin).
void AttentionCache::rotate(const float* x, int position, float* y) const {
  const int half = shape.head_dim / 2;
  if (shape.rope_theta <= 0) {
    std::memcpy(y, x, sizeof(float) * shape.head_dim);
    return;
  }
  const float* c = cosine.get() + static_cast<size_t>(position) * half;
  const float* s = sine.get() + static_cast<size_t>(position) * half;
  for (int i = 0; i < half; i++) {
    const float low = x[i], high = x[half + i];
    y[i] = low * c[i] - high * s[i];
    y[half + i] = high * c[i] + low * s[i];
  }
}

}  // namespace edge_vlm
