// SPDX-License-Identifier: Apache-2.0
// The choice of the next token; spec.py, Sample.
#pragma once
#include <cstdint>

#include "kernels.h"

namespace edge_vlm {

struct Sampling {
  float temperature;  // 0: the most likely token
  int top_k;          // 0: all
  uint32_t seed;
};

int draw(const float* logits, int count, const LogitSummary& summary, const Sampling& sampling, int position);

// Natural logarithm of the probability of a token.
float log_probability(float logit, const LogitSummary& summary);

}  // namespace edge_vlm
