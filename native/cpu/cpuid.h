// The CPUID instruction, for what Highway does not ask.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#if defined(_MSC_VER)
#include <intrin.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#endif

namespace cudamoe::cpu {

struct CpuidRegisters {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// All zero when the processor has no such leaf (or no such instruction).
inline CpuidRegisters cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  CpuidRegisters out;
#if defined(_MSC_VER) && defined(_M_X64)
  int highest[4], values[4];
  __cpuid(highest, static_cast<int>(leaf & 0x80000000u));
  if (static_cast<uint32_t>(highest[0]) < leaf) return out;
  __cpuidex(values, static_cast<int>(leaf), static_cast<int>(subleaf));
  std::memcpy(&out, values, sizeof out);
#elif defined(__x86_64__)
  if (__get_cpuid_count(leaf, subleaf, &out.eax, &out.ebx, &out.ecx, &out.edx) == 0) return {};
#else
  static_cast<void>(leaf);
  static_cast<void>(subleaf);
#endif
  return out;
}

// "GenuineIntel", "AuthenticAMD", ...
inline std::string processor_vendor() {
  const CpuidRegisters leaf = cpuid(0);
  const uint32_t parts[3] = {leaf.ebx, leaf.edx, leaf.ecx};
  char text[sizeof parts + 1] = {};
  std::memcpy(text, parts, sizeof parts);
  return text;
}

// The processor's name as it gives it itself, without padding; empty when it gives none.
inline std::string processor_brand() {
  CpuidRegisters parts[3];
  for (uint32_t i = 0; i < 3; ++i) parts[i] = cpuid(0x80000002u + i);
  char text[sizeof parts + 1] = {};
  std::memcpy(text, parts, sizeof parts);
  std::string name = text;
  name.erase(0, name.find_first_not_of(' '));
  name.erase(name.find_last_not_of(' ') + 1);
  return name;
}

}  // namespace cudamoe::cpu
