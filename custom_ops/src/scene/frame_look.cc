// SPDX-License-Identifier: Apache-2.0
#include "frame_look.h"

#include <algorithm>
#include <cmath>

#include "describe.h"

namespace edge_vlm {

namespace {

constexpr int kChannels = 3;
constexpr int kNumbers = kChannels * kCellsOfPatch * kCellsOfPatch;  // of a descriptor
constexpr int kPeriod = 12;  // numbers after which the colours repeat, a multiple of what vectors hold
constexpr float kMidLevel = 128.0f;
constexpr float kRidgeLevels2 = 25.0f;
constexpr float kSteadyOffsetLevels = 0.25f, kSteadyGain = 0.004f;
constexpr double kAgreeing = 0.8;

static_assert(kNumbers % kPeriod == 0);

void take_sample(const float* descriptors, int cells, int step, float* sample) {
  const int samples = samples_of(cells, step);
  for (int i = 0; i < samples; ++i) {
    const float* colour = descriptors + int64_t{kChannels} * step * i;
    for (int c = 0; c < kChannels; ++c) sample[c * samples + i] = colour[c];
  }
}

// edge_vlm/sttf/illumination.py: is_steady.
bool is_steady(const float* now, const float* expected, int samples, float noise_levels) {
  const float bound = std::max(3.0f * noise_levels, 2.5f);
  int agreeing = 0;
  bool steady = true;
  for (int c = 0; c < kChannels; ++c, now += samples, expected += samples) {
    float sum = 0, product = 0, square = 0;
    for (int i = 0; i < samples; ++i) {
      const float residual = now[i] - expected[i], x = now[i] - kMidLevel;
      const bool agrees = std::fabs(residual) <= bound;
      const float counted = agrees ? residual : 0.0f;
      agreeing += agrees, sum += counted, product += counted * x, square += x * x;
    }
    const float gain = product / (square + samples * kRidgeLevels2);
    steady = steady && std::fabs(sum / samples) <= kSteadyOffsetLevels && std::fabs(gain) <= kSteadyGain;
  }
  return steady && agreeing >= kAgreeing * kChannels * samples;
}

float rms(const float* squares) {
  float sum = 0;
  for (int i = 0; i < kPeriod; ++i) sum += squares[i];
  return std::sqrt(sum / kNumbers);
}

void measure_step(FrameLook& frame) {
  const float *now = frame.descriptors, *then = frame.previous;
  for (int token = 0; token < frame.rows * frame.cols; ++token, now += kNumbers, then += kNumbers) {
    float squares[kPeriod] = {};
    for (int i = 0; i < kNumbers; i += kPeriod) {
      for (int j = 0; j < kPeriod; ++j) {
        const float difference = now[i + j] - then[i + j];
        squares[j] += difference * difference;
      }
    }
    frame.step[token] = rms(squares);
  }
}

// edge_vlm/sttf/illumination.py: relight, and the difference to it.
void measure_change(FrameLook& frame) {
  const float *now = frame.descriptors, *then = frame.reference;
  for (int token = 0; token < frame.rows * frame.cols; ++token, now += kNumbers, then += kNumbers) {
    float gain[kPeriod], offset[kPeriod], squares[kPeriod] = {};
    for (int c = 0; c < kChannels; ++c) {
      const float ratio = frame.light[c] / frame.gain[kChannels * token + c];
      const float shift = frame.light[kChannels + c] - ratio * frame.offset[kChannels * token + c];
      const float limited = std::min(std::max(ratio, 1.0f / frame.gain_max), frame.gain_max);
      const float moved = std::min(std::max(shift, -frame.offset_max), frame.offset_max);
      for (int i = c; i < kPeriod; i += kChannels) gain[i] = limited, offset[i] = moved + kMidLevel * (1.0f - limited);
    }
    for (int i = 0; i < kNumbers; i += kPeriod) {
      for (int j = 0; j < kPeriod; ++j) {
        const float expected = std::min(std::max(then[i + j] * gain[j] + offset[j], 0.0f), 255.0f);
        const float difference = now[i + j] - expected;
        squares[j] += difference * difference;
      }
    }
    frame.change[token] = rms(squares);
  }
}

float mean_of(const float* values, int count) {
  double sum = 0;
  for (int i = 0; i < count; i += kNumbers) {
    float part = 0;
    for (int j = 0; j < kNumbers; ++j) part += values[i + j];
    sum += part;
  }
  return static_cast<float>(sum / count);
}

}  // namespace

int samples_of(int cells, int step) { return (cells + step - 1) / step; }

void look(FrameLook& frame) {
  const int tokens = frame.rows * frame.cols, cells = tokens * kCellsOfPatch * kCellsOfPatch;
  const int samples = samples_of(cells, frame.sample_step);
  describe(frame.image, frame.height, frame.width, frame.rows, frame.cols, frame.descriptors);
  frame.mean_level = mean_of(frame.descriptors, kChannels * cells);
  take_sample(frame.descriptors, cells, frame.sample_step, frame.sample);
  frame.as_expected = frame.expected && is_steady(frame.sample, frame.expected, samples, frame.noise_levels);
  frame.as_before = !frame.as_expected && frame.sampled &&
                    is_steady(frame.sample, frame.sampled, samples, frame.noise_levels);
  if (!frame.as_expected && !frame.as_before) return;
  measure_change(frame);
  if (frame.previous) measure_step(frame);
}

}  // namespace edge_vlm
