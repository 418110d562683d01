#include "abi/header.h"

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <stdexcept>

namespace cudamoe::test {
namespace {

std::string read_header() {
  std::ifstream file(CUDAMOE_HEADER);
  if (!file) throw std::runtime_error("cannot read " CUDAMOE_HEADER);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string without_comments(const std::string& text) {
  return std::regex_replace(text, std::regex(R"(/\*[^*]*\*+(?:[^/*][^*]*\*+)*/)"), "");
}

// Comments of several lines on one line, so that a field's comment is the rest of its line.
std::string with_one_line_comments(std::string text) {
  for (size_t begin = text.find("/*"); begin != std::string::npos; begin = text.find("/*", begin + 2)) {
    const size_t end = text.find("*/", begin);
    std::replace(text.begin() + static_cast<std::ptrdiff_t>(begin), text.begin() + static_cast<std::ptrdiff_t>(std::min(end, text.size())),
                 '\n', ' ');
  }
  return text;
}

int64_t type_bytes(const std::string& type) {
  static const std::map<std::string, int64_t> kBytes = {{"char", 1},     {"int32_t", 4}, {"uint32_t", 4}, {"float", 4},
                                                        {"uint64_t", 8}, {"int64_t", 8}, {"double", 8}};
  const auto found = kBytes.find(type);
  if (found == kBytes.end()) throw std::runtime_error("cudamoe.h: a field has the unknown type " + type);
  return found->second;
}

// "const float* bias" or "int64_t rows, n, k" or "char name[16]"; `comment` is what follows the declaration on its line.
void add_fields(const std::string& declaration, const std::string& comment, Struct& into) {
  static const std::regex kDeclaration(R"(^\s*(?:const\s+)?(\w+)(\s*\*)?\s+([\w\s,\[\]]+)$)");
  std::smatch match;
  if (!std::regex_match(declaration, match, kDeclaration))
    throw std::runtime_error("cudamoe.h: cannot read the field \"" + declaration + "\"");
  std::istringstream names(match[3]);
  for (std::string name; std::getline(names, name, ',');) {
    static const std::regex kName(R"(^\s*(\w+)\s*(?:\[(\d+)\])?\s*$)");
    std::smatch parts;
    if (!std::regex_match(name, parts, kName)) throw std::runtime_error("cudamoe.h: cannot read the field name \"" + name + "\"");
    Field field;
    field.type = match[1];
    field.name = parts[1];
    field.pointer = match[2].matched;
    field.host = field.pointer && (field.type.rfind("cudamoe_", 0) == 0 || comment.find("host") != std::string::npos);
    const int64_t element = field.pointer ? static_cast<int64_t>(sizeof(void*)) : type_bytes(field.type);
    field.bytes = element * (parts[2].matched ? std::stoll(parts[2]) : 1);
    field.offset = (into.bytes + element - 1) / element * element;
    into.bytes = field.offset + field.bytes;
    into.fields.push_back(field);
  }
}

Struct parse_struct(const std::string& name, const std::string& body) {
  Struct result;
  result.name = name;
  // One declaration ends at a semicolon; its comment is on the rest of that line.
  static const std::regex kField(R"(([^;]+);([^\n]*))");
  for (std::sregex_iterator it(body.begin(), body.end(), kField), end; it != end; ++it) {
    add_fields(without_comments((*it)[1]), (*it)[2], result);
  }
  int64_t alignment = 1;
  for (const Field& field : result.fields) alignment = std::max(alignment, field.pointer ? int64_t{8} : type_bytes(field.type));
  result.bytes = (result.bytes + alignment - 1) / alignment * alignment;
  return result;
}

Header parse() {
  const std::string text = with_one_line_comments(read_header());
  Header result;
  const std::string code = without_comments(text);
  static const std::regex kFunction(R"(CUDAMOE_API\s[^;()]*?(cudamoe_\w+)\s*\()");
  for (std::sregex_iterator it(code.begin(), code.end(), kFunction), end; it != end; ++it) result.functions.push_back((*it)[1]);
  static const std::regex kStruct(R"(typedef struct (cudamoe_\w+) \{([^}]*)\} (\w+);)");
  for (std::sregex_iterator it(text.begin(), text.end(), kStruct), end; it != end; ++it) {
    result.structs.push_back(parse_struct((*it)[1], (*it)[2]));
  }
  return result;
}

}  // namespace

const Struct* Header::find(const std::string& name) const {
  for (const Struct& candidate : structs) {
    if (candidate.name == name) return &candidate;
  }
  return nullptr;
}

const Header& header() {
  static const Header parsed = parse();
  return parsed;
}

}  // namespace cudamoe::test
