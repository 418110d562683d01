// The activation family.
#include "activation/activation.h"

#include "cuda/device.h"

namespace cudamoe::cuda {
namespace {

cudamoe_status forward(void* handle, const cudamoe_gated_product_forward_args& args) {
  const Stream& stream = stream_of(handle);
  const kernels::GatedProduct product{args.rows,
                                      args.width,
                                      args.a,
                                      args.b,
                                      args.a_row_stride,
                                      args.b_row_stride,
                                      static_cast<kernels::Activation>(args.activation),
                                      args.activation_slope,
                                      args.y,
                                      args.y_row_stride};
  return stream.check(kernels::gated_product(product, stream.get()), "cudamoe_gated_product_forward");
}

cudamoe_status backward(void* handle, const cudamoe_gated_product_backward_args& args) {
  const Stream& stream = stream_of(handle);
  const kernels::GatedProductGradient gradient{args.rows,
                                               args.width,
                                               args.a,
                                               args.b,
                                               args.dy,
                                               args.a_row_stride,
                                               args.b_row_stride,
                                               args.dy_row_stride,
                                               static_cast<kernels::Activation>(args.activation),
                                               args.activation_slope,
                                               args.da,
                                               args.db,
                                               args.da_row_stride,
                                               args.db_row_stride,
                                               args.accumulate_a,
                                               args.accumulate_b};
  return stream.check(kernels::gated_product_gradient(gradient, stream.get()), "cudamoe_gated_product_backward");
}

}  // namespace

void register_activation(Backend& table) {
  table.gated_product_forward = forward;
  table.gated_product_backward = backward;
}

}  // namespace cudamoe::cuda
