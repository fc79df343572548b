// SPDX-License-Identifier: Apache-2.0
#include "operator.h"
#include "positions.h"

namespace edge_vlm {
namespace {

class AttentionOperator final : public Operator {
 public:
  AttentionOperator(const AttentionAttributes& a, DelegateState& state) : id_(a.cache_id), state_(state) {
    expect_range("capacity", a.capacity, 1, kMaxRows);
    expect_range("query_heads", a.query_heads, 1, 1024);
    expect_range("kv_heads", a.kv_heads, 1, a.query_heads);
    expect_range("head_dim", a.head_dim, 1, 1024);
    expect_range("causal", a.causal, 0, 1);
    if (a.query_heads % a.kv_heads != 0)
      throw Fault("%d query heads are not a multiple of %d kv heads", a.query_heads, a.kv_heads);
    if (!(a.rope_theta >= 0)) throw Fault("attribute rope_theta is %g, expected at least 0", a.rope_theta);
    if (a.rope_theta > 0 && a.head_dim % 2 != 0) throw Fault("rotary embedding needs an even head_dim, not %d", a.head_dim);
    shape_ = {a.capacity, a.query_heads, a.kv_heads, a.head_dim, a.causal == 1, a.rope_theta, a.scale};
  }

  void prepare(const Node& node) override {
    node.expect_inputs(2);
    const int rows_width = (shape_.query_heads + 2 * shape_.kv_heads) * shape_.head_dim;
    node.expect(0, "qkv", kTfLiteFloat32, {kAnySize, rows_width});
    node.expect(1, "positions", kTfLiteInt32, {node.rows(0)});
    cache_ = &state_.attention_cache(id_, shape_);
    node.resize_output(node.rows(0), shape_.query_heads * shape_.head_dim);
  }

  void eval(const Node& node) override {
    AttendArgs args{};
    args.cache = cache_;
    args.rows = node.rows(0);
    args.positions = node.data<int32_t>(1);
    if (args.rows == 0) return;
    expect_positions(args.positions, args.rows, shape_.capacity);
    if (shape_.causal) expect_continuation(args.positions, args.rows);
    const size_t width = static_cast<size_t>(shape_.query_heads) * shape_.head_dim;
    float* queries = static_cast<float*>(state_.queries.reserve(sizeof(float) * args.rows * width));
    cache_->store(node.data<float>(0), args.positions, args.rows, queries);
    args.queries = queries;
    args.y = node.output_data();
    share(args, 2 * static_cast<int64_t>(args.rows) * cache_->end * static_cast<int64_t>(width));
  }

 private:
  void expect_continuation(const int32_t* positions, int rows) const {
    if (positions[0] > cache_->end) throw Fault("position %d leaves a gap after the %d cached", positions[0], cache_->end);
    for (int row = 1; row < rows; row++)
      if (positions[row] != positions[row - 1] + 1)
        throw Fault("position %d follows %d, expected consecutive ones", positions[row], positions[row - 1]);
  }

  void share(const AttendArgs& args, int64_t macs) {
    const size_t scores = static_cast<size_t>(kQueryTile) * cache_->padded_capacity;  // per thread
    float* memory = static_cast<float*>(state_.scores.reserve(sizeof(float) * scores * state_.pool.threads()));
    state_.pool.share(attention_tiles(shape_, args.rows), macs, [&](int worker, int first, int last) {
      AttendArgs own = args;
      own.scores = memory + worker * scores;
      state_.kernels.attend(own, first, last);
    });
  }

  int id_;
  AttentionShape shape_{};
  DelegateState& state_;
  AttentionCache* cache_ = nullptr;
};

}  // namespace

OperatorKind attention_kind() { return operator_kind<AttentionAttributes, AttentionOperator>(); }

}  // namespace edge_vlm
