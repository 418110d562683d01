// What cudamoe.h declares, read from its text: the tests of the ABI hold the library against the header that users have.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cudamoe::test {

struct Field {
  std::string type;  // without const and *
  std::string name;
  bool pointer = false;
  bool host = false;  // a pointer to host memory: to structs, or so commented
  int64_t offset = 0;
  int64_t bytes = 0;  // of the whole field
};

struct Struct {
  std::string name;
  int64_t bytes = 0;  // by the layout rules of C on 64-bit machines
  std::vector<Field> fields;
};

struct Header {
  std::vector<std::string> functions;
  std::vector<Struct> structs;

  // Null when the header declares no such struct.
  const Struct* find(const std::string& name) const;
};

// Throws std::runtime_error on a declaration that this small parser does not know.
const Header& header();

}  // namespace cudamoe::test
