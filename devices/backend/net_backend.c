/* What all backends of network devices share. */
#include "net_backend.h"

int net_backend_create(const struct net_config *config, const char *name, struct net_port **ret,
		       struct err *err)
{
	int r = config->backend == NET_TAP ? net_tap_create(config, ret, err)
					   : net_stream_create(config, ret, err);
	if (r == 0)
		(*ret)->name = name;
	return r;
}

void net_backend_start(struct net_port *backend, struct loop *loop, const struct net_backend_user *user,
		       void *owner)
{
	backend->loop = loop;
	backend->user = user;
	backend->owner = owner;
	backend->ops->start(backend);
}

void net_backend_destroy(struct net_port *backend)
{
	if (backend)
		backend->ops->destroy(backend);
}

void net_receive(struct net_port *backend, unsigned queue, struct net_packet *packets, unsigned count)
{
	backend->ops->receive(backend, queue, packets, count);
}

void net_wait(struct net_port *backend, unsigned queue)
{
	backend->ops->wait(backend, queue);
}

void net_send(struct net_port *backend, unsigned queue, struct net_packet *packets, unsigned count)
{
	backend->ops->send(backend, queue, packets, count);
}

void net_halt(struct net_port *backend, unsigned queue, bool out)
{
	backend->ops->halt(backend, queue, out);
}

void net_set_flow(struct net_port *backend, bool on)
{
	if (backend->ops->set_flow)
		backend->ops->set_flow(backend, on);
}

int net_set_offloads(struct net_port *backend, unsigned offloads)
{
	return backend->ops->set_offloads ? backend->ops->set_offloads(backend, offloads) : 0;
}

int net_set_queues(struct net_port *backend, unsigned count)
{
	return backend->ops->set_queues ? backend->ops->set_queues(backend, count) : 0;
}

void net_set_backend_link(struct net_port *backend, bool up)
{
	if (backend->link == up)
		return;
	backend->link = up;
	backend->user->link(backend->owner, up);
}
