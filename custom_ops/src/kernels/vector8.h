// SPDX-License-Identifier: Apache-2.0
// Eight floats at once, in the compiler's portable vector types: the same source becomes AVX2, SSE or NEON code.
//
// Included only by the files that hold one instruction set's table. Everything lives in a namespace of that set
// (EDGE_VLM_ISA): the linker must never take a function compiled for AVX2 where the scalar table wants its own.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define EDGE_VLM_INLINE static inline __attribute__((always_inline))

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr int kLanes = 8;
typedef float f32x8 __attribute__((vector_size(32)));
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef uint32_t u32x8 __attribute__((vector_size(32)));
typedef int8_t i8x8 __attribute__((vector_size(8)));

EDGE_VLM_INLINE f32x8 splat(float x) { return f32x8{x, x, x, x, x, x, x, x}; }

EDGE_VLM_INLINE f32x8 load(const float* p) {
  f32x8 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

EDGE_VLM_INLINE void store(float* p, f32x8 v) { std::memcpy(p, &v, sizeof v); }

// The first `count` lanes (at most 8); the others are `fill`.
EDGE_VLM_INLINE f32x8 load_first(const float* p, int count, float fill) {
  if (count >= kLanes) return load(p);
  f32x8 v = splat(fill);
  std::memcpy(&v, p, sizeof(float) * count);
  return v;
}

EDGE_VLM_INLINE void store_first(float* p, f32x8 v, int count) {
  if (count >= kLanes) return store(p, v);
  std::memcpy(p, &v, sizeof(float) * count);
}

// Where a is NaN the second operand is taken, as the x86 instructions do.
EDGE_VLM_INLINE f32x8 larger(f32x8 a, f32x8 b) { return a > b ? a : b; }
EDGE_VLM_INLINE f32x8 smaller(f32x8 a, f32x8 b) { return a < b ? a : b; }

// Casts between vectors keep the bits.
EDGE_VLM_INLINE u32x8 bits_of(f32x8 v) { return (u32x8)v; }
EDGE_VLM_INLINE f32x8 float_of(u32x8 v) { return (f32x8)v; }
EDGE_VLM_INLINE f32x8 magnitude(f32x8 v) { return float_of(bits_of(v) & 0x7fffffffu); }

// Eight float16 values, exactly.
EDGE_VLM_INLINE f32x8 load_halves(const uint16_t* p) {
#if defined(__F16C__)
  return (f32x8)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  typedef uint16_t u16x8 __attribute__((vector_size(16)));
  u16x8 raw;
  std::memcpy(&raw, p, sizeof raw);
  const u32x8 bits = __builtin_convertvector(raw, u32x8);
  // The exponent is moved to that of float32 by a product, which is exact, also for denormal halves.
  const f32x8 magnitude = float_of((bits & 0x7fffu) << 13) * 5.192296858534828e33f;  // 2^112
  return float_of(bits_of(magnitude) | (bits & 0x8000u) << 16);
#endif
}

// Lane sums and maxima in one fixed order.
EDGE_VLM_INLINE float sum_lanes(f32x8 v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

EDGE_VLM_INLINE float max_lanes(f32x8 v) {
  float best = v[0];
  for (int lane = 1; lane < kLanes; lane++) best = v[lane] > best ? v[lane] : best;
  return best;
}

// a * b + c. Fused where the instruction set can: only attention uses it, and only it may differ between tables.
EDGE_VLM_INLINE f32x8 multiply_add(f32x8 a, f32x8 b, f32x8 c) {
#if defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
  for (int lane = 0; lane < kLanes; lane++) c[lane] = __builtin_fmaf(a[lane], b[lane], c[lane]);
  return c;
#else
  return a * b + c;
#endif
}

// Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits: exact for |x| < 2^22.
constexpr float kRoundingMagic = 12582912.0f;

EDGE_VLM_INLINE i32x8 round_to_integer(f32x8 x) {
  return (i32x8)(bits_of(x + kRoundingMagic) - bits_of(splat(kRoundingMagic)));
}

// The low bytes of eight integers in -128..127.
EDGE_VLM_INLINE i8x8 narrow(i32x8 v) {
#if defined(__AVX2__)  // gcc converts lane by lane
  const __m256i words = (__m256i)v;
  const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  return (i8x8)_mm_cvtsi128_si64(_mm_packs_epi16(halves, halves));
#else
  return __builtin_convertvector(v, i8x8);
#endif
}

// Integer vectors as wide as a float vector.
template <typename F>
struct Bits;
template <>
struct Bits<f32x8> {
  typedef i32x8 Signed;
  typedef u32x8 Unsigned;
};

// exp(x) within 2 units in the last place: 2^n * p(r), |r| <= ln 2 / 2, p a Taylor polynomial of degree 7.
// 0 below -87.3 (instead of denormals), exp(88.3) above 88.3; NaN stays NaN.
template <typename F>
EDGE_VLM_INLINE F exponential(F x) {
  typedef typename Bits<F>::Unsigned Unsigned;
  constexpr float kLow = -87.3f, kHigh = 88.3f;
  const F zero = {}, high = zero + kHigh, magic = zero + kRoundingMagic;
  const typename Bits<F>::Signed vanishes = x < kLow;
  x = x > kHigh ? high : x;
  const F shifted = x * 1.44269504088896341f + kRoundingMagic;
  const Unsigned n = (Unsigned)shifted - (Unsigned)magic;
  const F whole = shifted - kRoundingMagic;
  const F r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;  // ln 2 in two parts
  F p = zero + 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.0f;
  const F power = (F)((n + 127u) << 23);
  return vanishes ? zero : p * power;
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
