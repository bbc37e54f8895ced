/* Rules between keys, that a row cannot say. Each is the `check` of its object in schema.c. */
#ifndef AERIE_SRC_CONFIG_RULES_H
#define AERIE_SRC_CONFIG_RULES_H

#include "decode.h"

int rule_cpus(const struct decode *d, const struct place *at, const cJSON *node, void *fields);
int rule_memory(const struct decode *d, const struct place *at, const cJSON *node, void *fields);
int rule_machine(const struct decode *d, const struct place *at, const cJSON *node, void *fields);

#endif
