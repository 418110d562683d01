#include "cpu/balance/balance.h"

namespace cudamoe::cpu {

void register_balance(Backend& table) {
  table.balance_gram = balance_gram;
  table.balance_gram_workspace = balance_gram_workspace;
  table.balance_factored_gram = balance_factored_gram;
  table.balance_combine = balance_combine;
  table.balance_columns = balance_columns;
  table.balance_columns_workspace = balance_columns_workspace;
  table.balance_scale = balance_scale;
  table.balance_average = balance_average;
}

}  // namespace cudamoe::cpu
