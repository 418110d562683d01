#include "nvtx/recorder.h"

#include <nvtx3/nvToolsExt.h>

namespace cudamoe::test {

std::vector<std::string>& nvtx_record() {
  static auto& record = *new std::vector<std::string>;
  return record;
}

namespace {

// A handle is the domain's name.
nvtxDomainHandle_t NVTX_API create_domain(const char* name) { return reinterpret_cast<nvtxDomainHandle_t>(new std::string(name)); }

std::string name_of(nvtxDomainHandle_t domain) { return *reinterpret_cast<const std::string*>(domain); }

int NVTX_API begin_range(nvtxDomainHandle_t domain, const nvtxEventAttributes_t* attributes) {
  const bool text = attributes->version == NVTX_VERSION && attributes->messageType == NVTX_MESSAGE_TYPE_ASCII;
  nvtx_record().push_back("begin " + name_of(domain) + " " + (text ? attributes->message.ascii : "without a name"));
  return 0;
}

int NVTX_API end_range(nvtxDomainHandle_t domain) {
  nvtx_record().push_back("end " + name_of(domain));
  return 0;
}

}  // namespace
}  // namespace cudamoe::test

extern "C" __attribute__((visibility("default"))) int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t export_table) {
  using namespace cudamoe::test;
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(export_table(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable functions = nullptr;
  unsigned int size = 0;
  if (callbacks == nullptr || callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &functions, &size) == 0) return 0;
  *functions[NVTX_CBID_CORE2_DomainCreateA] = reinterpret_cast<NvtxFunctionPointer>(create_domain);
  *functions[NVTX_CBID_CORE2_DomainRangePushEx] = reinterpret_cast<NvtxFunctionPointer>(begin_range);
  *functions[NVTX_CBID_CORE2_DomainRangePop] = reinterpret_cast<NvtxFunctionPointer>(end_range);
  return 1;
}
