// SPDX-License-Identifier: Apache-2.0
// What is visible outside of the router's figures and network; everything it is given is checked here.
#include "router_network.h"
#include "scene_pass.h"

namespace edge_vlm {

namespace {

constexpr int32_t kLargestSide = 1 << 10;  // patches or cells in a row
constexpr int32_t kLargestDim = 1 << 20;

bool within(int32_t value, int32_t largest) { return value > 0 && value <= largest; }

bool in_order(const ScenePass& pass) {
  const bool sizes = pass.struct_bytes == sizeof(ScenePass) && within(pass.rows, kLargestSide) &&
                     within(pass.cols, kLargestSide) && within(pass.side, 16) && pass.image_tokens >= 0 &&
                     pass.image_tokens <= kLargestDim && within(pass.dim, kLargestDim);
  return sizes && pass.descriptors && pass.reference && pass.scores && pass.active && pass.changed && pass.was_active &&
         pass.shallow && pass.context_debt;
}

}  // namespace

}  // namespace edge_vlm

// Fills what is to be found. Returns 0, or -1 for a pass that cannot be: nothing has been touched
// then.
extern "C" __attribute__((visibility("default"))) int edge_vlm_measure_scene(edge_vlm::ScenePass* pass) {
  if (pass == nullptr || !edge_vlm::in_order(*pass)) return -1;
  edge_vlm::measure_scene(*pass);
  return 0;
}

// Returns 0, or -1 for a router that cannot be: nothing has been touched then.
extern "C" __attribute__((visibility("default"))) int edge_vlm_run_router(const edge_vlm::Router* router,
                                                                          const float* figures, float* probabilities) {
  using namespace edge_vlm;
  if (!router || router->struct_bytes != sizeof(Router) || !within(router->layers, kMostRouterLayers)) return -1;
  if (!router->widths || !router->packed || !router->costs || !figures || !probabilities) return -1;
  for (int32_t i = 0; i <= router->layers; ++i) {
    if (!within(router->widths[i], kWidestRouterLayer)) return -1;
  }
  run_router(*router, figures, probabilities);
  return 0;
}
