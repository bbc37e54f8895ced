/* Rules between keys, that a row cannot say. Each is the `check` of its object in schema.c. */
#ifndef AERIE_SRC_CONFIG_RULES_H
#define AERIE_SRC_CONFIG_RULES_H

#include "decode.h"

int rule_cpus(const struct decode *d, const struct place *at, const cJSON *node, void *fields);
int rule_memory(const struct decode *d, const struct place *at, const cJSON *node, void *fields);
int rule_cpu(const struct decode *d, const struct place *at, const cJSON *node, void *fields);
int rule_hyperv(const struct decode *d, const struct place *at, const cJSON *node, void *fields);
int rule_disk(const struct decode *d, const struct place *at, const cJSON *node, void *fields);
int rule_net(const struct decode *d, const struct place *at, const cJSON *node, void *fields);
int rule_vhost_user(const struct decode *d, const struct place *at, const cJSON *node, void *fields);
/* Between devices, and between a device and the machine. */
int rule_devices(const struct decode *d, const struct place *at, const cJSON *node,
		 const struct machine_config *config);
int rule_machine(const struct decode *d, const struct place *at, const cJSON *node, void *fields);

#endif
