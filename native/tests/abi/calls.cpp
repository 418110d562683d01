#include "abi/calls.h"

#include <algorithm>
#include <cstring>

#include "core/backend.h"

namespace cudamoe::test {

void PrintTo(const Call& call, std::ostream* out) { *out << call.function; }

const std::vector<Call>& all_calls() {
  static const std::vector<Call> calls = {
#define CUDAMOE_CALL(name)                                                           \
  {"cudamoe_" #name, "cudamoe_" #name "_args", sizeof(cudamoe_##name##_args), false, \
   [](cudamoe_stream* stream, const void* args, int64_t*) {                          \
     return cudamoe_##name(stream, static_cast<const cudamoe_##name##_args*>(args)); \
   }},
      CUDAMOE_OPERATIONS(CUDAMOE_CALL)
#undef CUDAMOE_CALL
#define CUDAMOE_CALL(name, operation)                                                             \
  {"cudamoe_" #name, "cudamoe_" #operation "_args", sizeof(cudamoe_##operation##_args), true,     \
   [](cudamoe_stream* stream, const void* args, int64_t* result) {                                \
     return cudamoe_##name(stream, static_cast<const cudamoe_##operation##_args*>(args), result); \
   }},
          CUDAMOE_QUERIES(CUDAMOE_CALL)
#undef CUDAMOE_CALL
  };
  return calls;
}

Arguments::Arguments(uint32_t size, unsigned char fill) : bytes_(new unsigned char[std::max<size_t>(size, sizeof(uint32_t))]) {
  std::memset(bytes_.get(), fill, std::max<size_t>(size, sizeof(uint32_t)));
  set_struct_size(size);
}

void Arguments::set_struct_size(uint32_t size) { std::memcpy(bytes_.get(), &size, sizeof size); }

}  // namespace cudamoe::test
