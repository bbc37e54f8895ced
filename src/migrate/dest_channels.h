/* The destination's further channels. */
#ifndef AERIE_MIGRATE_DEST_CHANNELS_H
#define AERIE_MIGRATE_DEST_CHANNELS_H

#include "dest.h"

int dest_channels_start(struct dest *dest, struct err *err);
/* Until all have seen the end of `round` (0: the first), or one has failed. */
int dest_channels_wait(struct dest *dest, uint32_t round, struct err *err);
/* Takes nothing more from them: what comes after the last round is no page of this migration. */
void dest_channels_end(struct dest *dest);
void dest_channels_stop(struct dest *dest); /* cancels them; closes the connections */

#endif
