/* Is the machine here the one that comes? What the guest can see must be the same, where the host keeps
 * things may differ. */
#ifndef AERIE_MIGRATE_CONFIG_MATCH_H
#define AERIE_MIGRATE_CONFIG_MATCH_H

#include "base/err.h"
#include "config/config.h"

#include <stddef.h>

/* `theirs`: JSON that somebody sent. -EINVAL with a message that names the key and both values. */
int config_match(const struct machine_config *ours, const char *theirs, size_t bytes, struct err *err);

/* Can the files of the disks be opened, as far as that shows while another machine has them? */
int config_check_disks(const struct machine_config *config, struct err *err);

#endif
