// SPDX-License-Identifier: Apache-2.0
// The linear kernel: integer products from an instruction set's accumulate_*.h, then scales, bias, activation, residual.
// Few rows read the packed weights as they come from memory (linear_row.h); many rows share weights that are spelt out
// once (linear_many.h). Included by each instruction set after its accumulate_*.h.
#pragma once
#include "kernels.h"
#include "linear_many.h"
#include "linear_row.h"
#include "quantize.h"
#ifdef EDGE_VLM_TILES
#include "tiles_amx.h"
#endif

namespace edge_vlm {
namespace EDGE_VLM_ISA {

template <WeightFormat FORMAT>
static void linear_of(const LinearArgs& args, const QuantizedRows& x, int first_block, int last_block) {
#ifdef EDGE_VLM_TILES
  if (args.rows >= kManyRows && args.group_scale == nullptr) return linear_tiles<FORMAT>(args, x, first_block, last_block);
#endif
  if (x.panel_rows > 1) return linear_many<FORMAT>(args, x, first_block, last_block);
  linear_row<FORMAT>(args, x, first_block, last_block);
}

static void linear(const LinearArgs& args, const QuantizedRows& x, int first_block, int last_block) {
  switch (args.format) {
    case WeightFormat::kTernary: return linear_of<WeightFormat::kTernary>(args, x, first_block, last_block);
    case WeightFormat::kBinary: return linear_of<WeightFormat::kBinary>(args, x, first_block, last_block);
    case WeightFormat::kInt2: return linear_of<WeightFormat::kInt2>(args, x, first_block, last_block);
    case WeightFormat::kInt3: return linear_of<WeightFormat::kInt3>(args, x, first_block, last_block);
    case WeightFormat::kInt4: return linear_of<WeightFormat::kInt4>(args, x, first_block, last_block);
    case WeightFormat::kTernaryDense: return linear_of<WeightFormat::kTernaryDense>(args, x, first_block, last_block);
    default: return linear_of<WeightFormat::kInt8>(args, x, first_block, last_block);
  }
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
