// SPDX-License-Identifier: Apache-2.0
#include "state.h"

#include "fault.h"

namespace edge_vlm {

namespace {
constexpr int64_t kQuantizeCost = 50;  // multiply-adds that take as long as quantising one value
}

void* Scratch::reserve(size_t bytes) {
  if (bytes > bytes_) {
    memory_.reset();
    bytes_ = 0;
    memory_ = allocate_zeroed<char>(bytes);
    if (!memory_) throw Fault("out of memory: %zu bytes of scratch", bytes);
    bytes_ = bytes;
  }
  return memory_.get();
}

AttentionCache& DelegateState::attention_cache(int id, const AttentionShape& shape) {
  const auto found = attention_caches_.find(id);
  if (found != attention_caches_.end()) {
    const AttentionShape& other = found->second->shape;
    if (other == shape) return *found->second;
    throw Fault("cache %d is shared with a node of other shape: capacity %d and %d, kv heads %d and %d", id,
                shape.capacity, other.capacity, shape.kv_heads, other.kv_heads);
  }
  const int64_t bytes = cache_bytes(shape);
  if (bytes < 0 || bytes > kMaxCacheBytes)
    throw Fault("cache %d of %d positions x %d kv heads x %d channels is larger than 1 GiB", id, shape.capacity,
                shape.kv_heads, shape.head_dim);
  auto cache = std::make_unique<AttentionCache>();
  if (!cache->allocate(shape, rotary_table(shape))) throw Fault("out of memory: cache %d takes %lld bytes", id, static_cast<long long>(bytes));
  return *(attention_caches_[id] = std::move(cache));
}

// Null where there is no rotary embedding. Throws Fault where memory is short.
std::shared_ptr<const RotaryTable> DelegateState::rotary_table(const AttentionShape& shape) {
  if (shape.rope_theta <= 0) return nullptr;
  auto& table = rotary_tables_[{shape.capacity, shape.head_dim, shape.rope_theta}];
  if (table == nullptr) table = make_rotary_table(shape.capacity, shape.head_dim, shape.rope_theta);
  if (table == nullptr) throw Fault("out of memory: rotary table of %d x %d", shape.capacity, shape.head_dim);
  return table;
}

TokenCache& DelegateState::token_cache(int id, int capacity, int width) {
  const auto found = token_caches_.find(id);
  if (found != token_caches_.end()) {
    TokenCache& cache = found->second;
    if (cache.capacity == capacity && cache.width == width) return cache;
    throw Fault("token cache %d is (%d, %d) here and (%d, %d) at another node", id, capacity, width, cache.capacity,
                cache.width);
  }
  const int64_t floats = static_cast<int64_t>(capacity) * width;
  if (floats > kMaxCacheBytes / static_cast<int64_t>(sizeof(float)))
    throw Fault("token cache %d of (%d, %d) is larger than 1 GiB", id, capacity, width);
  TokenCache cache{capacity, width, allocate_zeroed<float>(static_cast<size_t>(floats))};
  if (!cache.rows) throw Fault("out of memory: token cache %d of (%d, %d)", id, capacity, width);
  return token_caches_.emplace(id, std::move(cache)).first->second;
}

QuantizedRows DelegateState::reserve_quantized(size_t rows, int width, int group_size, int panel_rows) {
  QuantizedRows out{};
  out.stride = static_cast<size_t>(row_stride(width));
  out.group_size = group_size;
  out.groups = group_count(width, group_size);
  out.panel_rows = panel_rows;
  const size_t padded_rows = static_cast<size_t>(round_up(static_cast<int64_t>(rows), panel_rows));
  const size_t code_bytes = static_cast<size_t>(round_up(static_cast<int64_t>(out.stride * padded_rows), 64));
  const size_t sum_bytes = sizeof(int32_t) * padded_rows * out.groups;
  char* memory = static_cast<char*>(quantized_memory.reserve(code_bytes + sum_bytes + sizeof(float) * rows));
  out.codes = reinterpret_cast<int8_t*>(memory);
  out.sum = reinterpret_cast<int32_t*>(memory + code_bytes);
  out.scale = reinterpret_cast<float*>(memory + code_bytes + sum_bytes);
  return out;
}

template <typename Write>
QuantizedRows DelegateState::in_panels(int rows, int width, int group_size, const Write& write) {
  const int panel_rows = rows < kManyRows ? 1 : group_size == 0 ? kernels.panel_rows : kernels.group_panel_rows;
  const QuantizedRows out = reserve_quantized(rows, width, group_size, panel_rows);
  const int64_t cost = static_cast<int64_t>(rows) * width * kQuantizeCost;
  pool.share((rows + panel_rows - 1) / panel_rows, cost, [&](int, int first, int last) {
    const int begin = first * panel_rows, end = last * panel_rows < rows ? last * panel_rows : rows;
    const size_t skipped = static_cast<size_t>(begin);
    QuantizedRows part = out;
    part.codes += skipped * out.stride;
    part.scale += skipped;
    part.sum += skipped * out.groups;
    write(skipped, end - begin, part);
  });
  return out;
}

QuantizedRows DelegateState::quantized(const float* x, int rows, int width, int group_size) {
  return in_panels(rows, width, group_size, [&](size_t first, int count, const QuantizedRows& out) {
    kernels.quantize(x + first * width, count, width, out);
  });
}

QuantizedRows DelegateState::quantized(const NormArgs& args, int group_size) {
  return in_panels(args.rows, args.width, group_size, [&](size_t first, int count, const QuantizedRows& out) {
    NormArgs part = args;
    part.rows = count;
    part.x += first * args.width;
    kernels.norm_quantize(part, out);
  });
}

}  // namespace edge_vlm
