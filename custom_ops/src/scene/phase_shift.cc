// SPDX-License-Identifier: Apache-2.0
#include "phase_shift.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace edge_vlm {

namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int kReach = 2;  // pixels around the peak that its centre is taken of

// Complex numbers (rows, width), real and imaginary parts apart.
struct Plane {
  explicit Plane(size_t size) : re(size), im(size) {}
  std::vector<float> re, im;
};

int radix_of(int n) {
  if (n % 2 == 0) return n % 4 == 0 ? 4 : 2;
  for (int r = 3; r * r <= n; r += 2) {
    if (n % r == 0) return r;
  }
  return n;
}

// Discrete Fourier transforms along the columns, all columns side by side: Stockham's, which needs no bit reversal, for
// any length. Short rows of numbers vectorise by themselves.
class ColumnTransform {
 public:
  ColumnTransform(int length, int width) : length_(length), width_(width), cos_(length), sin_(length) {
    for (int k = 0; k < length; ++k) {
      cos_[k] = static_cast<float>(std::cos(2 * kPi * k / length));
      sin_[k] = static_cast<float>(std::sin(2 * kPi * k / length));
    }
  }

  // In place; `spare` is of the same size.
  void run(Plane& plane, Plane& spare) const {
    int stride = 1;
    for (int n = length_; n > 1;) {
      const int radix = radix_of(n);
      stage(plane, spare, n, radix, stride);
      std::swap(plane, spare);
      n /= radix, stride *= radix;
    }
  }

 private:
  void stage(const Plane& in, Plane& out, int n, int radix, int stride) const {
    const int part = n / radix, turn = length_ / n;  // twiddle w_n^p is table entry p * turn
    for (int p = 0; p < part; ++p) {
      for (int q = 0; q < stride; ++q) {
        const int64_t from = int64_t{q + stride * p} * width_, apart = int64_t{stride} * part * width_;
        const int64_t to = int64_t{q + stride * radix * p} * width_, along = int64_t{stride} * width_;
        if (radix == 2) two(in, out, from, apart, to, along, p * turn);
        else if (radix == 4) four(in, out, from, apart, to, along, p * turn);
        else if (radix == 7) seven(in, out, from, apart, to, along, p * turn);
        else odd(in, out, from, apart, to, along, p * turn, radix);
      }
    }
  }

  // One row of `out` from sums, turned by `angle` (an entry of the table).
  void write(Plane& out, int64_t at, const float* re, const float* im, int angle) const {
    const float c = cos_[angle % length_], s = sin_[angle % length_];
    float *__restrict to_re = &out.re[at], *__restrict to_im = &out.im[at];
    for (int x = 0; x < width_; ++x) {
      to_re[x] = re[x] * c + im[x] * s;
      to_im[x] = im[x] * c - re[x] * s;
    }
  }

  void two(const Plane& in, Plane& out, int64_t from, int64_t apart, int64_t to, int64_t along, int angle) const {
    const float *ar = &in.re[from], *ai = &in.im[from], *br = ar + apart, *bi = ai + apart;
    const float c = cos_[angle], s = sin_[angle];
    float *__restrict sum_re = &out.re[to], *__restrict sum_im = &out.im[to];
    float *__restrict dif_re = sum_re + along, *__restrict dif_im = sum_im + along;
    for (int x = 0; x < width_; ++x) {
      const float re = ar[x] - br[x], im = ai[x] - bi[x];
      sum_re[x] = ar[x] + br[x], sum_im[x] = ai[x] + bi[x];
      dif_re[x] = re * c + im * s, dif_im[x] = im * c - re * s;
    }
  }

  void four(const Plane& in, Plane& out, int64_t from, int64_t apart, int64_t to, int64_t along, int angle) const {
    const float *r0 = &in.re[from], *r1 = r0 + apart, *r2 = r1 + apart, *r3 = r2 + apart;
    const float *i0 = &in.im[from], *i1 = i0 + apart, *i2 = i1 + apart, *i3 = i2 + apart;
    float *__restrict re = &out.re[to], *__restrict im = &out.im[to];
    float *__restrict re1 = re + along, *__restrict re2 = re1 + along, *__restrict re3 = re2 + along;
    float *__restrict im1 = im + along, *__restrict im2 = im1 + along, *__restrict im3 = im2 + along;
    const int twice = 2 * angle % length_, thrice = 3 * angle % length_;
    const float c1 = cos_[angle], s1 = sin_[angle], c2 = cos_[twice], s2 = sin_[twice];
    const float c3 = cos_[thrice], s3 = sin_[thrice];
    for (int x = 0; x < width_; ++x) {
      const float ar = r0[x] + r2[x], ai = i0[x] + i2[x], br = r0[x] - r2[x], bi = i0[x] - i2[x];
      const float cr = r1[x] + r3[x], ci = i1[x] + i3[x], dr = i1[x] - i3[x], di = r3[x] - r1[x];
      re[x] = ar + cr, im[x] = ai + ci;  // (dr, di): x1 - x3 turned by -90 degrees
      const float er = br + dr, ei = bi + di, fr = ar - cr, fi = ai - ci, gr = br - dr, gi = bi - di;
      re1[x] = er * c1 + ei * s1, im1[x] = ei * c1 - er * s1;
      re2[x] = fr * c2 + fi * s2, im2[x] = fi * c2 - fr * s2;
      re3[x] = gr * c3 + gi * s3, im3[x] = gi * c3 - gr * s3;
    }
  }

  // Inputs j and radix - j meet with equal cosines and opposite sines, outputs k and radix - k likewise.
  void odd(const Plane& in, Plane& out, int64_t from, int64_t apart, int64_t to, int64_t along, int angle,
           int radix) const {
    std::vector<float> sums(4 * width_);
    float *__restrict even_re = sums.data(), *__restrict even_im = even_re + width_;
    float *__restrict turn_re = even_im + width_, *__restrict turn_im = turn_re + width_;
    const int step = length_ / radix;
    for (int k = 0; 2 * k <= radix; ++k) {
      std::copy_n(&in.re[from], width_, even_re), std::copy_n(&in.im[from], width_, even_im);
      std::fill_n(turn_re, 2 * width_, 0.0f);
      for (int j = 1; 2 * j < radix; ++j) {
        const float c = cos_[int64_t{j} * k % radix * step], s = sin_[int64_t{j} * k % radix * step];
        const float *ar = &in.re[from + j * apart], *ai = &in.im[from + j * apart];
        const float *br = &in.re[from + (radix - j) * apart], *bi = &in.im[from + (radix - j) * apart];
        for (int x = 0; x < width_; ++x) {
          even_re[x] += c * (ar[x] + br[x]), even_im[x] += c * (ai[x] + bi[x]);
          turn_re[x] += s * (ai[x] - bi[x]), turn_im[x] -= s * (ar[x] - br[x]);
        }
      }
      for (int x = 0; x < width_; ++x) {  // even + turn is output k, even - turn output radix - k
        const float re = even_re[x], im = even_im[x];
        even_re[x] = re + turn_re[x], even_im[x] = im + turn_im[x];
        turn_re[x] = re - turn_re[x], turn_im[x] = im - turn_im[x];
      }
      write(out, to + k * along, even_re, even_im, k * angle);
      if (k) write(out, to + (radix - k) * along, turn_re, turn_im, (radix - k) * angle);
    }
  }

  // As odd(), with all seven rows in registers: 224 pixels in patches of 16 or 14 make transforms of 56 or 64.
  void seven(const Plane& in, Plane& out, int64_t from, int64_t apart, int64_t to, int64_t along, int angle) const {
    constexpr int kHalf = 3;
    const float *re = &in.re[from], *im = &in.im[from];
    float *__restrict out_re = &out.re[to], *__restrict out_im = &out.im[to];
    float c[kHalf], s[kHalf], tc[7], ts[7];
    for (int k = 0; k < kHalf; ++k) c[k] = cos_[(k + 1) * (length_ / 7)], s[k] = sin_[(k + 1) * (length_ / 7)];
    for (int k = 0; k < 7; ++k) tc[k] = cos_[k * angle % length_], ts[k] = sin_[k * angle % length_];
    // Row k, j: the cosine and sine of 2 pi j k / 7, by symmetry one of three.
    const float cosines[kHalf][kHalf] = {{c[0], c[1], c[2]}, {c[1], c[2], c[0]}, {c[2], c[0], c[1]}};
    const float sines[kHalf][kHalf] = {{s[0], s[1], s[2]}, {s[1], -s[2], -s[0]}, {s[2], -s[0], s[1]}};
    for (int x = 0; x < width_; ++x) {
      const float r0 = re[x], r1 = re[x + apart], r2 = re[x + 2 * apart], r3 = re[x + 3 * apart];
      const float r4 = re[x + 4 * apart], r5 = re[x + 5 * apart], r6 = re[x + 6 * apart];
      const float i0 = im[x], i1 = im[x + apart], i2 = im[x + 2 * apart], i3 = im[x + 3 * apart];
      const float i4 = im[x + 4 * apart], i5 = im[x + 5 * apart], i6 = im[x + 6 * apart];
      const float ar[kHalf] = {r1 + r6, r2 + r5, r3 + r4}, ai[kHalf] = {i1 + i6, i2 + i5, i3 + i4};
      const float br[kHalf] = {r1 - r6, r2 - r5, r3 - r4}, bi[kHalf] = {i1 - i6, i2 - i5, i3 - i4};
      out_re[x] = r0 + ar[0] + ar[1] + ar[2], out_im[x] = i0 + ai[0] + ai[1] + ai[2];
#pragma GCC unroll 3
      for (int k = 0; k < kHalf; ++k) {
        const float *cs = cosines[k], *sn = sines[k];
        const float er = r0 + cs[0] * ar[0] + cs[1] * ar[1] + cs[2] * ar[2];
        const float ei = i0 + cs[0] * ai[0] + cs[1] * ai[1] + cs[2] * ai[2];
        const float tr = sn[0] * bi[0] + sn[1] * bi[1] + sn[2] * bi[2];
        const float ti = -(sn[0] * br[0] + sn[1] * br[1] + sn[2] * br[2]);
        const float yr = er + tr, yi = ei + ti, zr = er - tr, zi = ei - ti;
        const int64_t here = x + (k + 1) * along, there = x + (6 - k) * along;
        out_re[here] = yr * tc[k + 1] + yi * ts[k + 1], out_im[here] = yi * tc[k + 1] - yr * ts[k + 1];
        out_re[there] = zr * tc[6 - k] + zi * ts[6 - k], out_im[there] = zi * tc[6 - k] - zr * ts[6 - k];
      }
    }
  }

  int length_, width_;
  std::vector<float> cos_, sin_;
};

void transpose(const std::vector<float>& in, std::vector<float>& out, int rows, int cols) {
  for (int y = 0; y < rows; ++y) {
    for (int x = 0; x < cols; ++x) out[x * rows + y] = in[y * cols + x];
  }
}

// (height, width) to its transform, transposed: (width, height).
void transform(Plane& plane, Plane& spare, const ColumnTransform& down, const ColumnTransform& across, int height,
               int width) {
  down.run(plane, spare);
  transpose(plane.re, spare.re, height, width), transpose(plane.im, spare.im, height, width);
  std::swap(plane, spare);
  across.run(plane, spare);
}

// Square root of a raised cosine: borders would correlate with themselves.
std::vector<float> window(int length) {
  std::vector<float> weight(length, 1.0f);
  for (int i = 0; i < length && length > 1; ++i) {
    weight[i] = static_cast<float>(std::sqrt(0.5 * (1 - std::cos(2 * kPi * i / (length - 1)))));
  }
  return weight;
}

// The transform of before + i now, conjugated cross spectrum of unit length out: two real images for one transform.
void cross_phase(const Plane& both, Plane& cross, int rows, int cols) {
  for (int u = 0; u < rows; ++u) {
    const int mirror_row = (rows - u) % rows * cols;
    for (int v = 0; v < cols; ++v) {
      const int at = u * cols + v, mirror = mirror_row + (v ? cols - v : 0);
      const float ar = both.re[at] + both.re[mirror], ai = both.im[at] - both.im[mirror];  // twice `before`
      const float br = both.im[at] + both.im[mirror], bi = both.re[mirror] - both.re[at];  // twice `now`
      const float re = ar * br + ai * bi, im = ai * br - ar * bi;                          // before * conj(now)
      const float length = std::sqrt(re * re + im * im) + 1e-12f;
      cross.re[at] = re / length, cross.im[at] = -im / length;
    }
  }
}

}  // namespace

PhaseShift phase_shift(const float* before, const float* now, int height, int width) {
  const int size = height * width;
  const std::vector<float> rows = window(height), cols = window(width);
  Plane plane(size), spare(size);
  for (int y = 0, at = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x, ++at) {
      const float weight = rows[y] * cols[x];
      plane.re[at] = before[at] * weight, plane.im[at] = now[at] * weight;
    }
  }
  const ColumnTransform down(height, width), across(width, height);
  transform(plane, spare, down, across, height, width);
  cross_phase(plane, spare, width, height);
  std::swap(plane, spare);
  // The transform of the conjugate is the conjugate of the inverse, which is real.
  transform(plane, spare, across, down, width, height);

  const float* surface = plane.re.data();
  const int peak = static_cast<int>(std::max_element(surface, surface + size) - surface);
  const int peak_y = peak / width, peak_x = peak % width;
  double sum = 0, sum_x = 0, sum_y = 0;
  for (int y = -kReach; y <= kReach; ++y) {
    for (int x = -kReach; x <= kReach; ++x) {
      const double value = surface[(peak_y + y + height) % height * width + (peak_x + x + width) % width];
      sum += value, sum_x += value * x, sum_y += value * y;
    }
  }
  if (!(sum > 0)) return {0, 0, 0};
  const double x = peak_x - (2 * peak_x > width ? width : 0) + sum_x / sum;
  const double y = peak_y - (2 * peak_y > height ? height : 0) + sum_y / sum;
  return {static_cast<float>(-x), static_cast<float>(-y), static_cast<float>(sum / size)};
}

}  // namespace edge_vlm
