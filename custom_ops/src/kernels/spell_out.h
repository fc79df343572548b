// SPDX-License-Identifier: Apache-2.0
// Packed weights spelt out, a byte each, for kernels that use them for many rows. Included by each instruction set.
#pragma once
#include <cstdint>
#include <cstring>

#include "layout.h"
#include "vector8.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

// What is stored for weight 0 of a format whose codes count up from their smallest.
constexpr int stored_zero(WeightFormat format) {
  return format == WeightFormat::kInt2 ? 2 : format == WeightFormat::kInt3 ? 4 : format == WeightFormat::kInt4 ? 8 : 1;
}

// As many bytes as the widest register holds; longer vectors would be taken apart byte by byte.
#if defined(__AVX512BW__)
constexpr int kPartBytes = 64;
#elif defined(__AVX2__)
constexpr int kPartBytes = 32;
#else
constexpr int kPartBytes = 16;
#endif
typedef uint8_t Bytes __attribute__((vector_size(kPartBytes)));
typedef uint16_t Words __attribute__((vector_size(kPartBytes)));

EDGE_VLM_INLINE Bytes load_bytes(const uint8_t* p) {
  Bytes v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

EDGE_VLM_INLINE void store_bytes(uint8_t* p, Bytes v) { std::memcpy(p, &v, sizeof v); }

EDGE_VLM_INLINE Bytes bytes_of(uint8_t value) { return Bytes{} + value; }

// Bits first .. first + bits - 1 of each byte. Words are shifted, as x86 has no shift of bytes: the mask removes strays.
EDGE_VLM_INLINE Bytes bits_of(Bytes v, int first, int bits) {
  const uint8_t mask = static_cast<uint8_t>((1 << bits) - 1);
  return (Bytes)((Words)v >> first) & bytes_of(mask);
}

// `value` where v >= least, else 0.
EDGE_VLM_INLINE Bytes where_least(Bytes v, uint8_t least, uint8_t value) {
  return (Bytes)(v >= bytes_of(least)) & bytes_of(value);
}

// Base-3 digits by comparison. See packing.py, dense_bytes; bytes above 242 are never written and read as some codes.
EDGE_VLM_INLINE void spell_dense(const uint8_t* in, uint8_t added, uint8_t* out, size_t step) {
  const Bytes value = load_bytes(in), beyond = (Bytes)(value >= bytes_of(192)), rest = value - bytes_of(192);
  const Bytes last = where_least(rest, 17, 1) + where_least(rest, 34, 1);
  store_bytes(out + 4 * step, ((beyond & last) | (~beyond & bits_of(value, 6, 2))) + added);
  const Bytes above = rest + bytes_of(64) - where_least(rest, 17, 17) - where_least(rest, 34, 17);
  Bytes low = (beyond & above) | (~beyond & bits_of(value, 0, 6));
  uint8_t power = 27;
#pragma GCC unroll 3
  for (int plane = 3; plane > 0; plane--, power /= 3) {
    const uint8_t twice = static_cast<uint8_t>(2 * power);
    const Bytes digit = where_least(low, power, 1) + where_least(low, twice, 1);
    low -= where_least(low, power, power) + where_least(low, twice, power);
    store_bytes(out + plane * step, digit + added);
  }
  store_bytes(out, low + added);
}

EDGE_VLM_INLINE void spell_int3(const uint8_t* in, uint8_t added, uint8_t* out, size_t step) {
  const Bytes high = load_bytes(in + 2 * kBlockBytes);
#pragma GCC unroll 2
  for (int half = 0; half < 2; half++) {
    const Bytes low = load_bytes(in + half * kBlockBytes);
#pragma GCC unroll 4
    for (int plane = 0; plane < 4; plane++) {
      const Bytes upper = bits_of(high, 4 * half + plane, 1), twice = upper + upper;
      store_bytes(out + (4 * half + plane) * step, bits_of(low, 2 * plane, 2) + twice + twice + added);
    }
  }
}

template <WeightFormat FORMAT>
EDGE_VLM_INLINE void spell_planes(const uint8_t* in, uint8_t added, uint8_t* out, size_t step) {
  constexpr int kPlanes = block_width(FORMAT) / 4, kBits = 8 / kPlanes;
  const Bytes packed = load_bytes(in);
#pragma GCC unroll 8
  for (int plane = 0; plane < kPlanes; plane++) {
    const Bytes codes = kBits == 8 ? packed : bits_of(packed, plane * kBits, kBits);
    store_bytes(out + plane * step, (FORMAT == WeightFormat::kBinary ? codes + codes : codes) + added);
  }
}

// `blocks` blocks of 16 output rows as weight + offset; quads lie `step` bytes apart.
template <WeightFormat FORMAT>
static void spell_out(const uint8_t* in, int blocks, int offset, uint8_t* out, size_t step) {
  const uint8_t added = static_cast<uint8_t>(FORMAT == WeightFormat::kInt8 ? offset : offset - stored_zero(FORMAT));
  for (int block = 0; block < blocks; block++, in += block_bytes(FORMAT), out += block_width(FORMAT) / 4 * step) {
    for (int part = 0; part < kBlockBytes; part += kPartBytes) {
      if (FORMAT == WeightFormat::kTernaryDense)
        spell_dense(in + part, added, out + part, step);
      else if (FORMAT == WeightFormat::kInt3)
        spell_int3(in + part, added, out + part, step);
      else
        spell_planes<FORMAT>(in + part, added, out + part, step);
    }
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
