/* What the C compiler made of cudamoe.h. */
#ifndef HEADER_C99_H
#define HEADER_C99_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* sizeof of that struct in C; -1 when the file does not name it. */
int64_t header_c99_size(const char* name);
int32_t header_c99_abi_version(void);

#ifdef __cplusplus
}
#endif

#endif /* HEADER_C99_H */
