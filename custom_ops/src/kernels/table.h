// SPDX-License-Identifier: Apache-2.0
// The last include of an instruction set's file: its table of kernels.
#pragma once
#include "attention.h"
#include "attention_store.h"
#include "kernels.h"
#include "linear.h"
#include "pointwise.h"
#include "summarise.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

static bool reads_dense() { return reads_packed(WeightFormat::kTernaryDense); }

#ifdef EDGE_VLM_TILES
constexpr int kPanelRows = 1;  // tiles take rows as they are
#else
constexpr int kPanelRows = kRowTile;
#endif

static constexpr Kernels make_table(const char* isa) {
  return {isa, kGroupRowTile, kPanelRows, quantize, norm_quantize, linear, norm, swiglu, store, attend, summarise, reads_dense};
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
