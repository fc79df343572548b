// SPDX-License-Identifier: Apache-2.0
// Keys and values by position, laid out for the attention kernels.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "half.h"

namespace edge_vlm {

enum class CacheFormat : int32_t { kFloat32 = 0, kFloat16 = 1, kInt8 = 2 };

struct AttentionShape {
  int capacity;
  int query_heads;
  int kv_heads;
  int head_dim;
  bool causal;
  float rope_theta;  // 0: no rotary embedding
  float scale;
  CacheFormat format;
};

bool operator==(const AttentionShape& a, const AttentionShape& b);

constexpr int kKeyLanes = 16;                 // keys interleaved in one block
constexpr int kKeyPadding = 64;               // what attention takes at a time divides this
constexpr int kValueKeys = 64;                // int8: keys in one block of values
constexpr int kMaxInt8Capacity = 1 << 16;     // int8: exact int32 sums over all positions need 128 * 127 * capacity < 2^31

struct Unmap {
  size_t bytes = 0;
  void operator()(void* memory) const;
};
template <typename T>
using ZeroedArray = std::unique_ptr<T[], Unmap>;

// Zeroed memory of its own pages, which take no room before they are touched; null where there is none.
void* map_zeroed(size_t bytes);
template <typename T>
ZeroedArray<T> allocate_zeroed(size_t count) {
  const size_t bytes = count * sizeof(T) + 1;
  return ZeroedArray<T>(static_cast<T*>(map_zeroed(bytes)), Unmap{bytes});
}

// cos and sin of every position and frequency, as the rotary embedding of Llama; shared by all layers of a model.
struct RotaryTable {
  ZeroedArray<float> cosine, sine;  // (capacity, head_dim / 2)
};

// Null where memory is short.
std::shared_ptr<const RotaryTable> make_rotary_table(int capacity, int head_dim, float theta);

// Per kv head, with D = head_dim, C = padded_capacity:
//   keys    float: (C / 16, D, 16), sixteen keys side by side;  int8: (C / 16, D / 4 rounded up, 16, 4)
//   values  float: (C, padded_dim);                             int8: (C / 64, padded_dim / 16, 16, 16, 4), 64 keys and 16
//           channels in a block: [key / 4][channel][key % 4]
// Both int8 layouts are that of int8 weights (packing.py) with keys, or channels, as outputs.
struct AttentionCache {
  AttentionShape shape{};
  int padded_capacity = 0;  // multiple of kKeyPadding
  int padded_dim = 0;       // head_dim rounded up to 16
  int end = 0;              // highest written position + 1
  int written_count = 0;
  ZeroedArray<char> keys, values;
  ZeroedArray<float> key_scales, value_scales;  // int8: (kv_heads, padded_capacity)
  ZeroedArray<float> value_peaks;               // int8: the largest of value_scales up to each position
  std::unique_ptr<uint8_t[]> written;           // (padded_capacity,) 1 where a row has been written
  std::shared_ptr<const RotaryTable> rotary;    // where rope_theta > 0

  // False where memory is short. `rotary_table` fits the shape, or is null where there is no rotary embedding.
  bool allocate(const AttentionShape& wanted, std::shared_ptr<const RotaryTable> rotary_table);

  template <typename Element>
  Element* key_block(int head, int block) const {
    const size_t index = static_cast<size_t>(head) * (padded_capacity / kKeyLanes) + block;
    return reinterpret_cast<Element*>(keys.get()) + index * padded_key_dim() * kKeyLanes;
  }
  template <typename Element>
  Element* head_values(int head) const {
    return reinterpret_cast<Element*>(values.get()) + static_cast<size_t>(head) * padded_capacity * padded_dim;
  }
  size_t scale_index(int head, int position) const { return static_cast<size_t>(head) * padded_capacity + position; }
  int padded_key_dim() const { return shape.format == CacheFormat::kInt8 ? (shape.head_dim + 3) / 4 * 4 : shape.head_dim; }

  // Note that rows have been stored at positions. In a causal cache, what lay behind the last one is forgotten.
  void note_written(const int32_t* positions, int rows);

 private:
  void update_value_peaks(int first, int last);
};

// Bytes that a cache of this shape takes, or -1 where the shape is absurd (not positive, or the product overflows).
int64_t cache_bytes(const AttentionShape& shape);

}  // namespace edge_vlm
