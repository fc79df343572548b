// SPDX-License-Identifier: Apache-2.0
// Keys and values by position, laid out for the attention kernels, and the writing of rows into them.
#pragma once
#include <cstdint>
#include <memory>

namespace edge_vlm {

struct AttentionShape {
  int capacity;
  int query_heads;
  int kv_heads;
  int head_dim;
  bool causal;
  float rope_theta;  // 0: no rotary embedding
  float scale;
};

bool operator==(const AttentionShape& a, const AttentionShape& b);

constexpr int kKeyLanes = 16;    // keys interleaved in one block
constexpr int kKeyPadding = 32;  // the widest score loop takes two blocks at a time

struct FreeDeleter {
  void operator()(void* memory) const;
};
template <typename T>
using ZeroedArray = std::unique_ptr<T[], FreeDeleter>;

// Zeroed memory, 64-byte aligned; null where there is none.
ZeroedArray<float> allocate_floats(size_t count);

struct AttentionCache {
  AttentionShape shape{};
  int padded_capacity = 0;  // multiple of kKeyPadding
  int padded_dim = 0;       // head_dim rounded up to 16
  int end = 0;              // highest written position + 1
  int written_count = 0;
  ZeroedArray<float> keys;    // (kv_heads, padded_capacity / 16, head_dim, 16): sixteen keys side by side
  ZeroedArray<float> values;  // (kv_heads, padded_capacity, padded_dim)
  ZeroedArray<float> cosine;  // (capacity, head_dim / 2), with sine; only where rope_theta > 0
  ZeroedArray<float> sine;
  std::unique_ptr<uint8_t[]> written;  // (padded_capacity,) 1 where a row has been written

  // False where memory is short.
  bool allocate(const AttentionShape& wanted);

  const float* key_block(int head, int block) const {
    return keys.get() + (static_cast<size_t>(head) * (padded_capacity / kKeyLanes) + block) * shape.head_dim * kKeyLanes;
  }
  const float* head_values(int head) const {
    return values.get() + static_cast<size_t>(head) * padded_capacity * padded_dim;
  }

  // Write K,V of qkv (rows, (Hq + 2 Hkv) Dh) at positions; queries (rows, Hq, Dh) become q, rotated and scaled.
  // In a causal cache, what lay behind the last position is forgotten.
  void store(const float* qkv, const int32_t* positions, int rows, float* queries);

 private:
  void store_row(const float* row, int position, float* query);
  void rotate(const float* x, int position, float* y) const;
};

// Bytes that a cache of this shape takes, or -1 where the shape is absurd (not positive, or the product overflows).
int64_t cache_bytes(const AttentionShape& shape);

}  // namespace edge_vlm
