/* Parameters, as the room's files share them. */
#ifndef AERIE_MIGRATE_PARAMS_H
#define AERIE_MIGRATE_PARAMS_H

#include "migrate/migrate.h"

/* -EINVAL names the parameter, by its name in QMP, and what would be accepted. */
int migrate_check_params(const struct migrate_params *params, struct err *err);

#endif
