// SPDX-License-Identifier: Apache-2.0
// The compressed packets of iniVation cameras. Each stands on its own: registers begin at 0.
#include "event_pass.h"

namespace edge_vlm {

namespace {

enum Word { kTimeHigh, kTimeLow, kAddrX, kAddrY, kVectBaseY, kVect8 };

template <bool kAdd>
void read(EventPass& pass, const uint8_t* data, int64_t words, int32_t* counts) {
  Sink<kAdd> sink(pass, counts);
  int64_t x = 0, base_y = 0, high = 0, low = 0;
  for (int64_t i = 0; i < words; i++) {
    const uint16_t word = load<uint16_t>(data + 2 * i, kHostIsBigEndian);
    const int64_t value = word & 0xFFF, t_us = pass.time_base + (high << 12 | low);
    switch (word >> 12) {
      case kTimeHigh: high = value; break;
      case kTimeLow: low = value; break;
      case kAddrX: x = value & 0x7FF; break;
      case kAddrY: sink.one(x, value & 0x7FF, t_us); break;
      case kVectBaseY: base_y = value & 0x7FF; break;
      case kVect8:
        for (int64_t bits = value & 0xFF; bits != 0; bits &= bits - 1) sink.one(x, base_y + __builtin_ctzll(bits), t_us);
        base_y += 8;
        break;
      default: break;
    }
  }
  sink.finish(pass, 1);
}

}  // namespace

void pass_over_libcaer_cmp(EventPass& pass, const uint8_t* data, int64_t bytes, int32_t* counts) {
  if (counts == nullptr) read<false>(pass, data, bytes / 2, counts);
  else read<true>(pass, data, bytes / 2, counts);
}

}  // namespace edge_vlm
