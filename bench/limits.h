// SPDX-License-Identifier: Apache-2.0
// The machine's limits for one thread: reading memory, in several ways, and integer products in registers.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace limits {

inline double now_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline volatile uint64_t sink;

typedef uint64_t Words __attribute__((vector_size(32)));

// Exclusive-or of `bytes` bytes, prefetched `ahead` bytes before they are read (0: by the CPU alone).
#if defined(__x86_64__)
__attribute__((target("avx2")))
#endif
inline void read_stream(const uint8_t* data, size_t bytes, size_t ahead) {
  Words sum[4] = {};
  for (size_t i = 0; i + 128 <= bytes; i += 128) {
    if (ahead != 0) {
      __builtin_prefetch(data + i + ahead);
      __builtin_prefetch(data + i + ahead + 64);
    }
    for (int part = 0; part < 4; part++) sum[part] ^= *reinterpret_cast<const Words*>(data + i + 32 * part);
  }
  for (const Words& part : sum) sink = sink ^ part[0] ^ part[1] ^ part[2] ^ part[3];
}

// The same as two streams side by side, from the beginning and from the middle.
#if defined(__x86_64__)
__attribute__((target("avx2")))
#endif
inline void read_two_streams(const uint8_t* data, size_t bytes, size_t ahead) {
  const size_t half = bytes / 128 * 64;
  Words sum[4] = {};
  for (size_t i = 0; i + 64 <= half; i += 64) {
    __builtin_prefetch(data + i + ahead);
    __builtin_prefetch(data + half + i + ahead);
    for (int part = 0; part < 2; part++) {
      sum[part] ^= *reinterpret_cast<const Words*>(data + i + 32 * part);
      sum[part + 2] ^= *reinterpret_cast<const Words*>(data + half + i + 32 * part);
    }
  }
  for (const Words& part : sum) sink = sink ^ part[0] ^ part[1] ^ part[2] ^ part[3];
}

// Ways to read memory once. What the best of them needs is the limit: which it is differs from one CPU to the next.
constexpr int kReadings = 4;
inline double read_once(int reading, const uint8_t* data, size_t bytes) {
  const double begin = now_us();
  switch (reading) {
    case 0: read_stream(data, bytes, 0); break;
    case 1: read_stream(data, bytes, 2048); break;
    case 2: read_stream(data, bytes, 4096); break;
    default: read_two_streams(data, bytes, 4096);
  }
  return now_us() - begin;
}

// Multiply-adds per us of vpdpbusd on registers; 0 where the CPU has none.
#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bw,avx512vnni"))) inline double product_rate() {
  if (!__builtin_cpu_supports("avx512vnni")) return 0;
  constexpr int kLoops = 20000;
  __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(1);
  const double begin = now_us();
  for (int i = 0; i < kLoops; i++)
    asm volatile(
        "vpdpbusd %0, %1, %%zmm16\n vpdpbusd %0, %1, %%zmm17\n vpdpbusd %0, %1, %%zmm18\n vpdpbusd %0, %1, %%zmm19\n"
        "vpdpbusd %0, %1, %%zmm20\n vpdpbusd %0, %1, %%zmm21\n vpdpbusd %0, %1, %%zmm22\n vpdpbusd %0, %1, %%zmm23\n"
        "vpdpbusd %0, %1, %%zmm24\n vpdpbusd %0, %1, %%zmm25\n vpdpbusd %0, %1, %%zmm26\n vpdpbusd %0, %1, %%zmm27\n" ::"v"(a), "v"(b)
        : "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27");
  return kLoops * 12.0 * 64 / (now_us() - begin);
}
#else
inline double product_rate() { return 0; }
#endif

}  // namespace limits
