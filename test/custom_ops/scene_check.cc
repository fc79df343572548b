// SPDX-License-Identifier: Apache-2.0
// The looks at frames, the measures of scenes, shifts and routers over many odd sizes, each array exactly as large as it
// says: for the sanitizers, and as a program for Arm. Prints how many answers were wrong.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "frame_look.h"
#include "phase_shift.h"
#include "router_network.h"
#include "scene_pass.h"

using namespace edge_vlm;

extern "C" {
int edge_vlm_look(FrameLook*);
int edge_vlm_measure_scene(ScenePass*);
int edge_vlm_run_router(const Router*, const float*, float*);
}

namespace {

std::mt19937 generator(1);
int wrong = 0;

void expect(bool holds) { wrong += !holds; }

int below(int limit) { return static_cast<int>(generator() % limit); }

std::vector<float> noise(int count) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(below(256));
  return values;
}

// One image against itself: no shift, all of it moved that way.
void check_shift(int height, int width) {
  const std::vector<float> image = noise(height * width);
  const PhaseShift found = phase_shift(image.data(), image.data(), height, width);
  expect(std::fabs(found.dx) < 0.01f && std::fabs(found.dy) < 0.01f);
  phase_shift(image.data(), noise(height * width).data(), height, width);
}

void check_scene(int rows, int cols, std::vector<float>& descriptors, std::vector<float>& previous) {
  const int tokens = rows * cols, dim = 1 + below(9), image_tokens = below(5);
  std::vector<float> scores = noise(tokens), debt = noise(tokens), whole = noise(image_tokens * dim + 1);
  std::vector<uint8_t> mask(tokens);
  for (uint8_t& value : mask) value = static_cast<uint8_t>(below(2));
  ScenePass scene{};
  scene.struct_bytes = sizeof scene, scene.rows = rows, scene.cols = cols, scene.side = 4;
  scene.image_tokens = image_tokens, scene.dim = dim;
  scene.descriptors = descriptors.data(), scene.previous = previous.data(), scene.reference = previous.data();
  scene.scores = scores.data(), scene.context_debt = debt.data();
  scene.active = scene.changed = scene.was_active = scene.shallow = mask.data();
  scene.features_whole = scene.features_now = whole.data(), scene.pixels_per_cell = 4;
  expect(edge_vlm_measure_scene(&scene) == 0);
  expect(scene.figures.drift == 0 && scene.figures.entropy_bits >= 0 && scene.figures.entropy_bits <= 5.001f);
}

void check_frame(int rows, int cols, bool white) {
  const int height = 4 * rows + below(300), width = 4 * cols + below(300), tokens = rows * cols;
  std::vector<uint8_t> image(3 * height * width);
  for (uint8_t& value : image) value = static_cast<uint8_t>(white ? 255 : below(256));
  FrameLook frame{};
  frame.struct_bytes = sizeof frame, frame.height = height, frame.width = width, frame.rows = rows, frame.cols = cols;
  frame.sample_step = 9, frame.noise_levels = 1, frame.gain_max = 1.25f, frame.offset_max = 20;
  for (int c = 0; c < 3; ++c) frame.light[c] = 1;
  const int samples = samples_of(16 * tokens, frame.sample_step);
  std::vector<float> reference = noise(48 * tokens), gain(3 * tokens, 1.0f), offset(3 * tokens), previous = noise(48 * tokens);
  std::vector<float> descriptors(48 * tokens), sample(3 * samples), change(tokens), step(tokens);
  frame.image = image.data(), frame.reference = reference.data(), frame.gain = gain.data(), frame.offset = offset.data();
  frame.previous = previous.data(), frame.descriptors = descriptors.data(), frame.sample = sample.data();
  frame.change = change.data(), frame.step = step.data();
  expect(edge_vlm_look(&frame) == 0 && !frame.as_expected && !frame.as_before);
  const std::vector<float> expected = sample, before = descriptors;
  frame.expected = frame.sampled = expected.data(), frame.reference = before.data();
  expect(edge_vlm_look(&frame) == 0 && frame.as_expected && change[tokens - 1] == 0);
  if (white) expect(std::fabs(frame.mean_level - 255) < 1e-3f);
  check_scene(rows, cols, descriptors, previous);
}

void check_router(int inputs, int hidden, int branches) {
  const int32_t widths[] = {inputs, hidden, branches - 1};
  std::vector<float> packed = noise(2 * inputs + hidden * (inputs + 1) + (branches - 1) * (hidden + 1));
  std::vector<float> costs = noise(2 * branches), figures = noise(inputs), probabilities(branches);
  for (float& value : packed) value = 0.01f * value + 0.1f;
  const Router router = {sizeof(Router), 2, widths, packed.data(), costs.data(), 0.001f, 0.1f};
  expect(edge_vlm_run_router(&router, figures.data(), probabilities.data()) == 0);
  float sum = 0;
  for (float value : probabilities) sum += value;
  expect(std::fabs(sum - 1) < 1e-4f);
}

}  // namespace

int main() {
  for (int height = 6; height < 80; height += 5) {
    for (int width = 5; width < 80; width += 3) check_shift(height, width);
  }
  for (int length : {1, 2, 3, 4}) phase_shift(noise(length).data(), noise(length).data(), 1, length);
  for (int rows = 1; rows < 6; ++rows) {
    for (int cols = 1; cols < 8; cols += 2) {
      for (int round = 0; round < 6; ++round) check_frame(rows, cols, round == 0);
    }
  }
  for (int hidden : {1, 12, 256}) check_router(14, hidden, 4);
  std::printf("%d wrong\n", wrong);
  return wrong != 0;
}
