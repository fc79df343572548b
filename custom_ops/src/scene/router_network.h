// SPDX-License-Identifier: Apache-2.0
// The router's small network. edge_vlm/anc/router.py has the reference.
#pragma once
#include <cstdint>

namespace edge_vlm {

constexpr int32_t kMostRouterLayers = 8, kWidestRouterLayer = 256;

// `packed`: mean and deviation of the figures, then weights (out, in) and biases of each layer. `widths`: of the figures
// and of each layer's output. Standardised figures, hidden layers with ReLU, the logistic chance of each branch but the
// last to stay within tolerance, which the last one does. `costs`: fixed and per active fraction, of each branch.
// `probabilities`: the softmax, over `temperature`, of a branch's chance less `cost_weight` times its cost. Not a number
// stays one.
struct Router {
  int32_t struct_bytes, layers;
  const int32_t* widths;
  const float *packed, *costs;
  float cost_weight, temperature;
};

// `figures`: the first is the active fraction. `probabilities`: one more than the last layer's outputs.
void run_router(const Router& router, const float* figures, float* probabilities);

}  // namespace edge_vlm
