/*
 * A hand-over within one host: RAM's memfd goes over the UNIX socket, nothing is copied (WIRE_F_LOCAL).
 *
 * The descriptor goes while the guest runs, as all that can fail does; having it, the other side looks
 * whether it is what it should be, and touches nothing. It rehearses in RAM of its own. When the guest stands
 * it loads the state onto a private view of RAM (memory/handover.h), so that the source can go on with its
 * RAM untouched until RUN has left; after RUN it maps RAM itself. The source then takes its mapping away: its
 * KVM writes to guest memory even when a vCPU is only closed (a shadow VMCS, the mark that a vCPU does not
 * run).
 *
 * What the guest stands still for does not depend on the size of RAM.
 */
#include "memory/handover.h"
#include "base/log.h"
#include "dest.h"
#include "source.h"

#include <errno.h>

/* ---- the source ---- */

int source_check_local(const struct source *source, struct err *err)
{
	if (source->uri->kind != URI_UNIX && source->uri->kind != URI_FD)
		return err_set(err, -EINVAL,
			       "mode cpr-transfer hands RAM over on this host: it needs a unix: URI");
	if (*source->params.tls_creds)
		return err_set(err, -EINVAL, "mode cpr-transfer: not with TLS; set tls-creds to \"\"");
	if (source->params.zero_copy)
		return err_set(err, -EINVAL,
			       "mode cpr-transfer: no page is sent; set zero-copy-send to false");
	if (source->params.postcopy)
		return err_set(
			err, -EINVAL,
			"mode cpr-transfer: post-copy has no pages to bring; set postcopy-ram to false");
	return handover_check(source->guest->memory, err);
}

int source_check_socket(const struct source *source, struct err *err)
{
	if (!source->link.channel.is_unix)
		return err_set(err, -EINVAL, "mode cpr-transfer: fd:%d is no UNIX socket", source->uri->fd);
	return 0;
}

int source_pass_ram(struct source *source, struct err *err)
{
	const struct guest_region *regions;
	struct wire_header header;
	uint64_t offset;
	(void)guest_memory_regions(source->guest->memory, &regions);
	int r = source_step(source, PROTOCOL_SENDS, WIRE_MEMFD, err);
	if (r == 0)
		r = link_send_number(&source->link, WIRE_MEMFD, 0, err);
	if (r == 0)
		r = channel_send_fd(&source->link.channel,
				    guest_memory_fd(source->guest->memory, regions, &offset), err);
	if (r == 0)
		r = link_expect(&source->link, WIRE_ROUND_DONE, &header, err);
	return r < 0 ? r : source_step(source, PROTOCOL_GETS, WIRE_ROUND_DONE, err);
}

void source_leave_ram(struct source *source)
{
	struct err err = ERR_INIT;
	if (source->params.mode == MIGRATE_MODE_LOCAL && handover_leave(source->guest->memory, &err) < 0)
		log_error(
			"migration: %s; end this process by a signal that it cannot catch (SIGKILL), so that "
			"it touches nothing of what runs elsewhere",
			err.text);
}

/* ---- the destination ---- */

int dest_check_local(const struct dest *dest, struct err *err)
{
	return dest->flags & WIRE_F_LOCAL ? handover_check(dest->guest->memory, err) : 0;
}

int dest_take_memfd(struct dest *dest, const struct wire_header *header, struct err *err)
{
	uint32_t number;
	int fd = -1, r = wire_decode_number(dest->link.payload, header->length, &number, err);
	if (r == 0 && (!(dest->flags & WIRE_F_LOCAL) || number != 0 || dest->has_memfd))
		r = err_set(err, -EPROTO, "MEMFD, which was not agreed upon");
	if (r == 0)
		r = channel_receive_fd(&dest->link.channel, &fd, err);
	if (r == 0)
		r = handover_accept(dest->guest->memory, fd, err);
	dest->has_memfd = r == 0;
	return r;
}

/* STATE has come: the guest stands over there. */
int dest_try_ram(struct dest *dest, struct err *err)
{
	if (!(dest->flags & WIRE_F_LOCAL))
		return 0;
	if (!dest->has_memfd)
		return err_set(err, -EPROTO, "STATE without RAM: MEMFD comes first");
	return handover_try(dest->guest->memory, err);
}

int dest_keep_ram(struct dest *dest, struct err *err)
{
	return dest->flags & WIRE_F_LOCAL ? handover_keep(dest->guest->memory, err) : 0;
}

void dest_settle_ram(struct dest *dest)
{
	if (dest->flags & WIRE_F_LOCAL)
		handover_settle(dest->guest->memory);
}
