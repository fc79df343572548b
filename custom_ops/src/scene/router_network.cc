// SPDX-License-Identifier: Apache-2.0
#include "router_network.h"

#include <algorithm>
#include <cmath>

namespace edge_vlm {

namespace {

constexpr float kInputLimit = 4.0f;  // standard deviations

// The network's outputs, into `values` of kWidestRouterLayer numbers.
void run_network(const Router& router, const float* figures, float* values) {
  float output[kWidestRouterLayer];
  const float* packed = router.packed;
  int in = router.widths[0];
  for (int i = 0; i < in; ++i) {
    float x = (figures[i] - packed[i]) / packed[in + i];
    if (x > kInputLimit) x = kInputLimit;
    if (x < -kInputLimit) x = -kInputLimit;
    values[i] = x;
  }
  packed += 2 * in;
  for (int layer = 0; layer < router.layers; ++layer) {
    const int out = router.widths[layer + 1];
    const bool hidden = layer + 1 < router.layers;
    const float* bias = packed + in * out;
    for (int o = 0; o < out; ++o, packed += in) {
      float sum = bias[o];
      for (int i = 0; i < in; ++i) sum += packed[i] * values[i];
      output[o] = hidden && sum < 0 ? 0.0f : sum;
    }
    packed = bias + out, in = out;
    std::copy_n(output, out, values);
  }
}

}  // namespace

void run_router(const Router& router, const float* figures, float* probabilities) {
  float worth[kWidestRouterLayer + 1];
  run_network(router, figures, worth);
  const int branches = router.widths[router.layers] + 1;
  float best = 0, sum = 0;
  for (int i = 0; i < branches; ++i) {
    const float chance = i + 1 < branches ? 1.0f / (1.0f + std::exp(-worth[i])) : 1.0f;
    worth[i] = chance - router.cost_weight * (router.costs[2 * i] + router.costs[2 * i + 1] * figures[0]);
    best = i ? std::max(best, worth[i]) : worth[i];
  }
  for (int i = 0; i < branches; ++i) sum += probabilities[i] = std::exp((worth[i] - best) / router.temperature);
  for (int i = 0; i < branches; ++i) probabilities[i] /= sum;
}

}  // namespace edge_vlm
