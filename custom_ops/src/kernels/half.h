// SPDX-License-Identifier: Apache-2.0
// IEEE half precision as a storage type, without help from the CPU or the compiler.
#pragma once
#include <cstdint>
#include <cstring>

namespace edge_vlm {

struct Half {
  uint16_t bits;
};

// Nearest, ties to even; beyond +-65504 the largest half.
inline Half to_half(float x) {
  constexpr float kLargest = 65504.0f, kSmallestNormal = 6.103515625e-5f;
  x = x > kLargest ? kLargest : x < -kLargest ? -kLargest : x;
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000u;
  bits &= 0x7fffffffu;
  float magnitude;
  std::memcpy(&magnitude, &bits, sizeof magnitude);
  const float shifted = magnitude + 0.5f;  // its last bits count in steps of the smallest half
  uint32_t small;
  std::memcpy(&small, &shifted, sizeof small);
  const uint32_t normal = (bits + 0xfffu + (bits >> 13 & 1u) - (112u << 23)) >> 13;
  return {static_cast<uint16_t>(sign | (magnitude < kSmallestNormal ? small - 0x3f000000u : normal))};
}

}  // namespace edge_vlm
