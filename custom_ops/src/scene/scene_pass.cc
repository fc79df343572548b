// SPDX-License-Identifier: Apache-2.0
#include "scene_pass.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "phase_shift.h"

namespace edge_vlm {

namespace {

constexpr float kScoreCap = 50.0f;
constexpr float kEdgeLevels = 12.0f;
constexpr int kEntropyBins = 32;
constexpr int kTopTokens = 2;
constexpr double kMinContrastLevels = 2;
constexpr float kMinResponse = 0.15f;  // of a shift that is believed

int tokens_of(const ScenePass& pass) { return pass.rows * pass.cols; }

// Descriptors to the small grey image they hold.
void draw_luma(const ScenePass& pass, const float* descriptors, float* luma) {
  const int side = pass.side, width = pass.cols * side;
  for (int token = 0; token < tokens_of(pass); ++token) {
    float* corner = luma + (token / pass.cols) * side * width + (token % pass.cols) * side;
    for (int y = 0; y < side; ++y) {
      for (int x = 0; x < side; ++x, descriptors += 3) {
        corner[y * width + x] = 0.299f * descriptors[0] + 0.587f * descriptors[1] + 0.114f * descriptors[2];
      }
    }
  }
}

float edge_density(const float* luma, int height, int width) {
  int edges = 0;
  for (int y = 0; y + 1 < height; ++y, luma += width) {
    for (int x = 0; x + 1 < width; ++x) {
      const float across = std::fabs(luma[x + 1] - luma[x]), down = std::fabs(luma[x + width] - luma[x]);
      edges += std::max(across, down) > kEdgeLevels;
    }
  }
  const int pixels = (height - 1) * (width - 1);
  return pixels ? static_cast<float>(edges) / pixels : 0.0f;
}

float entropy_bits(const float* luma, int pixels) {
  int counts[kEntropyBins] = {};
  for (int i = 0; i < pixels; ++i) {
    const float bin = luma[i] * (kEntropyBins / 256.0f);
    ++counts[bin > 0 ? std::min(static_cast<int>(std::min(bin, float{kEntropyBins})), kEntropyBins - 1) : 0];
  }
  double bits = 0;
  for (int count : counts) {
    const double share = static_cast<double>(count) / pixels;
    if (count) bits -= share * std::log2(share);
  }
  return static_cast<float>(bits);
}

// How far the mean colour of a patch has moved, averaged over the colours.
float colour_shift(const float* now, const float* then, int cells) {
  float difference[3] = {};
  for (int cell = 0; cell < cells; ++cell) {
    for (int c = 0; c < 3; ++c) difference[c] += now[3 * cell + c] - then[3 * cell + c];
  }
  return (std::fabs(difference[0]) + std::fabs(difference[1]) + std::fabs(difference[2])) / (3.0f * cells);
}

void look_at_tokens(ScenePass& pass) {
  const int tokens = tokens_of(pass), cells = pass.side * pass.side;
  int active = 0, changed = 0, fresh = 0, shallow = 0;
  float sum_change = 0, max_change = 0, sum_shift = 0, max_shift = 0, debt = 0;
  for (int token = 0; token < tokens; ++token) {
    if (pass.active[token]) {
      const float score = std::log1p(std::min(pass.scores[token], kScoreCap));
      ++active, sum_change += score, max_change = std::max(max_change, score);
    }
    if (pass.changed[token]) {
      const int64_t first = int64_t{3} * cells * token;
      const float shift = colour_shift(pass.descriptors + first, pass.reference + first, cells);
      ++changed, sum_shift += shift, max_shift = std::max(max_shift, shift), fresh += !pass.was_active[token];
    }
    shallow += pass.shallow[token] != 0, debt += pass.context_debt[token];
  }
  SceneFigures& figures = pass.figures;
  figures.active_fraction = static_cast<float>(active) / tokens;
  figures.fresh_fraction = static_cast<float>(fresh) / tokens;
  figures.shallow_fraction = static_cast<float>(shallow) / tokens;
  figures.context_debt = debt / tokens;
  figures.mean_change = active ? sum_change / active : 0.0f, figures.max_change = max_change;
  figures.mean_shift = std::log1p(changed ? sum_shift / changed : 0.0f), figures.max_shift = std::log1p(max_shift);
}

float norm(const float* row, const float* other, int dim) {
  float sums[4] = {};  // side by side, for the compiler to vectorise
  int i = 0;
  for (; i + 4 <= dim; i += 4) {
    for (int lane = 0; lane < 4; ++lane) {
      const float value = other ? row[i + lane] - other[i + lane] : row[i + lane];
      sums[lane] += value * value;
    }
  }
  for (; i < dim; ++i) {
    const float value = other ? row[i] - other[i] : row[i];
    sums[0] += value * value;
  }
  return std::sqrt(sums[0] + sums[1] + sums[2] + sums[3]);
}

// edge_vlm/sttf/fusion.py: scene_distance.
float drift(const ScenePass& pass) {
  if (!pass.features_whole || !pass.features_now || !pass.image_tokens) return 0.0f;
  const int tokens = pass.image_tokens;
  std::vector<float> norms(tokens), moved(tokens);
  for (int token = 0; token < tokens; ++token) {
    const int64_t first = int64_t{pass.dim} * token;
    norms[token] = norm(pass.features_whole + first, nullptr, pass.dim);
    moved[token] = norm(pass.features_now + first, pass.features_whole + first, pass.dim);
  }
  std::nth_element(norms.begin(), norms.begin() + tokens / 2, norms.end());
  const int top = std::min(kTopTokens, tokens);
  std::partial_sort(moved.begin(), moved.begin() + top, moved.end(), [](float a, float b) { return a > b; });
  float sum = 0;
  for (int i = 0; i < top; ++i) sum += moved[i];
  return sum / top / std::max(norms[tokens / 2], 1e-12f);
}

bool has_contrast(const std::vector<float>& image) {
  constexpr size_t kLanes = 8;  // side by side, for the compiler to vectorise
  const float level = image[0];
  float sums[kLanes] = {}, squares[kLanes] = {};
  for (size_t i = 0; i + kLanes <= image.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float value = image[i + lane] - level;
      sums[lane] += value, squares[lane] += value * value;
    }
  }
  double sum = 0, square = 0;
  for (size_t lane = 0; lane < kLanes; ++lane) sum += sums[lane], square += squares[lane];
  for (size_t i = image.size() / kLanes * kLanes; i < image.size(); ++i) {
    const double value = image[i] - level;
    sum += value, square += value * value;
  }
  const double mean = sum / image.size();
  return square / image.size() - mean * mean >= kMinContrastLevels * kMinContrastLevels;
}

// edge_vlm/sttf/ego_motion.py: global_shift.
void find_shift(ScenePass& pass, const std::vector<float>& luma) {
  pass.shift_x = pass.shift_y = pass.shift_response = 0;
  if (!pass.previous) return;
  std::vector<float> before(luma.size());
  draw_luma(pass, pass.previous, before.data());
  if (!has_contrast(before) || !has_contrast(luma)) return;
  const PhaseShift found = phase_shift(before.data(), luma.data(), pass.rows * pass.side, pass.cols * pass.side);
  pass.shift_x = found.dx, pass.shift_y = found.dy, pass.shift_response = found.response;
}

}  // namespace

void measure_scene(ScenePass& pass) {
  const int height = pass.rows * pass.side, width = pass.cols * pass.side;
  std::vector<float> luma(height * width);
  draw_luma(pass, pass.descriptors, luma.data());
  look_at_tokens(pass);
  find_shift(pass, luma);
  SceneFigures& figures = pass.figures;
  figures.edge_density = edge_density(luma.data(), height, width);
  figures.entropy_bits = entropy_bits(luma.data(), height * width);
  figures.drift = drift(pass);
  const float shift_px = std::hypot(pass.shift_x, pass.shift_y) * pass.pixels_per_cell;
  figures.ego_shift_px = pass.shift_response >= kMinResponse ? std::log1p(shift_px) : 0.0f;
  figures.caption_confidence = pass.caption_confidence;
  figures.frames_since_full = std::log1p(static_cast<float>(pass.frames_since_full));
}

}  // namespace edge_vlm
