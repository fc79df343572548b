// SPDX-License-Identifier: Apache-2.0
#include "describe.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace edge_vlm {

namespace {

constexpr int kChannels = 3;
constexpr int kWhole = 256;  // the weights of a cell's pixels add up to that, so that sums of rows fit into 16 bits
constexpr int kMostPixels = 128;

// The pixels under one cell, along one side: the first, and how much of the cell each covers.
struct Span {
  int first;
  std::vector<uint16_t> weights;
};

std::vector<Span> spans_of(int pixels, int cells) {
  std::vector<Span> spans;
  const double size = static_cast<double>(pixels) / cells;
  for (int cell = 0; cell < cells; ++cell) {
    const double from = cell * size, to = (cell + 1) * size;
    Span span{static_cast<int>(from), {}};
    int given = 0;  // rounded sums, not rounded weights: they add up
    for (int pixel = span.first; pixel < to - 1e-9 && pixel < pixels; ++pixel) {
      const double covered = (std::min(to, pixel + 1.0) - from) / size;
      const int sum = static_cast<int>(std::lround(covered * kWhole));
      span.weights.push_back(static_cast<uint16_t>(sum - given)), given = sum;
    }
    spans.push_back(span);
  }
  return spans;
}

// All that depends on the sizes alone, and room for a row.
struct Cells {
  Cells(int height, int width, int rows, int cols)
      : height(height), width(width), rows(rows), cols(cols), down(spans_of(height, rows * kCellsOfPatch)),
        across(spans_of(width, cols * kCellsOfPatch)), sums(kChannels * width) {}

  bool are_of(int h, int w, int r, int c) const { return h == height && w == width && r == rows && c == cols; }

  int height, width, rows, cols;
  std::vector<Span> down, across;
  std::vector<uint16_t> sums;
};

// The pixels of a row of cells, added up from top to bottom.
void add_rows(const uint8_t* image, const Span& span, int values, uint16_t* __restrict sums) {
  std::fill_n(sums, values, uint16_t{0});
  const uint8_t* row = image + int64_t{span.first} * values;
  for (const uint16_t weight : span.weights) {
    for (int i = 0; i < values; ++i) sums[i] = static_cast<uint16_t>(sums[i] + weight * row[i]);
    row += values;
  }
}

void mean_of(const uint16_t* sums, const Span& span, float* colour) {
  int32_t red = 0, green = 0, blue = 0;
  const uint16_t* pixel = sums + kChannels * span.first;
  for (const int32_t weight : span.weights) {
    red += weight * pixel[0], green += weight * pixel[1], blue += weight * pixel[2];
    pixel += kChannels;
  }
  constexpr float kScale = 1.0f / (kWhole * kWhole);
  colour[0] = red * kScale, colour[1] = green * kScale, colour[2] = blue * kScale;
}

}  // namespace

bool can_describe(int height, int width, int rows, int cols) {
  const int down = rows * kCellsOfPatch, across = cols * kCellsOfPatch;
  return height >= down && width >= across && height <= kMostPixels * down && width <= kMostPixels * across;
}

void describe(const uint8_t* image, int height, int width, int rows, int cols, float* descriptors) {
  // A stream's images are of one size.
  thread_local Cells cells(height, width, rows, cols);
  if (!cells.are_of(height, width, rows, cols)) cells = Cells(height, width, rows, cols);
  for (int y = 0; y < rows * kCellsOfPatch; ++y) {
    add_rows(image, cells.down[y], kChannels * width, cells.sums.data());
    float* row = descriptors + int64_t{kChannels} * kCellsOfPatch * (y / kCellsOfPatch * cols * kCellsOfPatch + y % kCellsOfPatch);
    for (int x = 0; x < cols * kCellsOfPatch; ++x) {
      const int64_t patch = int64_t{kChannels} * kCellsOfPatch * kCellsOfPatch * (x / kCellsOfPatch);
      mean_of(cells.sums.data(), cells.across[x], row + patch + kChannels * (x % kCellsOfPatch));
    }
  }
}

}  // namespace edge_vlm
