// SPDX-License-Identifier: Apache-2.0
// What the choice of a token needs of its logits. Included by each instruction set.
#pragma once
#include "vector_wide.h"
#include "kernels.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

constexpr int kLogitBlock = 512;

// Logits i .. i + kWide - 1; those from `count` on are -infinity.
EDGE_VLM_INLINE f32w load_logits(const float* logits, int i, int count) {
  if (i + kWide <= count) return wide_load(logits + i);
  float rest[kWide];
  for (int lane = 0; lane < kWide; lane++) rest[lane] = i + lane < count ? logits[i + lane] : -__builtin_inff();
  return wide_load(rest);
}

static LogitSummary summarise(const float* logits, int count) {
  float peak = -__builtin_inff();
  int block = 0;
  for (int start = 0; start < count; start += kLogitBlock) {
    f32w peaks = wide_splat(peak);
    for (int i = start; i < start + kLogitBlock && i < count; i += kWide) {
      const f32w x = load_logits(logits, i, count);
      peaks = x > peaks ? x : peaks;
    }
    const float found = wide_max(peaks);
    block = found > peak ? start : block;
    peak = found;
  }
  int index = block;
  while (index < count && logits[index] != peak) index++;
  f32w sum = {};
  for (int i = 0; i < count; i += kWide) sum += exponential(load_logits(logits, i, count) - peak);
  return {peak, index < count ? index : 0, wide_sum(sum)};
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
