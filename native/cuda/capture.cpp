// Captures of a stream, as CUDA graphs.
#include "cuda/device.h"

namespace cudamoe::cuda {
namespace {

cudamoe_status begin(void* handle) {
  Stream& stream = stream_of(handle);
  // Relaxed: other threads may go on allocating, and the capture may end on another thread than it began on.
  const auto set_captured = [&](bool captured) {
    stream.device().memory().set_captured(stream.get(), captured);
    stream.set_captured(captured);
  };
  set_captured(true);
  const cudaError_t error = cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeRelaxed);
  if (error != cudaSuccess) set_captured(false);
  return stream.device().check(error, "cudamoe_capture_begin", "beginning the capture");
}

cudamoe_status end(void* handle, void** capture) {
  Stream& stream = stream_of(handle);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  cudaError_t error = cudaStreamEndCapture(stream.get(), &graph);
  stream.device().memory().set_captured(stream.get(), false);
  stream.set_captured(false);
  if (error == cudaSuccess) error = cudaGraphInstantiate(&executable, graph, 0);
  if (graph != nullptr) cudaGraphDestroy(graph);
  if (error == cudaSuccess) *capture = executable;
  return stream.device().check(error, "cudamoe_capture_end", "the capture, or an operation in it,");
}

cudamoe_status run(void* handle, void* capture) {
  const Stream& stream = stream_of(handle);
  return stream.device().check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(capture), stream.get()), "cudamoe_capture_launch",
                               "launching the capture");
}

// What is under way ends before the runtime frees it.
void destroy(void* handle, void* capture) {
  stream_of(handle);
  cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(capture));
}

}  // namespace

void register_capture(Backend& table) {
  table.capture_begin = begin;
  table.capture_end = end;
  table.capture_launch = run;
  table.capture_destroy = destroy;
}

}  // namespace cudamoe::cuda
