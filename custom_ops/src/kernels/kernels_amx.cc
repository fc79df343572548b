// SPDX-License-Identifier: Apache-2.0
#define EDGE_VLM_ISA amx
#include "kernels.h"
#ifdef EDGE_VLM_AMX_COMPILES
#pragma GCC target("amx-tile,amx-int8")
#define EDGE_VLM_TILES
#include "accumulate_avx512vnni.h"
#include "table.h"

namespace edge_vlm {
extern const Kernels amx_kernels;
const Kernels amx_kernels = amx::make_table("amx");
}  // namespace edge_vlm
#endif
