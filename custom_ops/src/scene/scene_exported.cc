// SPDX-License-Identifier: Apache-2.0
// What is visible outside: a frame's changes, the router's figures and its network. All that is given is checked here.
#include "describe.h"
#include "frame_look.h"
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

bool in_order(const FrameLook& frame) {
  const bool sizes = frame.struct_bytes == sizeof(FrameLook) && within(frame.rows, kLargestSide) &&
                     within(frame.cols, kLargestSide) && within(frame.height, kLargestDim) &&
                     within(frame.width, kLargestDim) && within(frame.sample_step, kLargestDim) &&
                     can_describe(frame.height, frame.width, frame.rows, frame.cols);
  return sizes && frame.image && frame.reference && frame.gain && frame.offset && frame.descriptors && frame.sample &&
         frame.change && frame.step;
}

}  // namespace

}  // namespace edge_vlm

// Returns 0, or -1 for a frame that cannot be: nothing has been touched then.
extern "C" __attribute__((visibility("default"))) int edge_vlm_look(edge_vlm::FrameLook* frame) {
  if (frame == nullptr || !edge_vlm::in_order(*frame)) return -1;
  edge_vlm::look(*frame);
  return 0;
}

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
