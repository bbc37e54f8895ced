/* --set key.path=value: edits the tree before it is decoded, so that the same tables check the result. */
#ifndef AERIE_SRC_CONFIG_OVERRIDE_H
#define AERIE_SRC_CONFIG_OVERRIDE_H

#include "decode.h"

/* Apply d->set[0] to d->set[count - 1], in order. 0, -EINVAL, -ENOMEM. */
int override_all(const struct decode *d, cJSON *root, size_t count);

#endif
