// SPDX-License-Identifier: Apache-2.0
#include "attention_cache.h"

#include <sys/mman.h>

#include <cmath>
#include <new>

#include "layout.h"

namespace edge_vlm {

namespace {

int64_t element_bytes(CacheFormat format) {
  return format == CacheFormat::kInt8 ? 1 : format == CacheFormat::kFloat16 ? 2 : 4;
}

}  // namespace

bool operator==(const AttentionShape& a, const AttentionShape& b) {
  return a.capacity == b.capacity && a.query_heads == b.query_heads && a.kv_heads == b.kv_heads &&
         a.head_dim == b.head_dim && a.causal == b.causal && a.rope_theta == b.rope_theta && a.scale == b.scale &&
         a.format == b.format;
}

void Unmap::operator()(void* memory) const { munmap(memory, bytes); }

void* map_zeroed(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

int64_t cache_bytes(const AttentionShape& shape) {
  if (shape.capacity <= 0 || shape.kv_heads <= 0 || shape.head_dim <= 0) return -1;
  int64_t elements = 0, bytes = 0;
  const int64_t rows = round_up(shape.capacity, kKeyPadding);
  if (__builtin_mul_overflow(rows, round_up(shape.head_dim, kKeyLanes), &elements)) return -1;
  if (__builtin_mul_overflow(elements, static_cast<int64_t>(shape.kv_heads) * 2, &elements)) return -1;
  if (__builtin_mul_overflow(elements, element_bytes(shape.format), &bytes)) return -1;
  return bytes;
}

std::shared_ptr<const RotaryTable> make_rotary_table(int capacity, int head_dim, float theta) {
  const int half = head_dim / 2;
  const size_t count = static_cast<size_t>(capacity) * half;
  auto table = std::make_shared<RotaryTable>(RotaryTable{allocate_zeroed<float>(count), allocate_zeroed<float>(count)});
  if (!table->cosine || !table->sine) return nullptr;
  for (int i = 0; i < half; i++) {
    const float frequency = static_cast<float>(1.0 / std::pow(static_cast<double>(theta), 2.0 * i / head_dim));
    for (int position = 0; position < capacity; position++) {
      const float angle = static_cast<float>(position) * frequency;
      table->cosine[static_cast<size_t>(position) * half + i] = static_cast<float>(std::cos(static_cast<double>(angle)));
      table->sine[static_cast<size_t>(position) * half + i] = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  }
  return table;
}

bool AttentionCache::allocate(const AttentionShape& wanted, std::shared_ptr<const RotaryTable> rotary_table) {
  shape = wanted;
  rotary = std::move(rotary_table);
  padded_capacity = static_cast<int>(round_up(shape.capacity, kKeyPadding));
  padded_dim = static_cast<int>(round_up(shape.head_dim, kKeyLanes));
  const size_t rows = static_cast<size_t>(shape.kv_heads) * padded_capacity, bytes = element_bytes(shape.format);
  keys = allocate_zeroed<char>(rows * padded_key_dim() * bytes);
  values = allocate_zeroed<char>(rows * padded_dim * bytes);
  written.reset(new (std::nothrow) uint8_t[padded_capacity]());
  if (!keys || !values || !written) return false;
  if (shape.format != CacheFormat::kInt8) return true;
  key_scales = allocate_zeroed<float>(rows);
  value_scales = allocate_zeroed<float>(rows);
  value_peaks = allocate_zeroed<float>(rows);
  return key_scales && value_scales && value_peaks;
}

void AttentionCache::note_written(const int32_t* positions, int rows) {
  if (rows == 0) return;
  int first = positions[0], last = positions[0];
  for (int row = 0; row < rows; row++) {
    written_count += 1 - written[positions[row]];
    written[positions[row]] = 1;
    first = positions[row] < first ? positions[row] : first;
    last = positions[row] > last ? positions[row] : last;
  }
  if (shape.causal) {
    for (int position = last + 1; position < end; position++) written[position] = 0;
    end = written_count = last + 1;
  }
  end = last >= end ? last + 1 : end;
  if (shape.format == CacheFormat::kInt8) update_value_peaks(first, end);
}

void AttentionCache::update_value_peaks(int first, int last) {
  for (int head = 0; head < shape.kv_heads; head++) {
    float* peaks = value_peaks.get() + scale_index(head, 0);
    const float* scales = value_scales.get() + scale_index(head, 0);
    float peak = first > 0 ? peaks[first - 1] : 0.0f;
    for (int position = first; position < last; position++) {
      peak = scales[position] > peak ? scales[position] : peak;
      peaks[position] = peak;
    }
  }
}

}  // namespace edge_vlm
