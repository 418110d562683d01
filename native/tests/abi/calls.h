// Every function of the ABI that takes a stream and an argument struct, callable through one signature.
#pragma once

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "cudamoe.h"

namespace cudamoe::test {

struct Call {
  std::string function;   // "cudamoe_gemm_forward"
  std::string arguments;  // "cudamoe_gemm_forward_args"
  uint32_t bytes;         // sizeof of it
  bool query;             // takes a result pointer as well
  cudamoe_status (*invoke)(cudamoe_stream* stream, const void* args, int64_t* result);
};

void PrintTo(const Call& call, std::ostream* out);

const std::vector<Call>& all_calls();

// An argument struct of any size as bytes, with struct_size set; under AddressSanitizer a read beyond its end stops the test.
class Arguments {
 public:
  // `size` bytes of `fill`.
  explicit Arguments(uint32_t size, unsigned char fill = 0);

  unsigned char* bytes() { return bytes_.get(); }
  void* pointer() { return bytes_.get(); }
  // What struct_size says; the memory stays as it is.
  void set_struct_size(uint32_t size);

 private:
  std::unique_ptr<unsigned char[]> bytes_;
};

}  // namespace cudamoe::test
