/*
 * vCPU threads and how they are stopped.
 *
 * A thread is asked to park by all->run = false, then run->immediate_exit = 1, then a signal. Wherever it is,
 * it sees that: inside KVM_RUN the signal ends the call; on its way there, immediate_exit ends it at once;
 * handling an exit, it finishes and then meets immediate_exit. KVM completes a pending I/O access before it
 * honours immediate_exit, so a parked vCPU never has half an instruction open (api.rst 5, the note below
 * KVM_EXIT_MMIO).
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "host/kvm.h"
#include "hyperv_vcpu.h"
#include "tsc.h"
#include "vcpu.h"
#include "vcpu_msrs.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* Its only purpose is to make KVM_RUN return. */
static void kick_handler(int signal)
{
	(void)signal;
}

int vcpu_kick_signal(void)
{
	return SIGRTMIN;
}

static void vcpu_kick(struct vcpu *vcpu)
{
	/* Before the signal: the thread may be between its check and KVM_RUN, where the signal alone would be
	 * lost. */
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (vcpu->has_thread)
		(void)pthread_kill(vcpu->thread, vcpu_kick_signal());
}

void vcpus_kick(struct vcpus *vcpus)
{
	atomic_store(&vcpus->run, false);
	for (uint32_t i = 0; i < vcpus->count; i++)
		vcpu_kick(&vcpus->vcpu[i]);
}

/* Wait until the vCPU may run. Returns false when the thread should end. */
static bool vcpu_park(struct vcpu *vcpu)
{
	struct vcpus *all = vcpu->all;
	pthread_mutex_lock(&all->lock);
	vcpu->parked = true;
	pthread_cond_broadcast(&all->changed);
	while (!atomic_load(&all->run) && !all->quit)
		pthread_cond_wait(&all->changed, &all->lock);
	vcpu->parked = false;
	bool go = !all->quit;
	pthread_mutex_unlock(&all->lock);
	return go;
}

/* Run until asked to park. */
static void vcpu_run(struct vcpu *vcpu)
{
	struct vcpus *all = vcpu->all;
	for (;;) {
		enum exit_verdict verdict;
		/* Each time, for a pause that was over before we were here has left immediate_exit behind. */
		int r = vcpu_enter_evmcs(vcpu);
		if (r == 0)
			r = ioctl(vcpu->fd, KVM_RUN, 0) < 0 ? -errno : 0;
		if (r == 0) {
			verdict = vcpu_exit(vcpu, all->bus, &all->events);
		} else if (r == -EINTR || r == -EAGAIN) {
			__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
			if (!atomic_load(&all->run))
				return;
			continue;
		} else {
			verdict = vcpu_run_failed(vcpu, r, &all->events);
		}
		if (verdict == EXIT_PARK) {
			/* The event's receiver kicks all of us; without this the guest would run on until it
			 * has. */
			atomic_store(&all->run, false);
			return;
		}
	}
}

static void *vcpu_thread(void *argument)
{
	struct vcpu *vcpu = argument;
	char name[16];
	atomic_store(&vcpu->thread_id, gettid());
	(void)snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
	(void)pthread_setname_np(pthread_self(), name);
	while (vcpu_park(vcpu))
		vcpu_run(vcpu);
	return NULL;
}

void vcpus_resume(struct vcpus *vcpus)
{
	pthread_mutex_lock(&vcpus->lock);
	atomic_store(&vcpus->run, true);
	pthread_cond_broadcast(&vcpus->changed);
	pthread_mutex_unlock(&vcpus->lock);
}

void vcpus_pause(struct vcpus *vcpus)
{
	vcpus_kick(vcpus);
	pthread_mutex_lock(&vcpus->lock);
	for (uint32_t i = 0; i < vcpus->count; i++)
		while (vcpus->vcpu[i].has_thread && !vcpus->vcpu[i].parked)
			pthread_cond_wait(&vcpus->changed, &vcpus->lock);
	pthread_mutex_unlock(&vcpus->lock);
}

int vcpus_stats(struct vcpus *vcpus, uint32_t index, struct kvm_stats **ret, struct err *err)
{
	if (index >= vcpus->count)
		return err_set(err, -ENOENT, "there is no vCPU %u, only %u of them", index, vcpus->count);
	struct vcpu *vcpu = &vcpus->vcpu[index];
	int r = vcpu->stats ? 0 : kvm_stats_open(vcpu->fd, &vcpu->stats, err);
	*ret = vcpu->stats;
	return r;
}

void vcpus_log_msrs(struct vcpus *vcpus)
{
	msr_filter_log(&vcpus->msrs);
}

uint64_t vcpus_unknown_msr_count(struct vcpus *vcpus)
{
	return msr_filter_count(&vcpus->msrs);
}

uint64_t vcpus_guest_error_count(const struct vcpus *vcpus, uint32_t index)
{
	return index < vcpus->count ? vcpus->vcpu[index].guest_limit.total : 0;
}

pid_t vcpus_thread_id(const struct vcpus *vcpus, uint32_t index)
{
	return index < vcpus->count ? atomic_load(&vcpus->vcpu[index].thread_id) : 0;
}

enum cpu_nested vcpus_nested(const struct vcpus *vcpus)
{
	return vcpus->nested;
}

int vcpus_boot(struct vcpus *vcpus, const struct cpu_boot *boot, struct err *err)
{
	return vcpu_boot(&vcpus->vcpu[0], boot, err);
}

int vcpus_reset(struct vcpus *vcpus, struct err *err)
{
	for (uint32_t i = 0; i < vcpus->count; i++) {
		struct vcpu *vcpu = &vcpus->vcpu[i];
		nested_evmcs_forget(&vcpu->evmcs);
		int r = vcpu_state_leave_nested(&vcpu->power_on, &vcpus->layout, vcpu->fd, err);
		if (r == 0)
			r = vcpu_state_put(&vcpu->power_on, &vcpus->layout, vcpu->fd, err);
		if (r < 0)
			return err_prepend(err, "reset of vCPU %u", i);
	}
	return 0;
}

/* The state that reset puts back. The TSC restarts from 0 for all at once: KVM takes writes of 0 as
 * "synchronize". */
static int vcpu_remember(struct vcpu *vcpu, const struct vcpu_layout *layout, struct err *err)
{
	int r = vcpu_state_init(&vcpu->power_on, layout, err);
	if (r == 0)
		r = vcpu_state_get(&vcpu->power_on, layout, vcpu->fd, err);
	for (uint32_t i = 0; r == 0 && i < layout->msr_count; i++)
		if (vcpu->power_on.msrs[i].index == MSR_IA32_TSC)
			vcpu->power_on.msrs[i].data = 0;
	return r;
}

static int vcpu_create(struct vcpu *vcpu, const struct vcpus_spec *spec, const struct cpu_model *model,
		       struct err *err)
{
	struct vcpus *all = vcpu->all;
	_cleanup_free_ struct cpuid_table *cpuid =
		malloc(sizeof(*cpuid)); /* 10 KiB: too much for the stack */
	if (!cpuid)
		return err_sys(err, -ENOMEM, "CPUID");
	cpuid_for_vcpu(&model->cpuid, spec->cpus, vcpu->index, cpuid);

	int r = kvm_call_value(spec->vm_fd, KVM_CREATE_VCPU, vcpu->apic_id);
	if (r < 0)
		return err_sys(err, r, "KVM_CREATE_VCPU (APIC id %u)", vcpu->apic_id);
	vcpu->fd = r;
	void *run = mmap(NULL, vcpu->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED)
		return err_sys(err, -errno, "mmap of kvm_run");
	vcpu->run = run;
	/* Both before CPUID: they change what it may say, and by what timers are scaled. */
	r = hyperv_vcpu_setup(vcpu->fd, &model->hyperv, err);
	if (r == 0)
		r = tsc_set(spec->vm_fd, vcpu->fd, spec->cpu->tsc_khz, err);
	if (r == 0)
		r = vcpu_setup(vcpu, cpuid, model, err);
	if (r == 0)
		r = hyperv_vcpu_enforce(vcpu->fd, &model->hyperv, err);
	if (r == 0 && vcpu->index == 0)
		r = vcpu_layout_init(&all->layout, spec->kvm_fd, spec->vm_fd, vcpu->fd, err);
	return r < 0 ? r : vcpu_remember(vcpu, &all->layout, err);
}

static int vcpu_start(struct vcpu *vcpu, struct err *err)
{
	int r = pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);
	if (r)
		return err_sys(err, -r, "thread");
	vcpu->has_thread = true;
	return 0;
}

/* What the host's KVM offers and what is made of it; too large for the stack. */
struct offer {
	struct cpu_host host;
	struct cpu_model model;
};

static void log_hyperv(const struct cpu_model *model)
{
	char text[1024];
	hyperv_left_out(&model->hyperv_report, text, sizeof(text));
	if (text[0])
		log_info("Hyper-V without %s", text);
}

/* Everything after the allocation; vcpus_destroy undoes whatever part of it was done. */
static int vcpus_fill(struct vcpus *vcpus, const struct vcpus_spec *spec, struct offer *offer,
		      struct err *err)
{
	const struct sigaction kick = {.sa_handler = kick_handler}; /* no SA_RESTART: KVM_RUN must return */
	int run_bytes = kvm_call_value(spec->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	int r = run_bytes < 0 ? err_sys(err, run_bytes, "KVM_GET_VCPU_MMAP_SIZE") : 0;

	if (r == 0)
		r = cpu_host_read_quick(spec->kvm_fd, &offer->host, err);
	if (r == 0)
		r = cpu_resolve(&offer->host, spec->cpu, spec->nested, &offer->model, NULL, err);
	if (r == 0)
		r = cpuid_check_width(&offer->model.cpuid, spec->ram_end_gpa, err);
	if (r == 0)
		r = msr_filter_enable(&vcpus->msrs, spec->vm_fd, err);
	if (r == 0)
		log_hyperv(&offer->model);
	vcpus->nested = offer->model.nested;
	if (r == 0 && sigaction(vcpu_kick_signal(), &kick, NULL) < 0)
		r = err_sys(err, -errno, "sigaction");
	for (uint32_t i = 0; r == 0 && i < spec->cpus->count; i++) {
		struct vcpu *vcpu = &vcpus->vcpu[i];
		*vcpu = (struct vcpu){.all = vcpus,
				      .index = i,
				      .fd = -1,
				      .run_bytes = (size_t)run_bytes,
				      .msrs = &vcpus->msrs};
		vcpu->apic_id = cpu_apic_id(spec->cpus, i);
		vcpus->count = i + 1;
		r = vcpu_create(vcpu, spec, &offer->model, err);
		if (r < 0)
			return err_prepend(err, "vCPU %u", i);
	}
	for (uint32_t i = 0; r == 0 && i < vcpus->count; i++)
		r = vcpu_start(&vcpus->vcpu[i], err);
	return r;
}

int vcpus_create(const struct vcpus_spec *spec, struct vcpus **ret, struct err *err)
{
	_cleanup_free_ struct offer *offer = calloc(1, sizeof(*offer));
	struct vcpus *vcpus = calloc(1, sizeof(*vcpus) + spec->cpus->count * sizeof(vcpus->vcpu[0]));
	if (!vcpus || !offer) {
		free(vcpus);
		return err_sys(err, -ENOMEM, "vCPUs");
	}
	vcpus->kvm_fd = spec->kvm_fd;
	vcpus->vm_fd = spec->vm_fd;
	vcpus->bus = spec->bus;
	vcpus->memory = spec->memory;
	vcpus->events = spec->events;
	pthread_mutex_init(&vcpus->lock, NULL);
	msr_filter_init(&vcpus->msrs, &spec->cpu->msr);
	pthread_cond_init(&vcpus->changed, NULL);
	int r = vcpus_fill(vcpus, spec, offer, err);
	if (r < 0) {
		vcpus_destroy(vcpus);
		return r;
	}
	*ret = vcpus;
	return 0;
}

void vcpus_destroy(struct vcpus *vcpus)
{
	if (!vcpus)
		return;
	pthread_mutex_lock(&vcpus->lock);
	vcpus->quit = true;
	pthread_cond_broadcast(&vcpus->changed);
	pthread_mutex_unlock(&vcpus->lock);
	for (uint32_t i = 0; i < vcpus->count; i++) {
		struct vcpu *vcpu = &vcpus->vcpu[i];
		if (vcpu->has_thread) {
			vcpus_kick(vcpus);
			(void)pthread_join(vcpu->thread, NULL);
			vcpu->has_thread = false;
		}
	}
	for (uint32_t i = 0; i < vcpus->count; i++) {
		struct vcpu *vcpu = &vcpus->vcpu[i];
		if (vcpu->run)
			(void)munmap(vcpu->run, vcpu->run_bytes);
		kvm_stats_close(vcpu->stats);
		(void)close_fd(vcpu->fd);
		nested_evmcs_forget(&vcpu->evmcs);
		vcpu_state_finish(&vcpu->power_on);
		free(vcpu->cpuid);
	}
	pthread_cond_destroy(&vcpus->changed);
	pthread_mutex_destroy(&vcpus->lock);
	msr_filter_finish(&vcpus->msrs);
	free(vcpus);
}
