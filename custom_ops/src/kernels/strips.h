// SPDX-License-Identifier: Apache-2.0
// Where weights lie that are spelt out: memory of the thread, kept from call to call. Included by each instruction set.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace edge_vlm {
namespace EDGE_VLM_ISA {

// At least `bytes`, a multiple of 64, from a multiple of 64 on, contents undefined; valid until this thread's next call.
static uint8_t* thread_strips(size_t bytes) {
  struct Free {
    void operator()(uint8_t* memory) const { std::free(memory); }
  };
  static thread_local std::unique_ptr<uint8_t[], Free> memory;
  static thread_local size_t held = 0;
  if (held < bytes) {
    memory.reset(static_cast<uint8_t*>(std::aligned_alloc(64, bytes)));
    held = memory ? bytes : 0;
    if (!memory) throw std::bad_alloc();
  }
  return memory.get();
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
