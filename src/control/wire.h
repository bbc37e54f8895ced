/* What goes out: one JSON object in ASCII, on one line that ends with CR LF. */
#ifndef AERIE_SRC_CONTROL_WIRE_H
#define AERIE_SRC_CONTROL_WIRE_H

#include <cjson/cJSON.h>
#include <stddef.h>

/* To be freed with free(); *ret_len is without the NUL. NULL when out of memory. Text that is not UTF-8 comes
 * out as U+FFFD, so that a path with odd bytes is still valid JSON. */
char *wire_print(const cJSON *object, size_t *ret_len);

cJSON *wire_greeting(void);
cJSON *wire_version(void);
/* NULL: memory was short; never a part of the message. */
cJSON *wire_error(const char *class, const char *desc);
/* `data` is owned from here, and may be NULL. */
cJSON *wire_event(const char *name, cJSON *data);

#endif
