// SPDX-License-Identifier: Apache-2.0
// The one function of event counting that is visible outside; everything it is given is checked here.
#include "event_pass.h"

namespace edge_vlm {

namespace {

bool in_order(const EventPass& pass) {
  return pass.struct_bytes == sizeof(EventPass) && pass.encoding >= 0 && pass.encoding < kEncodings && pass.width > 0 &&
         pass.width <= kLargestSide && pass.height > 0 && pass.height <= kLargestSide && pass.y >= kNotSeen &&
         pass.base_x >= kNotSeen && pass.time_high >= kNotSeen && pass.time_low >= kNotSeen;
}

}  // namespace

}  // namespace edge_vlm

// Tallies the events of a packet and, given `counts` (int32, height * width), adds them there. Returns 0, or -1 for
// arguments that cannot be: nothing has been touched then.
extern "C" __attribute__((visibility("default"))) int edge_vlm_count_events(edge_vlm::EventPass* pass,
                                                                            const uint8_t* data, int64_t bytes,
                                                                            int32_t* counts) {
  using namespace edge_vlm;
  if (pass == nullptr || !in_order(*pass) || bytes < 0 || (data == nullptr && bytes > 0)) return -1;
  if (pass->encoding == kEvt3) pass_over_evt3(*pass, data, bytes, counts);
  else if (pass->encoding == kLibcaerCmp) pass_over_libcaer_cmp(*pass, data, bytes, counts);
  else pass_over_records(*pass, data, bytes, counts);
  return 0;
}
