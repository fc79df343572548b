// SPDX-License-Identifier: Apache-2.0
#include "phase_shift.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "column_transform.h"

namespace edge_vlm {

namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int kReach = 2;  // pixels around the peak that its centre is taken of

// Square root of a raised cosine: borders would correlate with themselves.
std::vector<float> window(int length) {
  std::vector<float> weight(length, 1.0f);
  for (int i = 0; i < length && length > 1; ++i) {
    weight[i] = static_cast<float>(std::sqrt(0.5 * (1 - std::cos(2 * kPi * i / (length - 1)))));
  }
  return weight;
}

void transpose(const float* in, float* out, int rows, int cols) {
  for (int y = 0; y < rows; ++y) {
    for (int x = 0; x < cols; ++x) out[x * rows + y] = in[y * cols + x];
  }
}

// All that depends on the size of the images alone, and room to work in.
class PhaseCorrelation {
 public:
  PhaseCorrelation(int height, int width)
      : height_(height), width_(width), window_y_(window(height)), window_x_(window(width)), along_y_(height),
        along_x_(width), plane_(height * (width + 1)), spare_(height * (width + 1)) {}

  bool is_of(int height, int width) const { return height == height_ && width == width_; }

  PhaseShift find(const float* before, const float* now) {
    take(before, now);
    along_y_.run(plane_, spare_, width_);
    turn(height_, width_);
    along_x_.run(plane_, spare_, height_);
    cross_phase();
    turn(half(), height_);
    along_y_.run(plane_, spare_, half());
    turn(height_, half());
    pair_rows();
    along_x_.run(plane_, spare_, pairs());
    return peak();
  }

 private:
  // The spectrum of a real image is told by these of its `width_` columns.
  int half() const { return width_ / 2 + 1; }
  // Two real rows are one complex row.
  int pairs() const { return (height_ + 1) / 2; }

  // before + i now: two real images for one transform.
  void take(const float* before, const float* now) {
    for (int y = 0, at = 0; y < height_; ++y) {
      for (int x = 0; x < width_; ++x, ++at) {
        const float weight = window_y_[y] * window_x_[x];
        plane_.re[at] = before[at] * weight, plane_.im[at] = now[at] * weight;
      }
    }
  }

  void turn(int rows, int cols) {
    transpose(plane_.re.data(), spare_.re.data(), rows, cols), transpose(plane_.im.data(), spare_.im.data(), rows, cols);
    std::swap(plane_, spare_);
  }

  // (width, height) spectrum of before + i now to the conjugated cross spectrum of unit length (half, height). The
  // transform of the conjugate is the conjugate of the inverse, which is real.
  void cross_phase() {
    for (int v = 0; v < half(); ++v) {
      const int mirror = (width_ - v) % width_ * height_;
      const float *re = &plane_.re[v * height_], *im = &plane_.im[v * height_];
      // The mirrored row backwards, its first number first: then all are side by side.
      float *__restrict back_re = &spare_.re[half() * height_], *__restrict back_im = &spare_.im[half() * height_];
      back_re[0] = plane_.re[mirror], back_im[0] = plane_.im[mirror];
      std::reverse_copy(&plane_.re[mirror + 1], plane_.re.data() + mirror + height_, back_re + 1);
      std::reverse_copy(&plane_.im[mirror + 1], plane_.im.data() + mirror + height_, back_im + 1);
      float *__restrict to_re = &spare_.re[v * height_], *__restrict to_im = &spare_.im[v * height_];
      for (int u = 0; u < height_; ++u) {
        const float ar = re[u] + back_re[u], ai = im[u] - back_im[u];  // twice `before`
        const float br = im[u] + back_im[u], bi = back_re[u] - re[u];  // twice `now`
        const float cross_re = ar * br + ai * bi, cross_im = ai * br - ar * bi;  // before * conj(now)
        const float length = std::sqrt(cross_re * cross_re + cross_im * cross_im) + 1e-12f;
        to_re[u] = cross_re / length, to_im[u] = -cross_im / length;
      }
    }
    std::swap(plane_, spare_);
  }

  // (half, height) to (width, pairs): row v of the other half is the conjugate of row width - v, and rows of the image y
  // and y + pairs, both real, become one complex row.
  void pair_rows() {
    const int n = pairs();
    for (int v = 0; v < width_; ++v) {
      const bool kept = v < half();
      const float sign = kept ? 1.0f : -1.0f;
      const int row = (kept ? v : width_ - v) * height_;
      const float *re = &plane_.re[row], *im = &plane_.im[row];
      float *__restrict to_re = &spare_.re[v * n], *__restrict to_im = &spare_.im[v * n];
      for (int y = 0; y + n < height_; ++y) {
        to_re[y] = re[y] - sign * im[y + n], to_im[y] = sign * im[y] + re[y + n];
      }
      if (height_ % 2) to_re[n - 1] = re[n - 1], to_im[n - 1] = sign * im[n - 1];
    }
    std::swap(plane_, spare_);
  }

  // The correlation of before and now, where the content has moved by minus (y, x).
  float surface(int y, int x) const {
    return y < pairs() ? plane_.re[x * pairs() + y] : plane_.im[x * pairs() + y - pairs()];
  }

  PhaseShift peak() const {
    const int n = width_ * pairs();
    const bool second = *std::max_element(plane_.im.begin(), plane_.im.begin() + n) >
                        *std::max_element(plane_.re.begin(), plane_.re.begin() + n);
    const auto& values = second ? plane_.im : plane_.re;
    const int at = static_cast<int>(std::max_element(values.begin(), values.begin() + n) - values.begin());
    const int peak_y = at % pairs() + (second ? pairs() : 0), peak_x = at / pairs();
    double sum = 0, sum_x = 0, sum_y = 0;
    for (int y = -kReach; y <= kReach; ++y) {
      for (int x = -kReach; x <= kReach; ++x) {
        const double value = surface((peak_y + y + kReach * height_) % height_, (peak_x + x + kReach * width_) % width_);
        sum += value, sum_x += value * x, sum_y += value * y;
      }
    }
    if (!(sum > 0)) return {0, 0, 0};
    const double x = peak_x - (2 * peak_x > width_ ? width_ : 0) + sum_x / sum;
    const double y = peak_y - (2 * peak_y > height_ ? height_ : 0) + sum_y / sum;
    return {static_cast<float>(-x), static_cast<float>(-y), static_cast<float>(sum / height_ / width_)};
  }

  int height_, width_;
  std::vector<float> window_y_, window_x_;
  ColumnTransform along_y_, along_x_;
  Plane plane_, spare_;
};

}  // namespace

PhaseShift phase_shift(const float* before, const float* now, int height, int width) {
  // A stream's images are of one size.
  thread_local PhaseCorrelation correlation(height, width);
  if (!correlation.is_of(height, width)) correlation = PhaseCorrelation(height, width);
  return correlation.find(before, now);
}

}  // namespace edge_vlm
