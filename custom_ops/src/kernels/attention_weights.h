// SPDX-License-Identifier: Apache-2.0
// The softmax between the two integer products of attention: scores to weights in whole numbers. Included by each
// instruction set.
#pragma once
#include "layout.h"
#include "vector_wide.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr int kPlaneBits = 7;  // a weight 0..16256 is 128 * high + low, both in 0..127
constexpr int kLowPlane = (1 << kPlaneBits) - 1;
constexpr float kLargestWeight = 127 << kPlaneBits;
constexpr int kWeightKeys = 64;  // that are weighed at a time: a whole register of bytes
constexpr int kWeightVectors = kWeightKeys / kWide;
static_assert(kKeyPadding % kWeightKeys == 0, "whole registers");

// 2^x for x <= 0 within 4e-6 of it; 0 for -infinity.
EDGE_VLM_INLINE f32w power_of_two(f32w x) {
#if defined(__AVX512F__)
  x = wide_larger(x, wide_splat(-200.0f));  // of which the power is 0 in float32
  const f32w whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  typedef Bits<f32w>::Unsigned Unsigned;
  x = wide_larger(x, wide_splat(-126.0f));
  const f32w shifted = x + kRoundingMagic, whole = shifted - kRoundingMagic;
#endif
  const f32w r = x - whole;
  f32w p = wide_multiply_add(wide_splat(9.58285067e-03f), r, wide_splat(5.59064282e-02f));
  p = wide_multiply_add(p, r, wide_splat(2.40240987e-01f));
  p = wide_multiply_add(p, r, wide_splat(6.93124193e-01f));
  p = wide_multiply_add(p, r, wide_splat(1.0f));
#if defined(__AVX512F__)
  return _mm512_scalef_ps(p, whole);
#else
  return (f32w)((Unsigned)p + ((Unsigned)shifted << 23)) - 1.17549435e-38f;  // 2^-126, so that -infinity gives 0
#endif
}

// Weights 0..16256 of kWeightKeys keys to their planes.
EDGE_VLM_INLINE void store_planes(const Integers* codes, int8_t* high, int8_t* low) {
#if defined(__AVX512BW__)  // lanes of 128 bits are packed by themselves, which the last step mends
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i mask = _mm512_set1_epi16(kLowPlane);
  const __m512i first = _mm512_packs_epi32((__m512i)codes[0], (__m512i)codes[1]);
  const __m512i second = _mm512_packs_epi32((__m512i)codes[2], (__m512i)codes[3]);
  const __m512i upper = _mm512_packs_epi16(_mm512_srli_epi16(first, kPlaneBits), _mm512_srli_epi16(second, kPlaneBits));
  const __m512i lower = _mm512_packs_epi16(_mm512_and_si512(first, mask), _mm512_and_si512(second, mask));
  _mm512_storeu_si512(high, _mm512_permutexvar_epi32(order, upper));
  _mm512_storeu_si512(low, _mm512_permutexvar_epi32(order, lower));
#else
  for (int v = 0; v < kWeightVectors; v++) {
    const i8w upper = wide_narrow(codes[v] >> kPlaneBits), lower = wide_narrow(codes[v] & kLowPlane);
    std::memcpy(high + v * kWide, &upper, sizeof upper);
    std::memcpy(low + v * kWide, &lower, sizeof lower);
  }
#endif
}

static float largest_score(const float* scores, int keys) {
  constexpr int kChains = 4;  // so that no maximum waits for the one before
  f32w peaks[kChains];
  for (int chain = 0; chain < kChains; chain++) peaks[chain] = wide_load(scores + chain * kWide);
  for (int key = kChains * kWide; key < keys; key += kChains * kWide)
#pragma GCC unroll 4
    for (int chain = 0; chain < kChains; chain++)
      peaks[chain] = wide_larger(wide_load(scores + key + chain * kWide), peaks[chain]);
  return wide_max(wide_larger(wide_larger(peaks[0], peaks[1]), wide_larger(peaks[2], peaks[3])));
}

// scores (times log2 e) -> weights times value scale times factor, at most kLargestWeight, as integers in two planes.
// sums: of each plane. `keys` is a multiple of kKeyPadding. Returns the sum of the weights themselves.
static float weigh(const float* scores, int keys, const float* value_scales, float factor, int8_t* high, int8_t* low,
                   int32_t* sums) {
  const float peak = largest_score(scores, keys);
  f32w total = {};
  Integers high_sum = {}, low_sum = {};
  for (int key = 0; key < keys; key += kWeightKeys) {
    Integers codes[kWeightVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kWeightVectors; v++) {
      const f32w weight = power_of_two(wide_load(scores + key + v * kWide) - peak);
      total += weight;
      codes[v] = wide_round(weight * wide_load(value_scales + key + v * kWide) * factor);  // 0 where hidden, whatever the scale
      if (sums == nullptr) continue;
      high_sum += codes[v] >> kPlaneBits;
      low_sum += codes[v] & kLowPlane;
    }
    store_planes(codes, high + key, low + key);
  }
  if (sums != nullptr) sums[0] = wide_total(high_sum), sums[1] = wide_total(low_sum);
  return wide_sum(total);
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
