/* The destination's further channels: a thread for each. */
#include "dest_channels.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* One message; -errno ends the channel. */
static int take(struct dest_channel *channel, struct err *err)
{
	struct dest *dest = channel->dest;
	struct wire_header header;
	uint32_t round;
	int r = link_receive(&channel->link, &header, err);
	if (r < 0)
		return r;
	if (header.type == WIRE_PAGES)
		return unstage_pages(channel->unstage, channel->link.payload, header.length, err);
	if (header.type != WIRE_ROUND)
		return err_set(err, -EPROTO, "%s on a channel for pages", wire_name(header.type));
	r = wire_decode_number(channel->link.payload, header.length, &round, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&dest->lock);
	if (round != channel->rounds)
		r = err_set(err, -EPROTO, "round %u where %u comes next", round, channel->rounds);
	else
		channel->rounds++;
	pthread_cond_broadcast(&dest->changed);
	pthread_mutex_unlock(&dest->lock);
	return r;
}

static void *channel_thread(void *argument)
{
	struct dest_channel *channel = argument;
	struct dest *dest = channel->dest;
	struct err err = ERR_INIT;
	while (take(channel, &err) == 0)
		continue;
	pthread_mutex_lock(&dest->lock);
	if (dest->err.code == 0)
		dest->err = err;
	pthread_cond_broadcast(&dest->changed);
	pthread_mutex_unlock(&dest->lock);
	return NULL;
}

int dest_channels_start(struct dest *dest, struct err *err)
{
	for (unsigned i = 0; i < dest->channel_count; i++) {
		struct dest_channel *channel = &dest->channels[i];
		char name[24];
		int r = unstage_create(dest->guest->memory, dest->flags & WIRE_F_ZSTD, &channel->unstage,
				       err);
		if (r < 0)
			return r;
		r = -pthread_create(&channel->thread, NULL, channel_thread, channel);
		if (r < 0)
			return err_sys(err, r, "migration channel %u", i + 1);
		channel->has_thread = true;
		(void)snprintf(name, sizeof(name), "incoming%u", i + 1);
		(void)pthread_setname_np(channel->thread, name);
	}
	return 0;
}

static bool have_ended(const struct dest *dest, uint32_t round)
{
	for (unsigned i = 0; i < dest->channel_count; i++)
		if (dest->channels[i].rounds <= round)
			return false;
	return true;
}

/* After the last round the source may close them before the first channel has had its say: no error then. */
int dest_channels_wait(struct dest *dest, uint32_t round, struct err *err)
{
	pthread_mutex_lock(&dest->lock);
	while (!have_ended(dest, round) && dest->err.code == 0)
		pthread_cond_wait(&dest->changed, &dest->lock);
	int r = have_ended(dest, round) ? 0 : err_set(err, dest->err.code, "%s", dest->err.text);
	pthread_mutex_unlock(&dest->lock);
	return r;
}

static void finish(struct dest_channel *channel)
{
	if (channel->has_thread)
		pthread_join(channel->thread, NULL);
	channel->has_thread = false;
	unstage_destroy(channel->unstage);
	channel->unstage = NULL;
	link_close(&channel->link);
}

void dest_channels_end(struct dest *dest)
{
	for (unsigned i = 0; i < dest->channel_count; i++) {
		channel_break(&dest->channels[i].link.channel);
		finish(&dest->channels[i]);
	}
	dest->channel_count = 0;
}

void dest_channels_stop(struct dest *dest)
{
	if (dest->channel_count)
		canceller_fire(&dest->canceller);
	for (unsigned i = 0; i < dest->channel_count; i++)
		finish(&dest->channels[i]);
	dest->channel_count = 0;
}
