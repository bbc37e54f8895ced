/* From a struct back to JSON, by the same tables that read it. */
#ifndef AERIE_SRC_CONFIG_ENCODE_H
#define AERIE_SRC_CONFIG_ENCODE_H

#include "schema.h"

/* A new tree of every key that has a value; the caller deletes it. Relative paths go behind `folder`, if it
 * is not NULL. NULL when out of memory. */
cJSON *encode_object(const struct object *object, const void *fields, const char *folder);

#endif
