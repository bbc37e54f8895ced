/* decode.c walks objects and lists; decode_values.c reads what stands in them. */
#ifndef AERIE_SRC_CONFIG_DECODE_VALUES_H
#define AERIE_SRC_CONFIG_DECODE_VALUES_H

#include "decode.h"

static inline void *field(const struct key *key, void *base)
{
	return (char *)base + key->offset;
}

/* Refuse `node` as not what the key takes; `hint` is put behind. Returns -EINVAL. */
int refuse_value(const struct decode *d, const struct place *at, const struct key *key, const cJSON *node,
		 const char *hint);

/* Read `node` by a key of a type that is no container into the field of `base`. 0, -EINVAL, -ENOMEM. */
int decode_value(const struct decode *d, const struct place *at, const struct key *key, cJSON *node,
		 void *base);

#endif
