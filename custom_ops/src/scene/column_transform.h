// SPDX-License-Identifier: Apache-2.0
// Discrete Fourier transforms of short columns, all columns side by side: rows of numbers vectorise by themselves.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace edge_vlm {

// Complex numbers in rows, real and imaginary parts apart.
struct Plane {
  explicit Plane(size_t size) : re(size), im(size) {}
  std::vector<float> re, im;
};

// Stockham's transform, which needs no bit reversal, of columns of any one length.
class ColumnTransform {
 public:
  explicit ColumnTransform(int length);

  // Transforms the first (length, width) numbers of `plane`, into `plane`; `spare` is of the same size.
  void run(Plane& plane, Plane& spare, int width) const;

 private:
  // One butterfly: inputs `apart` each other, outputs `along`, each a run of `along` numbers; twiddles turn by `angle`.
  struct Butterfly {
    int64_t from, apart, to, along;
    int angle;
  };

  void two(const Plane& in, Plane& out, const Butterfly& b) const;
  void four(const Plane& in, Plane& out, const Butterfly& b) const;
  void seven(const Plane& in, Plane& out, const Butterfly& b) const;
  void odd(const Plane& in, Plane& out, const Butterfly& b, int radix) const;
  void write(Plane& out, int64_t at, int64_t along, const float* re, const float* im, int angle) const;

  int length_;
  std::vector<float> cos_, sin_;  // of 2 pi k / length
};

}  // namespace edge_vlm
