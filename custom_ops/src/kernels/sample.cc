// SPDX-License-Identifier: Apache-2.0
#include "sample.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

namespace edge_vlm {

namespace {

// The finaliser of MurmurHash3.
uint32_t mix(uint32_t state, uint32_t value) {
  uint32_t h = state ^ value;
  h = (h ^ h >> 16) * 0x85EBCA6Bu;
  h = (h ^ h >> 13) * 0xC2B2AE35u;
  return h ^ h >> 16;
}

// The k-th largest of the logits.
float least_of_largest(const float* logits, int count, int k) {
  std::vector<float> sorted(logits, logits + count);
  std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), std::greater<float>());
  return sorted[k - 1];
}

}  // namespace

int draw(const float* logits, int count, const LogitSummary& summary, const Sampling& sampling, int position) {
  if (sampling.temperature == 0.0f) return summary.peak_index;
  const uint32_t state = mix(mix(sampling.seed, 0x9E3779B9u), static_cast<uint32_t>(position));
  const bool all = sampling.top_k == 0 || sampling.top_k >= count;
  const float least = all ? -HUGE_VALF : least_of_largest(logits, count, sampling.top_k);
  int best = summary.peak_index;
  double best_score = -HUGE_VAL;
  for (int token = 0; token < count; token++) {
    if (!(logits[token] >= least)) continue;
    const double u = ((mix(state, static_cast<uint32_t>(token)) >> 8) + 0.5) * 0x1p-24;
    const double score = static_cast<double>(logits[token]) / static_cast<double>(sampling.temperature) - std::log(-std::log(u));
    if (score > best_score) {
      best_score = score;
      best = token;
    }
  }
  return best;
}

float log_probability(float logit, const LogitSummary& summary) {
  return logit - summary.peak - std::log(summary.exponential_sum);
}

}  // namespace edge_vlm
