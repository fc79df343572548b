// SPDX-License-Identifier: Apache-2.0
#include "column_transform.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace edge_vlm {

namespace {

constexpr double kPi = 3.14159265358979323846;

int radix_of(int n) {
  if (n % 2 == 0) return n % 4 == 0 ? 4 : 2;
  for (int r = 3; r * r <= n; r += 2) {
    if (n % r == 0) return r;
  }
  return n;
}

}  // namespace

ColumnTransform::ColumnTransform(int length) : length_(length), cos_(length), sin_(length) {
  for (int k = 0; k < length; ++k) {
    cos_[k] = static_cast<float>(std::cos(2 * kPi * k / length));
    sin_[k] = static_cast<float>(std::sin(2 * kPi * k / length));
  }
}

void ColumnTransform::run(Plane& plane, Plane& spare, int width) const {
  int64_t along = width;
  for (int n = length_; n > 1;) {
    const int radix = radix_of(n), part = n / radix, turn = length_ / n;  // twiddle w_n^p is table entry p * turn
    for (int p = 0; p < part; ++p) {
      const Butterfly b = {along * p, along * part, along * radix * p, along, p * turn};
      if (radix == 2) two(plane, spare, b);
      else if (radix == 4) four(plane, spare, b);
      else if (radix == 7) seven(plane, spare, b);
      else odd(plane, spare, b, radix);
    }
    std::swap(plane, spare);
    n = part, along *= radix;
  }
}

void ColumnTransform::two(const Plane& in, Plane& out, const Butterfly& b) const {
  const auto [from, apart, to, along, angle] = b;
  const float *ar = &in.re[from], *ai = &in.im[from], *br = ar + apart, *bi = ai + apart;
  const float c = cos_[angle], s = sin_[angle];
  float *__restrict sum_re = &out.re[to], *__restrict sum_im = &out.im[to];
  float *__restrict dif_re = sum_re + along, *__restrict dif_im = sum_im + along;
#pragma GCC ivdep
  for (int64_t x = 0; x < along; ++x) {
    const float re = ar[x] - br[x], im = ai[x] - bi[x];
    sum_re[x] = ar[x] + br[x], sum_im[x] = ai[x] + bi[x];
    dif_re[x] = re * c + im * s, dif_im[x] = im * c - re * s;
  }
}

void ColumnTransform::four(const Plane& in, Plane& out, const Butterfly& b) const {
  const auto [from, apart, to, along, angle] = b;
  const float *r0 = &in.re[from], *r1 = r0 + apart, *r2 = r1 + apart, *r3 = r2 + apart;
  const float *i0 = &in.im[from], *i1 = i0 + apart, *i2 = i1 + apart, *i3 = i2 + apart;
  float *__restrict re = &out.re[to], *__restrict im = &out.im[to];
  float *__restrict re1 = re + along, *__restrict re2 = re1 + along, *__restrict re3 = re2 + along;
  float *__restrict im1 = im + along, *__restrict im2 = im1 + along, *__restrict im3 = im2 + along;
  const int twice = 2 * angle % length_, thrice = 3 * angle % length_;
  const float c1 = cos_[angle], s1 = sin_[angle], c2 = cos_[twice], s2 = sin_[twice];
  const float c3 = cos_[thrice], s3 = sin_[thrice];
#pragma GCC ivdep
  for (int64_t x = 0; x < along; ++x) {
    const float ar = r0[x] + r2[x], ai = i0[x] + i2[x], br = r0[x] - r2[x], bi = i0[x] - i2[x];
    const float cr = r1[x] + r3[x], ci = i1[x] + i3[x], dr = i1[x] - i3[x], di = r3[x] - r1[x];
    re[x] = ar + cr, im[x] = ai + ci;  // (dr, di): x1 - x3 turned by -90 degrees
    const float er = br + dr, ei = bi + di, fr = ar - cr, fi = ai - ci, gr = br - dr, gi = bi - di;
    re1[x] = er * c1 + ei * s1, im1[x] = ei * c1 - er * s1;
    re2[x] = fr * c2 + fi * s2, im2[x] = fi * c2 - fr * s2;
    re3[x] = gr * c3 + gi * s3, im3[x] = gi * c3 - gr * s3;
  }
}

// As odd(), with all seven rows in registers: 224 pixels in patches of 16 or 14 make transforms of 56 or 64.
void ColumnTransform::seven(const Plane& in, Plane& out, const Butterfly& b) const {
  const auto [from, apart, to, along, angle] = b;
  constexpr int kHalf = 3;
  const float *re = &in.re[from], *im = &in.im[from];
  float *__restrict out_re = &out.re[to], *__restrict out_im = &out.im[to];
  float c[kHalf], s[kHalf], tc[7], ts[7];
  for (int k = 0; k < kHalf; ++k) c[k] = cos_[(k + 1) * (length_ / 7)], s[k] = sin_[(k + 1) * (length_ / 7)];
  for (int k = 0; k < 7; ++k) tc[k] = cos_[k * angle % length_], ts[k] = sin_[k * angle % length_];
  // Row k, j: the cosine and sine of 2 pi j k / 7, by symmetry one of three.
  const float cosines[kHalf][kHalf] = {{c[0], c[1], c[2]}, {c[1], c[2], c[0]}, {c[2], c[0], c[1]}};
  const float sines[kHalf][kHalf] = {{s[0], s[1], s[2]}, {s[1], -s[2], -s[0]}, {s[2], -s[0], s[1]}};
#pragma GCC ivdep
  for (int64_t x = 0; x < along; ++x) {
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

// Inputs j and radix - j meet with equal cosines and opposite sines, outputs k and radix - k likewise.
void ColumnTransform::odd(const Plane& in, Plane& out, const Butterfly& b, int radix) const {
  const auto [from, apart, to, along, angle] = b;
  std::vector<float> sums(4 * along);
  float *__restrict even_re = sums.data(), *__restrict even_im = even_re + along;
  float *__restrict turn_re = even_im + along, *__restrict turn_im = turn_re + along;
  const int step = length_ / radix;
  for (int k = 0; 2 * k <= radix; ++k) {
    std::copy_n(&in.re[from], along, even_re), std::copy_n(&in.im[from], along, even_im);
    std::fill_n(turn_re, 2 * along, 0.0f);
    for (int j = 1; 2 * j < radix; ++j) {
      const float c = cos_[int64_t{j} * k % radix * step], s = sin_[int64_t{j} * k % radix * step];
      const float *ar = &in.re[from + j * apart], *ai = &in.im[from + j * apart];
      const float *br = &in.re[from + (radix - j) * apart], *bi = &in.im[from + (radix - j) * apart];
      for (int x = 0; x < along; ++x) {
        even_re[x] += c * (ar[x] + br[x]), even_im[x] += c * (ai[x] + bi[x]);
        turn_re[x] += s * (ai[x] - bi[x]), turn_im[x] -= s * (ar[x] - br[x]);
      }
    }
    for (int x = 0; x < along; ++x) {  // even + turn is output k, even - turn output radix - k
      const float re = even_re[x], im = even_im[x];
      even_re[x] = re + turn_re[x], even_im[x] = im + turn_im[x];
      turn_re[x] = re - turn_re[x], turn_im[x] = im - turn_im[x];
    }
    write(out, to + k * along, along, even_re, even_im, k * angle);
    if (k) write(out, to + (radix - k) * along, along, turn_re, turn_im, (radix - k) * angle);
  }
}

// One row of `out` from sums, turned by `angle` (an entry of the table).
void ColumnTransform::write(Plane& out, int64_t at, int64_t along, const float* re, const float* im, int angle) const {
  const float c = cos_[angle % length_], s = sin_[angle % length_];
  float *__restrict to_re = &out.re[at], *__restrict to_im = &out.im[at];
  for (int x = 0; x < along; ++x) {
    to_re[x] = re[x] * c + im[x] * s;
    to_im[x] = im[x] * c - re[x] * s;
  }
}

}  // namespace edge_vlm
