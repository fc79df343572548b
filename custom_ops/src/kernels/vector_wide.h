// SPDX-License-Identifier: Apache-2.0
// Sixteen numbers at once where the instruction set has such registers, else eight. Sums of floats over lanes may differ
// between tables: attention alone takes them; all other kernels use these vectors where the order does not matter.
#pragma once
#include "half.h"
#include "vector8.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

#if defined(__AVX512F__)
constexpr int kWide = 16, kQueriesAtOnce = 8;  // 16 accumulators of 32 registers
typedef float f32w __attribute__((vector_size(64)));
typedef int32_t i32w __attribute__((vector_size(64)));
typedef uint32_t u32w __attribute__((vector_size(64)));

template <>
struct Bits<f32w> {
  typedef i32w Signed;
  typedef u32w Unsigned;
};

EDGE_VLM_INLINE f32w wide_splat(float x) { return _mm512_set1_ps(x); }
EDGE_VLM_INLINE f32w wide_multiply_add(f32w a, f32w b, f32w c) { return _mm512_fmadd_ps(a, b, c); }
EDGE_VLM_INLINE float wide_sum(f32w v) { return _mm512_reduce_add_ps(v); }
EDGE_VLM_INLINE float wide_max(f32w v) { return _mm512_reduce_max_ps(v); }
#else
constexpr int kWide = kLanes, kQueriesAtOnce = 4;  // 8 accumulators of 16 registers
typedef f32x8 f32w;

EDGE_VLM_INLINE f32w wide_splat(float x) { return splat(x); }
EDGE_VLM_INLINE f32w wide_multiply_add(f32w a, f32w b, f32w c) { return multiply_add(a, b, c); }
EDGE_VLM_INLINE float wide_sum(f32w v) { return sum_lanes(v); }
EDGE_VLM_INLINE float wide_max(f32w v) { return max_lanes(v); }
#endif

EDGE_VLM_INLINE f32w wide_load(const float* p) {
  f32w v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

EDGE_VLM_INLINE void wide_store(float* p, f32w v) { std::memcpy(p, &v, sizeof v); }

// The first `count` lanes (at most kWide); the others are `fill`.
EDGE_VLM_INLINE f32w wide_load_first(const float* p, int count, float fill) {
  if (count >= kWide) return wide_load(p);
  f32w v = wide_splat(fill);
  std::memcpy(&v, p, sizeof(float) * count);
  return v;
}

EDGE_VLM_INLINE void wide_store_first(float* p, f32w v, int count) {
  if (count >= kWide) return wide_store(p, v);
  std::memcpy(p, &v, sizeof(float) * count);
}

// Where a is NaN, b.
EDGE_VLM_INLINE f32w wide_larger(f32w a, f32w b) {
#if defined(__AVX512F__)  // gcc would compare and blend
  return _mm512_max_ps(a, b);
#else
  return larger(a, b);
#endif
}

EDGE_VLM_INLINE f32w wide_smaller(f32w a, f32w b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a, b);
#else
  return smaller(a, b);
#endif
}

typedef Bits<f32w>::Signed Integers;  // as many as floats
typedef int8_t i8w __attribute__((vector_size(kWide)));

EDGE_VLM_INLINE f32w wide_load(const Half* p) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#else
  return load_halves(&p->bits);
#endif
}

EDGE_VLM_INLINE f32w wide_magnitude(f32w v) { return (f32w)((Bits<f32w>::Unsigned)v & 0x7fffffffu); }

// The nearest integers, ties to even.
EDGE_VLM_INLINE Integers wide_round(f32w v) {
#if defined(__AVX512F__)
  return (Integers)_mm512_cvtps_epi32(v);
#else
  return round_to_integer(v);
#endif
}

EDGE_VLM_INLINE int32_t wide_total(Integers v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_epi32((__m512i)v);
#else
  int32_t total = 0;
  for (int lane = 0; lane < kWide; lane++) total += v[lane];
  return total;
#endif
}

// The low bytes of integers in -128..127.
EDGE_VLM_INLINE i8w wide_narrow(Integers v) {
#if defined(__AVX512F__)
  return (i8w)_mm512_cvtepi32_epi8((__m512i)v);
#else
  return narrow(v);
#endif
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
