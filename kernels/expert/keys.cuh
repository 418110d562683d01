// The number of a list of chosen experts.
#pragma once

#include "common/first_offender.cuh"
#include "common/kernel.cuh"

namespace cudamoe::kernels {

// Sum over j of digit(chosen[first + j]) * (experts + 1)^j, where numbers that are no expert have the digit `experts` and are noted.
CUDAMOE_DEVICE int32_t list_of_choices(const int32_t* chosen, int64_t first, int32_t digits, int32_t experts, OffenderCell* offender) {
  int32_t key = 0, place = 1;
  for (int32_t j = 0; j < digits; ++j) {
    int32_t expert = load_constant(chosen + first + j);
    if (expert < 0 || expert >= experts) {
      note_offender(offender, first + j);
      expert = experts;
    }
    key += expert * place;
    place *= experts + 1;
  }
  return key;
}

// One thread of each block, after a barrier: the first number that is no expert becomes a report, as that of the pairs from first_pair on.
CUDAMOE_DEVICE void report_choices(const int32_t* chosen, int64_t first_pair, int32_t experts, OffenderCell* offender,
                                   DeviceReport* report) {
  report_offender(offender, report, static_cast<uint32_t>(grid_size_x()), [&](int64_t at) {
    return DeviceReport{ReportCode::kExpertChosen, 0, {first_pair + at, chosen[at], experts}, {}};
  });
}

}  // namespace cudamoe::kernels
